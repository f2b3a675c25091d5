"""The looks that all HTML pages of keyturn share: colours for light and dark, letters, notices, pills.

A page's policy allows its style by the hash of the whole, so that each page has one `<style>` with this at its beginning.
"""

BASE = """
:root { color-scheme: light dark;
  --ground: #fff; --raised: #f4f6f8; --text: #1b2127; --faint: #59636e; --line: #d4dae0;
  --good: #146c3c; --good-ground: #e0f3e7; --bad: #b3221c; --bad-ground: #fde7e5; --so-so: #835400; --so-so-ground: #fdf0d2;
  --span: #4a78b5; }
@media (prefers-color-scheme: dark) { :root {
  --ground: #14181c; --raised: #1e242a; --text: #e3e8ed; --faint: #9aa5b0; --line: #37414b;
  --good: #6fd398; --good-ground: #14321f; --bad: #ff938a; --bad-ground: #441b18; --so-so: #f0c25e; --so-so-ground: #3a2c0a;
  --span: #79a6e0; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 75rem; padding: 1.5rem; background: var(--ground); color: var(--text);
  font: 1rem/1.5 system-ui, "Segoe UI", Roboto, "Noto Sans", "Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei", sans-serif;
  overflow-wrap: anywhere; }
h1 { margin: 0; font-size: 1.75rem; line-height: 1.2; }
.notice { margin: 1rem 0; padding: .75rem 1rem; border: 1px solid var(--line); border-left: .4rem solid var(--faint);
  border-radius: .25rem; background: var(--raised); }
.notice strong { display: block; }
.notice ul { margin: .5rem 0 0; padding-left: 1.25rem; }
.notice.bad { border-color: var(--bad); background: var(--bad-ground); }
.notice.bad strong { color: var(--bad); font-size: 1.15rem; }
.notice.good { border-left-color: var(--good); background: var(--good-ground); }
.notice.so-so { border-left-color: var(--so-so); background: var(--so-so-ground); }
.pill { display: inline-block; padding: 0 .5em; border-radius: 1em; background: var(--raised);
  font-size: .9em; font-weight: 600; white-space: nowrap; }
td .pill { white-space: normal; }
h2 .pill { font-size: .8rem; vertical-align: middle; }
.pill.good { color: var(--good); background: var(--good-ground); }
.pill.bad { color: var(--bad); background: var(--bad-ground); }
.pill.so-so { color: var(--so-so); background: var(--so-so-ground); }
.pill.dim { color: var(--faint); font-weight: 400; }
.pill.good::before { content: "\\2713\\a0"; } .pill.bad::before { content: "\\2717\\a0"; }
.pill.so-so::before { content: "!\\a0"; }
"""
