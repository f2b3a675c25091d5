"""The fields of an audit record as values: whatever stands there, what is none of its kind is left out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from agent.core.timestamps import moment_of
from agent.evidence.incident import LeftBehind, Record, Step

MAX_MS = 10**11
"""Three years: no step of an emergency takes longer."""
_YEARS = range(2020, 9000)


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


def time_of(record: Mapping[str, Any]) -> datetime | None:
    """Return when a record was written; None where it does not say, or names a time at which there was no keyturn."""
    found = moment_of(text_of(record, "time"))
    return found if found is not None and found.year in _YEARS else None


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


def _ms(record: Mapping[str, Any], name: str) -> int:
    found = number_of(record, name) or 0
    return found if 0 <= found < MAX_MS else 0


def left_behind_of(found: Any) -> tuple[tuple[LeftBehind, ...], int]:
    """Return who was left behind as a record or a result has it, and how many more it had no room for."""
    objects = list(_objects(found if isinstance(found, list | tuple) else ()))
    named = tuple(
        LeftBehind(text_of(one, "credential"), text_of(one, "dependent"), text_of(one, "reason"), text_of(one, "move"))
        for one in objects
        if "more" not in one
    )
    return named, sum(number_of(one, "more") or 0 for one in objects)


def _objects(found: Iterable[Any]) -> Iterator[Mapping[str, Any]]:
    return (one for one in found if isinstance(one, Mapping))


def in_short(record: Mapping[str, Any]) -> Record:
    """Return what a table says of a record: what came of it, and the key or version that it names."""
    named = [text_of(record, name) for name in ("credential", "access_key_id", "version_id", "outcome", "error")]
    generation, request = number_of(record, "generation"), text_of(record, "request_id")
    told = [*named[:1], f"generation {generation}" if generation is not None else "", *named[1:]]
    told.append(f"request {request}" if request else "")
    return Record(record["seq"], time_of(record), str(record.get("event")), ", ".join(filter(None, told)))
