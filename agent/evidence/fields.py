"""The fields of a record, for which nobody vouches: a log that was edited is told of, too. What is not of its type is not there."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from agent.core.timestamps import moment_of

Record = Mapping[str, Any]

Asker = tuple[str, str, str]
"""Uid, pid and reason, by which the records of one `rotate` are told from those of another."""
REASON = 500
"""Characters of a reason that count: the end of a `rotate` has it cut."""
YEARS = range(1970, 9000)
"""A time beyond these is no time: with the first and the last ones nothing can be counted, no quarter and no span."""


def text_of(record: Record, name: str) -> str:
    """Return a field that is a text; "" where it is none."""
    found = record.get(name)
    return found if isinstance(found, str) else ""


def texts_of(record: Record, name: str) -> tuple[str, ...]:
    """Return a field that is a list of texts; none where it is none."""
    found = record.get(name)
    return tuple(one for one in found if isinstance(one, str)) if isinstance(found, list) else ()


def number_of(record: Record, name: str) -> int | None:
    """Return a field that is a whole number; None where it is none."""
    found = record.get(name)
    return found if type(found) is int else None


def time_of(record: Record, name: str = "time") -> datetime | None:
    """Return a field that is a time, by default when the record was written; None where it is none."""
    found = moment_of(text_of(record, name))
    return found if found is not None and found.year in YEARS else None


def asker_of(record: Record) -> Asker:
    """Return who asked for what a record tells of."""
    actor = record.get("actor")
    known = actor if isinstance(actor, Mapping) else {}
    return str(known.get("uid")), str(known.get("pid")), text_of(record, "reason")[:REASON]
