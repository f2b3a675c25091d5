"""The other hosts of a fleet, as a record of the audit log or the result of a `rotate` has them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from agent.evidence.emergencies import MAX_MS, number_of, text_of
from agent.evidence.incident import Host


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
