"""The style and the template of `page`. The policy in the page allows this very style, by its hash, and nothing else.

A style attribute would not pass that policy: what is drawn gets its place from SVG's own attributes, in percent.
"""

from agent.core.page_style import BASE

STYLE = (
    BASE
    + """
h2 { margin: 2.5rem 0 .75rem; padding-top: .75rem; border-top: 1px solid var(--line); font-size: 1.3rem; line-height: 1.3; }
h3 { margin: 1.5rem 0 .5rem; font-size: 1.05rem; line-height: 1.3; }
p { margin: .5rem 0; max-width: 50rem; }
.subtitle, footer, caption, .detail, dt { color: var(--faint); }
code, pre, .id { font-family: ui-monospace, "Cascadia Mono", Menlo, "DejaVu Sans Mono", monospace; font-size: .9em; }
dl { display: grid; grid-template-columns: minmax(7rem, max-content) 1fr; gap: .2rem 1.25rem; margin: .75rem 0; }
dt, dd { margin: 0; } dd > div { min-height: 1.5em; }
.wide { overflow-x: auto; margin: .75rem 0; }
.short { white-space: nowrap; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
caption { text-align: left; padding: .25rem 0; }
th, td { padding: .35rem .75rem .35rem 0; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
.word { white-space: nowrap; }
th { font-weight: 600; overflow-wrap: normal; }
ol.steps { margin: .75rem 0 .75rem .5rem; padding: 0 0 0 1rem; list-style: none; border-left: 2px solid var(--line); }
ol.steps li { position: relative; margin: .5rem 0; }
ol.steps li::before { content: ""; position: absolute; left: calc(-1rem - .4rem - 1px); top: .4rem; width: .8rem; height: .8rem;
  border-radius: 50%; border: 2px solid var(--ground); background: var(--faint); }
ol.steps li.good::before { background: var(--good); } ol.steps li.bad::before { background: var(--bad); }
ol.steps li.so-so::before { background: var(--so-so); }
ol.steps .at { color: var(--faint); font-variant-numeric: tabular-nums; margin-right: .5rem; }
pre { margin: .75rem 0; padding: .75rem; background: var(--raised); border: 1px solid var(--line); border-radius: .25rem;
  white-space: pre-wrap; }
svg.timeline { display: block; width: 100%; height: 68px; margin: .75rem 0; overflow: visible; }
svg text { fill: var(--faint); font-size: 12px; }
.axis, .tick { stroke: var(--line); stroke-width: 1; }
.span { fill: var(--span); opacity: .75; stroke: var(--ground); stroke-width: 2; }
.mark { fill: var(--text); stroke: var(--ground); stroke-width: 1.5; }
.span.bad { fill: var(--bad); } .span.so-so { fill: var(--so-so); } .span.good { fill: var(--good); }
.span.dim { fill: var(--line); }
.mark.bad { fill: var(--bad); } .mark.so-so { fill: var(--so-so); } .mark.good { fill: var(--good); }
ul.legend { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; margin: .75rem 0; padding: 0; list-style: none; font-size: .9rem; }
ul.legend svg { width: 18px; height: 14px; vertical-align: middle; margin-right: .35rem; overflow: visible; }
footer { margin-top: 2.5rem; padding-top: .75rem; border-top: 1px solid var(--line); font-size: .85rem; }
@media screen and (max-width: 45rem) {
  body { padding: 1rem; }
  dl { display: block; } dd { margin: 0 0 .6rem; } td:has(> div:empty) { display: none; }
  table, tbody, tr, td { display: block; } thead { display: none; }
  caption { display: block; }
  tr { margin: 0 0 1rem; padding: .5rem .75rem; border: 1px solid var(--line); border-radius: .25rem; }
  td { padding: .2rem 0; border: 0; display: grid; grid-template-columns: 8rem 1fr; gap: .5rem; }
  td::before { content: attr(data-column); color: var(--faint); }
  td:empty { display: none; }
  .minor { display: none; } .word { white-space: normal; }
}
@media print {
  :root { color-scheme: light; --ground: #fff; --raised: #f4f6f8; --text: #000; --faint: #444; --line: #aaa;
    --good: #146c3c; --good-ground: #e0f3e7; --bad: #b3221c; --bad-ground: #fde7e5; --so-so: #835400; --so-so-ground: #fdf0d2;
    --span: #4a78b5; }
  @page { size: A4; margin: 14mm; }
  body { max-width: none; padding: 0; font-size: 9.5pt; print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  table { font-size: 8pt; }
  h2, h3 { break-after: avoid; } tr, dl, .notice, svg, ol.steps li { break-inside: avoid; } thead { display: table-header-group; }
  .wide { overflow: visible; } pre { break-before: avoid; break-inside: avoid; }
}
"""
)

