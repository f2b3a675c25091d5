"""The fields of a record, or of the result of a `rotate`. Whoever can write the log can put anything into one.

So no field is taken for granted: what is not of its type counts as not recorded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from agent.core.timestamps import moment_of
from agent.evidence.incident import Host, LeftBehind, Record, Step

NOT_RECORDED = "not recorded"
"""What documents say in the place of a field that is not there."""
Asker = tuple[str, str, str]
"""Uid, pid and reason, by which the records of one `rotate` are told from those of another."""
REASON = 500
"""Characters of a reason that count: the end of a `rotate` has it cut."""
YEARS = range(1970, 9000)
"""Of a time that is believed: with others, sums with a time overflow."""
MAX_MS = 10**11
"""Three years: no step of an emergency takes longer."""


def text_of(record: Mapping[str, Any], name: str) -> str:
    """Return a field that is a text; "" where it is none."""
    found = record.get(name)
    return found if isinstance(found, str) else ""


def texts_of(record: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """Return a field that is a list of texts; none where it is none."""
    found = record.get(name)
    return tuple(one for one in found if isinstance(one, str)) if isinstance(found, list) else ()


def number_of(record: Mapping[str, Any], name: str) -> int | None:
    """Return a field that is a whole number; None where it is none."""
    found = record.get(name)
    return found if type(found) is int else None


def time_of(record: Mapping[str, Any], name: str = "time") -> datetime | None:
    """Return a field that is a time, by default when the record was written; None where it is none, or not believed."""
    found = moment_of(text_of(record, name))
    return found if found is not None and found.year in YEARS else None


def asker_of(record: Mapping[str, Any]) -> Asker:
    """Return who asked for what a record tells of."""
    actor = record.get("actor")
    known = actor if isinstance(actor, Mapping) else {}
    return str(known.get("uid")), str(known.get("pid")), text_of(record, "reason")[:REASON]


def steps_of(found: Any) -> tuple[Step, ...] | None:
    """Return the steps that a record or a result has; None where it has none."""
    if not isinstance(found, list | tuple):
        return None
    return tuple(
        Step(
            text_of(one, "name"),
            text_of(one, "outcome"),
            _ms(one, "ms"),
            _ms(one, "at_ms"),
            text_of(one, "detail"),
        )
        for one in _objects(found)
    )


def left_behind_of(found: Any) -> tuple[tuple[LeftBehind, ...], int]:
    """Return who was left behind as a record or a result has it, and how many more it had no room for."""
    objects = list(_objects(found if isinstance(found, list | tuple) else ()))
    named = tuple(
        LeftBehind(text_of(one, "credential"), text_of(one, "dependent"), text_of(one, "reason"), text_of(one, "move"))
        for one in objects
        if "more" not in one
    )
    return named, sum(number_of(one, "more") or 0 for one in objects)


def in_short(record: Mapping[str, Any]) -> Record:
    """Return what a table says of a record: what came of it, and the key or version that it names."""
    named = [text_of(record, name) for name in ("credential", "access_key_id", "version_id", "outcome", "error")]
    generation, request = number_of(record, "generation"), text_of(record, "request_id")
    told = [*named[:1], f"generation {generation}" if generation is not None else "", *named[1:]]
    told.append(f"request {request}" if request else "")
    return Record(record["seq"], time_of(record), str(record.get("event")), ", ".join(filter(None, told)))


def _ms(record: Mapping[str, Any], name: str) -> int:
    found = number_of(record, name) or 0
    return found if 0 <= found < MAX_MS else 0


def _objects(found: Iterable[Any]) -> Iterator[Mapping[str, Any]]:
    return (one for one in found if isinstance(one, Mapping))


def hosts_of(found: Any, began_at: datetime) -> tuple[tuple[Host, ...] | None, int]:
    """Return the hosts that a record or a result of `rotate` has, and how many more it had no room for.

    Args:
        found: what stands there; anything, for whoever can write the log can write it.
        began_at: when the command came.
    """
    if not isinstance(found, list | tuple):
        return None, 0
    objects = [one for one in found if isinstance(one, Mapping)]
    named = tuple(_host(one, began_at) for one in objects if "more" not in one)
    return named, sum(number_of(one, "more") or 0 for one in objects)


def _host(one: Mapping[str, Any], began_at: datetime) -> Host:
    at_ms = number_of(one, "at_ms")
    if at_ms is not None and 0 <= at_ms < MAX_MS:
        return Host(text_of(one, "host"), began_at + timedelta(milliseconds=at_ms))
    return Host(text_of(one, "host"), None, text_of(one, "state"), text_of(one, "why"))
