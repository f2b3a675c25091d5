"""The style, the policy and the frame of the status page."""

import base64
import hashlib

from agent.core.page_style import BASE

RENEW_S = 10
"""Seconds after which a browser asks for the page again."""

STYLE = (
    BASE
    + """
p, .notice { max-width: 60rem; }
.subtitle, footer, caption, thead th, .none { color: var(--faint); }
.subtitle { margin: .5rem 0 1rem; }
a { color: inherit; }
code { font-family: ui-monospace, "Cascadia Mono", Menlo, "DejaVu Sans Mono", monospace; font-size: .9em;
  white-space: nowrap; }
table { border-collapse: collapse; width: 100%; margin: 1rem 0; font-size: .9rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding: .25rem 0; }
th, td { padding: .35rem .75rem .35rem 0; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
th { font-weight: 600; }
thead th { overflow-wrap: normal; }
tbody th { unicode-bidi: isolate; min-width: 8rem; }
td .pill { margin-right: .35rem; }
footer { margin-top: 2rem; padding-top: .75rem; border-top: 1px solid var(--line); font-size: .85rem; }
.late { position: fixed; inset: auto 0 0 0; margin: 0; padding: .75rem 1.5rem; max-width: none; font-weight: 600;
  color: var(--bad); background: var(--bad-ground); border-top: 2px solid var(--bad);
  visibility: hidden; animation: late 0s 30s forwards; }
@keyframes late { to { visibility: visible; } }
@media screen and (max-width: 45rem) {
  body { padding: 1rem; } h1 { font-size: 1.4rem; }
  table, tbody { display: block; } thead { display: none; } caption { display: block; }
  tbody tr { display: flex; flex-wrap: wrap; gap: 0 1.25rem; margin: 0 0 .75rem; padding: .5rem .75rem;
    border: 1px solid var(--line); border-radius: .25rem; }
  tbody th, td { padding: .1rem 0; border: 0; min-width: 0; } td:has(> .none) { display: none; }
  tbody th { flex: 1 1 50%; } td:nth-child(2) { flex: 0 1 auto; } td:nth-child(3) { flex-basis: 100%; }
  td::before { color: var(--faint); }
  td:nth-child(3)::before { content: "Last success "; } td:nth-child(4)::before { content: "Expires "; }
  td:nth-child(5)::before { content: "Owed "; } td:nth-child(6)::before { content: "Generation "; }
  td:nth-child(7)::before { content: "Key age "; }
}
@media print { .late { display: none; } }
"""
)

POLICY = "; ".join((
    "default-src 'none'",
    f"style-src 'sha256-{base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}'",
    "img-src data:",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
))  # fmt: skip
"""What a browser may do with the page: show it, in this very style. The one image is the tab's icon, which is in the page."""

ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E{shape}"
    "%3Cpath d='{sign}' fill='none' stroke='%23fff' stroke-width='2'/%3E%3C/svg%3E"
)
SHAPES = {
    "bad": ("%3Crect width='16' height='16' fill='%23b3221c'/%3E", "M4 4l8 8M12 4l-8 8"),
    "so-so": ("%3Cpath d='M8 0l8 16H0z' fill='%23a86c00'/%3E", "M8 6v5M8 12v2"),
    "good": ("%3Ccircle cx='8' cy='8' r='8' fill='%23146c3c'/%3E", "M4 8l3 3 5-6"),
}
"""The tab's icon for each mood, the worst first: another shape, for who sees no colour."""

FRAME = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="robots" content="noindex">
<title>{title} - keyturn</title>
<link rel="icon" href="{icon}">
<style>{style}</style>
</head>
<body>
<header><h1>{title}</h1>
<p class="subtitle">As of {as_of} UTC, {renewed}</p></header>
<main>
{body}</main>
<footer><p>keyturn {version}. For programs: <a href="metrics">metrics</a>, <a href="livez">livez</a>,
<a href="readyz">readyz</a>.</p></footer>
<p class="late">{late}</p>
</body>
</html>
"""
RENEWED = f'renewed every {RENEW_S} s. <a href="./?paused">Pause</a>'
PAUSED = 'paused. <a href="./">Go on</a>'
LATE = "Not renewed since {as_of} UTC: keyturn does not answer, or this page was asleep."
PAUSED_LATE = "Paused since {as_of} UTC."
