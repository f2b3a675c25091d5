"""The status page: a snapshot as HTML, for people. What /metrics tells, and nothing else: no key id, no path, no error's text.

Decisions:
* No script. The browser asks again by the `Refresh` header, which is no part of the page, so that a saved copy stays as it
  is. Whoever wants to read, select or copy undisturbed pauses it by a link (`/?paused`).
* Times are told as of the page, by the server's clock, since only a script knows the reader's. A page that was not renewed
  for half a minute says so itself, by its style: a host that is gone leaves the old page standing for minutes in a browser.
* Written out rather than by Jinja2, which would be 1.8 MB more in the daemon (docs/performance.md). Each text goes through
  `_text`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from html import escape
from http import HTTPStatus

from agent import __version__
from agent.core.alarms import SEVERE_DAYS, days_before, ends
from agent.core.policy import Condition
from agent.core.spans import span
from agent.core.text import counted, escaped, first_few
from agent.http.message import Reply
from agent.metrics.page_source import (
    FRAME,
    ICON,
    LATE,
    PAUSED,
    PAUSED_LATE,
    POLICY,
    RENEW_S,
    RENEWED,
    SHAPES,
    STYLE,
)
from agent.metrics.snapshot import FleetFigures, Row, Snapshot

MOODS = {
    Condition.FRESH: "good",
    Condition.PENDING: "so-so",
    Condition.FAILING: "so-so",
    Condition.STALE: "bad",
    Condition.EXPIRED: "bad",
}
"""As in `keyturn status`."""
WORST_FIRST = [str(each) for each in reversed(Condition)]
FAILED = (Condition.FAILING, Condition.STALE, Condition.EXPIRED)
COLUMNS = ("Credential", "State", "Last success", "Expires", "Owed", "Generation", "Key age")
NOTHING = '<span class="none">-</span>'
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def page(shown: Snapshot | None, now: datetime, *, is_stuck: bool = False, is_paused: bool = False) -> Reply:
    """Return the page.

    Args:
        shown: what is known; None where nothing is yet.
        now: the time, which ages are told by.
        is_stuck: whether the engine did not answer, so that these figures are those from before.
        is_paused: whether the reader wants the page to stay as it is.
    """
    notices = list(_notices(shown, now, is_stuck=is_stuck))
    rows = sorted(shown.rows, key=_urgency) if shown is not None else []
    fleet = shown.fleet if shown is not None else None
    moods = {mood for mood, _text in notices} | {mood for row in rows for mood, _text in _pills(row, fleet)}
    title = f"{'Old: ' if is_stuck else ''}{summary(rows)}" if shown is not None else "Starting"
    body = "".join(f'<p class="notice {mood}">{text}</p>\n' for mood, text in notices)
    if any(row.state in FAILED for row in rows):
        body += "<p>What failed, and what to do: <code>keyturn status</code> on this host.</p>\n"
    if shown is not None:
        body += _table(rows, fleet, now.timestamp())
    text = _framed(title, next(mood for mood in SHAPES if mood in {*moods, "good"}), body, now, is_paused=is_paused)
    headers = HEADERS if is_paused else {**HEADERS, "Refresh": str(RENEW_S)}
    status = HTTPStatus.OK if shown is not None else HTTPStatus.SERVICE_UNAVAILABLE
    return Reply(status, text.encode(), "text/html; charset=utf-8", headers)


def summary(rows: list[Row]) -> str:
    """Return what a glance at the tab's title has to tell: "1 of 12 failing", the worst first."""
    count, restricted = Counter(row.state for row in rows), sum(row.is_restricted for row in rows)
    first, *others = [each for each in WORST_FIRST if count[each] and each != Condition.FRESH] or [Condition.FRESH]
    leaked = [f"{counted(restricted, 'key')} restricted"] if restricted else []
    return ", ".join([*leaked, f"{count[first]} of {len(rows)} {first}", *(f"{count[each]} {each}" for each in others)])


