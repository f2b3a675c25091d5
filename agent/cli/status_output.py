"""What `status` prints for people: a glance, a line for each credential, the worst first, and a line that sums it up.

On a terminal a row fits its width (columns are left out, the least telling first), what is wrong stands wrapped below its row,
and where not all rows fit the screen, those with which nothing is wrong are counted instead. In a pipe nothing is left out
and nothing wrapped, so that `grep` and `less` have it all.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from agent.cli.output import MOODS, one_line
from agent.cli.status_details import all_of, moment, wrong_with
from agent.core.alarms import ends
from agent.core.spans import span, until
from agent.core.text import counted, first_few
from agent.system.columns import columns, cut, padded, wrapped
from agent.system.local_time import LocalTime
from agent.system.terminal import paint

WORST_FIRST = ("expired", "stale", "failing", "pending", "fresh")
ORDER = (
    "credential", "state", "source", "files", "told", "refreshed", "next", "expires", "gen", "access key", "published", "verified",
)  # fmt: skip
BY_WORTH = (
    "credential", "state", "refreshed", "next", "told", "files", "source", "expires", "access key", "gen", "published", "verified",
)  # fmt: skip
"""The columns, the most telling first: as many are shown as the terminal is wide."""
GAP = 2
LEAST_NAME = 16


class Screen(NamedTuple):
    """Where it is shown: columns and lines of a terminal; None for both in a pipe."""

    width: int | None = None
    height: int | None = None


PIPE = Screen()


class Row(NamedTuple):
    """A credential as it is shown: a cell for each column, and the texts below them."""

    state: str
    cells: Mapping[str, str]
    below: Sequence[str]
    is_quiet: bool

    def lines(self, width: int | None) -> list[str]:
        """Return the texts below it."""
        return [line for text in self.below for line in wrapped(text, width, "      ", "    ")]


def status_lines(
    whole: dict[str, Any], now: datetime, screen: Screen = PIPE, names: Collection[str] = ()
) -> Iterator[str]:
    """Yield what `status` shows.

    Args:
        whole: the object of `status --json`.
        now: for what is told relative to it.
        screen: where it is shown.
        names: of the credentials that were asked for, of which all that is known is said; none: all, what is wrong with them.
    """
    local = LocalTime(now)
    heading = [one_line(local.told(line)) for line in _heading(whole["agent"], now)]
    top = [line for each in heading for line in wrapped(each, screen.width, "  ", "")]
    chosen = {name: one for name, one in whole["credentials"].items() if not names or name in names}
    rows = [_row(name, one, now, local, is_whole=bool(names)) for name, one in chosen.items()]
    rows.sort(key=lambda row: (_rank(row.state), row.is_quiet))
    summary = _summary(chosen, whole["agent"], now) + (f"; times in {local.zone}" if local.is_told else "")
    last = wrapped(summary, screen.width, "  ", "")
    shown, quiet = _fitting(rows, screen, taken=len(top) + len(last) + 1)
    yield from top
    if shown:
        yield from _table(shown, screen.width)
    if quiet:
        yield one_line(f"... and {quiet} more fresh ones: `keyturn status | less` shows all")
    mood = MOODS.get(rows[0].state) if rows else None
    yield from (paint(line, mood) for line in last)


def alarms_of(one: dict[str, Any]) -> Iterator[str]:
    """Yield the words of `--fail-if` that are true of a credential (agent/cli/options/operate.py)."""
    yield one["state"]
    if any(told["owed"] for told in one["notify"]):
        yield "owed"
    if any(sink["in_sync"] is False for sink in one["sinks"]):
        yield "differs"
    kinds = {alarm["alarm"] for alarm in one.get("alarms", ())}  # an older daemon does not say
    yield from (word for kind, word in (("key_too_old", "old"), ("key_restricted", "restricted")) if kind in kinds)
    if any(who["pickup"] != "confirmed" for who in one.get("clients") or ()):
        yield "behind"


def _heading(agent: dict[str, Any], now: datetime) -> Iterator[str]:
    running = "not running; from the state on disk"
    if agent["pid"]:
        started = moment(agent["started_at"])
        running = f"pid {agent['pid']}, started {until(started, now) if started else agent['started_at']}"
    yield f"keyturn {agent['version']}, {running}, {agent['config']}"
    for problem in agent.get("config_problems", ()):  # an older daemon does not say
        yield f"config refused at {agent['config_refused_at']}, the old one stays: {problem}"
    for key in agent.get("client_keys", ()):  # likewise
        if key["is_alarm"]:
            yield _client_key(key, now)
    if (fleet := agent.get("fleet")) is not None and not fleet["connected"]:
        for_s = f" for {span(fleet['down_for_s'])}" if fleet.get("down_for_s") is not None else ""
        why = fleet["error"] or "not connected yet"
        yield f"the fleet's board is away{for_s}: {why}; everything else goes on as on one host"


def _client_key(key: dict[str, Any], now: datetime) -> str:
    users, at = ", ".join(first_few(key["credentials"])), moment(key["expires_at"])
    when = f"{ends(at, now) if at else 'expires'} ({key['expires_at']})"
    return f"ClientKey {key['key_id']} {when}: {key['path']}, which signs for {users}"


def _row(name: str, one: dict[str, Any], now: datetime, local: LocalTime, *, is_whole: bool) -> Row:
    sinks, notify = one["sinks"], one["notify"]
    cells = {
        "credential": name,
        "state": one["state"],
        "source": one.get("provider") or "-",
        "files": _of(sum(sink["in_sync"] is not False for sink in sinks), len(sinks)),
        "told": _of(sum(not told["owed"] for told in notify), len(notify)),
        "refreshed": _until(one.get("last_success_at"), now),
        "next": _until(one["next_refresh_at"], now),
        "expires": _until(one["expires_at"], now),
        "gen": str(one["generation"]),
        "access key": one["access_key_id"] or "-",
        "published": _until(one["published_at"], now),
        "verified": "yes" if one["verified"] else "no",
    }
    wrong = list(wrong_with(one))
    below = [*all_of(one), *wrong] if is_whole else wrong
    shown = {title: one_line(cell) for title, cell in cells.items()}
    is_quiet = one["state"] == "fresh" and not wrong
    return Row(one["state"], shown, [one_line(local.told(text)) for text in below], is_quiet)


def _of(good: int, count: int) -> str:
    return "-" if not count else str(count) if good == count else f"{good}/{count}"


def _until(text: str | None, now: datetime) -> str:
    at = moment(text)
    return until(at, now) if at else "-"


def _rank(state: str) -> int:
    return WORST_FIRST.index(state) if state in WORST_FIRST else 0  # a newer daemon may know more of them


def _fitting(rows: Sequence[Row], screen: Screen, taken: int) -> tuple[Sequence[Row], int]:
    """Return the rows to show, and of how many quiet ones only the number: they are the last ones."""
    if screen.height is None:
        return rows, 0
    left = screen.height - taken - sum(1 + len(row.lines(screen.width)) for row in rows if not row.is_quiet)
    quiet = sum(row.is_quiet for row in rows)
    if quiet <= left:
        return rows, 0
    hidden = quiet - max(0, left - 1)  # a line says how many
    return [row for row in rows if not row.is_quiet] + [row for row in rows if row.is_quiet][: quiet - hidden], hidden


def _table(rows: Sequence[Row], width: int | None) -> Iterator[str]:
    widths = {title: max(columns(title), *(columns(row.cells[title]) for row in rows)) for title in ORDER}
    shown = _chosen(rows, widths, width)
    yield paint("  ".join(padded(title, widths[title]) for title in shown).rstrip(), "strong")
    for row in rows:
        cells = {title: padded(cut(row.cells[title], widths[title]), widths[title]) for title in shown}
        if "state" in cells:
            cells["state"] = paint(cells["state"], MOODS.get(row.state))
        yield "  ".join(cells.values()).rstrip()
        yield from row.lines(width)


def _chosen(rows: Sequence[Row], widths: dict[str, int], width: int | None) -> list[str]:
    """Return the columns to show, in their order; the one of the names is made narrower first."""
    telling = [title for title in BY_WORTH if any(row.cells[title] != "-" for row in rows) or title in BY_WORTH[:4]]
    if width is None:
        return [title for title in ORDER if title in telling]
    widths["credential"] = min(widths["credential"], max(LEAST_NAME, width // 4))
    left, chosen = width + GAP, set()
    for title in telling:
        left -= widths[title] + GAP
        if left < 0:
            break
        chosen.add(title)
    return [title for title in ORDER if title in chosen]


def _summary(chosen: Mapping[str, dict[str, Any]], agent: dict[str, Any], now: datetime) -> str:
    """Return how many there are of each state, the worst first, and what else is wrong; when all is well, what comes next."""
    states = [one["state"] for one in chosen.values()]
    known = sorted(set(states), key=_rank)
    parts = [", ".join(f"{states.count(state)} {state}" for state in known)]
    owed = sum(told["owed"] for one in chosen.values() for told in one["notify"])
    differ = sum(sink["in_sync"] is False for one in chosen.values() for sink in one["sinks"])
    alarms = sum(len(one.get("alarms", ())) for one in chosen.values())
    parts += [f"{counted(owed, 'dependent')} to be told"] if owed else []
    parts += [f"{counted(differ, 'file')} changed by others"] if differ else []
    parts += [counted(alarms, "alarm") + " about keys"] if alarms else []
    due = [at for one in chosen.values() if (at := moment(one["next_refresh_at"])) is not None]
    if due and agent["pid"]:
        parts.append(f"next refresh {until(min(due), now)}")
    rotations = [moment((one.get("rotation") or {}).get("next_at")) for one in chosen.values()]
    if next_ones := [at for at in rotations if at is not None]:
        parts.append(f"next rotation {until(min(next_ones), now)}")
    return one_line(f"{counted(len(chosen), 'credential')}: {'; '.join(parts)}" if chosen else "no credentials")
