"""One audit record on one line for people: local time, aligned columns, the most telling facts first, colour by outcome."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, tzinfo
from typing import Any

from agent.cli.output import one_line
from agent.core.timestamps import moment_of
from agent.system.columns import columns, cut
from agent.system.local_time import LocalTime
from agent.system.terminal import paint

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EVENT_WIDTH = 18
MOST_NAME_WIDTH = 24
GOOD = frozenset(
    {
        "verified",
        "published",
        "notified",
        "pickup_confirmed",
        "recovered",
        "rotation_ended",
        "old_key_disabled",
        "old_key_deleted",
        "key_adopted",
    }
)
SO_SO = frozenset(
    {
        "drift_repaired", "publish_recovered", "rotation_requested", "rotation_started", "endpoint_token_rotated",
        "key_too_old", "client_key_expires",
    }
)  # fmt: skip
BAD = frozenset(
    {
        "fetch_failed", "verify_failed", "publish_failed", "notify_failed", "notify_gave_up", "config_rejected", "stale",
        "key_restricted",
    }
)  # fmt: skip
REMARKS = frozenset({"agent_started", "recovered"})
"""Events whose `error` is a remark on the log, and no failure."""


class Columns:
    """The layout of the lines of one output."""

    def __init__(self, names: Iterable[str], width: int | None, zone: tzinfo | None = None) -> None:
        """Measure.

        Args:
            names: of the credentials, for the width of their column.
            width: columns of the terminal, at which lines are cut, and where the time has no day; None for no terminal, where
                it has its zone too.
            zone: of the times; None for the local one.
        """
        self._width, self._zone = width, zone
        self._day, self._local = "", LocalTime(EPOCH, zone)
        self._names = min(MOST_NAME_WIDTH, max(map(columns, names), default=0))

    def lines(self, record: dict[str, Any]) -> Iterator[str]:
        """Yield a record as a line; on a terminal before the first one of a day that day, with its zone."""
        line = self.line(record)
        at = moment_of(str(record.get("time", "?")))
        if at is not None and self._width is not None and (day := LocalTime(at, self._zone).date(at)) != self._day:
            self._day, self._local = day, LocalTime(at, self._zone)
            yield paint(f"-- {day}, {self._local.zone}", "dim")
            line = self.line(record)
        yield line

    def line(self, record: dict[str, Any]) -> str:
        """Return a record as a line; whatever a stranger wrote into it, it is one line and drives no terminal."""
        event, name = one_line(str(record.get("event", "?"))), one_line(str(record.get("credential", "")))
        before = f"{record.get('seq', ''):>5}  {self._time(record)}  "
        shown = event.ljust(EVENT_WIDTH)
        rest = f"  {name}{' ' * (self._names - columns(name))}  {'  '.join(facts(record))}".rstrip()
        if self._width is not None:
            room = self._width - columns(before) - columns(shown)
            rest = cut(rest, room) if room > 0 else ""
        return f"{before}{paint(shown, mood(record))}{rest}".rstrip()

    def _time(self, record: dict[str, Any]) -> str:
        told = str(record.get("time", "?"))
        at = moment_of(told)
        if at is None:
            return one_line(told)
        return self._local.clock(at) if self._width is not None else self._local.iso(at)


def mood(record: dict[str, Any]) -> str | None:
    """Return how a record is painted: by its event, and by an error in it."""
    event = str(record.get("event"))
    if event in BAD or (record.get("error") and event not in REMARKS):
        return "bad"
    if event in SO_SO or record.get("error"):
        return "so-so"
    return "good" if event in GOOD else None


def facts(record: dict[str, Any]) -> Iterator[str]:
    """Yield what a record tells besides its event and credential, the most telling first."""
    if "generation" in record:
        yield f"gen {_text(record['generation'])}"
    key, before = _text(record.get("access_key_id", "")), _text(record.get("previous_access_key_id", ""))
    if key or before:
        yield f"{before} -> {key}" if key and before else key or f"replaces {before}"
    for name in ("notified", "outcome", "identity", "error"):
        if name in record:
            yield _text(record[name])
    if record.get("left_behind"):
        yield f"left behind: {_text(record['left_behind'])}"
    if record.get("hosts"):
        yield _hosts(record["hosts"])
    if "reason" in record:
        yield f'"{_text(record["reason"])}"'
    if "actor" in record:
        yield f"by {_text(record['actor'])}"
    sinks = record.get("sinks")
    if isinstance(sinks, list) and sinks:
        yield _text(sinks[0]) + (f" and {len(sinks) - 1} more" if len(sinks) > 1 else "")
    if record.get("event") == "rotation_started" and "version_id" in record:
        yield f"version {_text(record['version_id'])}"
    for name in ("trigger", "expiration", "agent_version"):
        if name in record and (name != "agent_version" or "credential" not in record):
            yield f"{_WORDS.get(name, '')}{_text(record[name])}"
    if "duration_ms" in record:
        yield f"{_text(record['duration_ms'])} ms"


def _hosts(found: Any) -> str:
    """How many other hosts of the fleet proved the new key; those without a time have not, or are not named."""
    rows = [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
    more = sum(one["more"] for one in rows if isinstance(one.get("more"), int))
    moved = sum("at_ms" in one for one in rows)
    return f"{moved} of {sum('host' in one for one in rows)} other hosts moved" + (
        f" ({more} more not named)" if more else ""
    )


_WORDS = {"expiration": "until ", "agent_version": "keyturn "}


def _text(value: Any) -> str:
    if isinstance(value, dict):
        value = next((value[name] for name in ("user", "dependent", "name", "credential") if value.get(name)), "?")
    if isinstance(value, list):
        return ", ".join(_text(each) for each in value)
    return one_line(str(value))