def _framed(title: str, mood: str, body: str, now: datetime, *, is_paused: bool) -> str:
    shape, sign = SHAPES[mood]
    as_of = f"{now.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
    return FRAME.format(
        title=_text(title),
        icon=ICON.format(shape=shape, sign=sign),
        style=STYLE,
        as_of=as_of,
        renewed=PAUSED if is_paused else RENEWED,
        body=body,
        version=_text(__version__),
        late=(PAUSED_LATE if is_paused else LATE).format(as_of=as_of),
    )


def _notices(shown: Snapshot | None, now: datetime, *, is_stuck: bool) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with the whole: a mood, and a sentence as HTML."""
    if shown is None:
        yield "so-so", "There is nothing to show yet: keyturn puts right what was left by its last run, or is stuck."
        return
    if is_stuck:
        age = span(now.timestamp() - shown.taken_at)
        yield "bad", f"These figures are {age} old: keyturn's scheduler does not move. See its log."
    if shown.config_refused:
        since = span(now.timestamp() - shown.config_loaded_at)
        yield (
            "so-so",
            f"A config was refused; the one of {since} ago stays in force. <code>keyturn status</code> says why.",
        )
    if shown.awaited:
        yield "so-so", f"The first pass waits for {_text(', '.join(first_few(shown.awaited)))}."
    if shown.fleet is not None and not shown.fleet.is_connected:
        yield "so-so", "The fleet's board is away; everything goes on as on one host."
    for key_id, expires_at in sorted(shown.client_keys, key=lambda one: one[1]):
        end = datetime.fromtimestamp(expires_at, UTC)
        if (days := days_before(end, now)) is not None:
            yield "bad" if days <= SEVERE_DAYS else "so-so", f"ClientKey {_text(key_id)} {ends(end, now)}."


def _table(rows: list[Row], fleet: FleetFigures | None, now: float) -> str:
    head = "".join(f'<th scope="col">{name}</th>' for name in COLUMNS)
    body = "".join(_row(row, fleet, now) for row in rows)
    caption = f"{counted(len(rows), 'credential')}, those in trouble first. Owed: dependents that are still to be told."
    return f"<table><caption>{caption}</caption>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody></table>\n"


def _row(row: Row, fleet: FleetFigures | None, now: float) -> str:
    cells = (
        "".join(f'<span class="pill {mood}">{text}</span>' for mood, text in _pills(row, fleet)),
        _when(row.last_success_at, now) if row.last_success_at is not None else "never",
        _when(row.expires_at, now) if row.expires_at is not None else NOTHING,
        f'<span class="pill so-so">{row.owed}</span>' if row.owed else '<span class="none">0</span>',
        str(row.generation),
        _dated(span(now - row.key_made_at), row.key_made_at) if row.key_made_at is not None else NOTHING,
    )
    return f'<tr><th scope="row">{_text(row.name)}</th><td>{"</td><td>".join(cells)}</td></tr>\n'


def _pills(row: Row, fleet: FleetFigures | None) -> Iterator[tuple[str, str]]:
    """Yield the state, then what else is wrong: moods and words."""
    yield MOODS[Condition(row.state)], row.state
    if row.is_restricted:
        yield "bad", "key restricted as leaked"
    if row.is_too_old:
        yield "so-so", "key too old"
    if row.clients[1]:
        yield "so-so", f"{counted(row.clients[1], 'client')} on an older value"
    hosts = fleet.hosts.get(row.name, {}) if fleet is not None else {}
    for state, mood in (("behind", "so-so"), ("absent", "dim")):  # hosts that were scaled in are absent for a day
        if hosts.get(state):
            yield mood, f"{counted(hosts[state], 'host')} {state}"


def _urgency(row: Row) -> tuple[bool, int, bool, bool]:
    """Return what rows are sorted by; those that are alike stay in the order of the config."""
    return not row.is_restricted, WORST_FIRST.index(row.state), not row.is_too_old, not row.owed


def _when(at: float, now: float) -> str:
    return _dated(f"in {span(at - now)}" if at > now else f"{span(now - at)} ago", at)


def _dated(told: str, at: float) -> str:
    """Return a text that shows its date where the pointer rests."""
    return f'<span title="{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC">{told}</span>'


def _text(text: str) -> str:
    """Return a text as HTML: escaped, and what could turn letters around or hide some written out."""
    return escape(escaped(text))