TEMPLATE = """\
{%- macro one(item) -%}
{% if item is string %}
{% for word in item.split(" ") %}
{{ " " if not loop.first }}{% if 10 < word | length < 32 %}<span class="word">{{ word }}</span>{% else %}{{ word }}{% endif %}
{% endfor %}
{% else %}<span class="pill {{ item.mood }}">{{ item.text }}</span>{% endif %}
{%- endmacro %}
{%- macro cell(value) -%}
{% set items = value | cells %}
{% if items | length == 1 %}{{ one(items[0]) }}{% else %}
{% for item in items %}<div>{{ one(item) }}</div>{% endfor %}
{% endif %}
{%- endmacro %}
{%- macro shape(name, mood) -%}
{% if name == "dot" %}<circle class="mark {{ mood }}" r="5"/>
{%- elif name == "square" %}<rect class="mark {{ mood }}" x="-5" y="-5" width="10" height="10"/>
{%- elif name == "cross" %}<path class="mark {{ mood }}" d="M-6-3-3-6 0-3 3-6 6-3 3 0 6 3 3 6 0 3-3 6-6 3-3 0z"/>
{%- elif name == "diamond" %}<path class="mark {{ mood }}" d="M0-8 8 0 0 8-8 0z"/>
{%- else %}<rect class="span {{ mood }}" x="-8" y="-6" width="16" height="12"/>{% endif %}
{%- endmacro %}
{%- macro block(it, level) -%}
{% if it.kind == "notice" %}
<div class="notice {{ it.mood }}" role="note"><strong>{{ it.text }}</strong>
{% if it.details %}<ul>{% for line in it.details %}<li>{{ line }}</li>{% endfor %}</ul>{% endif %}
</div>
{% elif it.kind == "paragraph" %}
<p>{{ it.text }}</p>
{% elif it.kind == "facts" %}
<dl>{% for name, value in it.pairs %}<dt>{{ name }}</dt><dd>{{ cell(value) }}</dd>
{% endfor %}</dl>
{% elif it.kind == "table" %}
<div class="wide"><table>{% if it.caption %}<caption>{{ it.caption }}</caption>{% endif %}
<thead><tr>{% for name in it.head %}<th scope="col">{{ name }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in it.rows %}
<tr>{% for value in row %}<td data-column="{{ it.head[loop.index0] }}">
<div class="{{ "short" if value is string and value | length < 16 else "long" }}">{{ cell(value) }}</div></td>{% endfor %}</tr>
{% endfor %}
</tbody></table></div>
{% elif it.kind == "steps" %}
<ol class="steps">
{% for step in it.steps %}
<li class="{{ step.mood }}"><span class="at">{{ step.at }}</span> {{ step.text }}
{% if step.detail %}<div class="detail">{{ step.detail }}</div>{% endif %}</li>
{% endfor %}
</ol>
{% elif it.kind == "commands" %}
<pre>{% for line in it.text.split("\\n") %}{{ line }}{% if not loop.last %}

{% endif %}{% endfor %}</pre>
{% elif it.kind == "timeline" %}
<svg class="timeline" role="img" aria-label="{{ it.text }}">
<line class="axis" x1="0" x2="100%" y1="44" y2="44"/>
{% for span in it.spans %}
<rect class="span {{ span.mood }}" x="{{ span.begin }}%" y="16" width="{{ span.end - span.begin }}%" height="18" rx="3">
<title>{{ span.text }}</title></rect>
{% endfor %}
{% for at, label in it.ticks %}
<line class="tick" x1="{{ at }}%" x2="{{ at }}%" y1="10" y2="48"/>
<text class="{{ "minor" if loop.index0 % 3 else "" }}" x="{{ at }}%" y="62"
 text-anchor="{{ "end" if at > 97 else "start" if at < 3 else "middle" }}">{{ label }}</text>
{% endfor %}
{% for mark in it.marks %}
<svg x="{{ mark.at }}%" y="25" overflow="visible"><g><title>{{ mark.text }}</title>{{ shape(mark.shape, mark.mood) }}</g></svg>
{% endfor %}
</svg>
{% elif it.kind == "legend" %}
<ul class="legend">
{% for name, mood, text in it.entries %}
<li><svg viewBox="-9 -7 18 14" aria-hidden="true">{{ shape(name, mood) }}</svg>{{ text }}</li>
{% endfor %}
</ul>
{% elif it.kind == "section" %}
<section><h{{ level }}>{{ it.title }}{% if it.remark %} {{ one(it.remark) }}{% endif %}</h{{ level }}>
{% for inner in it.blocks %}
{{ block(inner, 3) }}
{% endfor %}
</section>
{% endif %}
{%- endmacro -%}
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'sha256-{{ style_hash }}'; base-uri 'none'; form-action 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<meta name="color-scheme" content="light dark">
<meta name="robots" content="noindex">
<title>{{ page.title }}</title>
<style>{{ style | safe }}</style>
</head>
<body>
<header><h1>{{ page.title }}</h1><p class="subtitle">{{ page.subtitle }}</p></header>
<main>
{% for it in page.blocks %}
{{ block(it, 2) }}
{% endfor %}
</main>
<footer>{% for line in page.footer %}<p>{{ line }}</p>{% endfor %}</footer>
</body>
</html>
"""
