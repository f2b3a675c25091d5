"""RFC 3339 as keyturn writes it: in UTC, with `Z`."""

from __future__ import annotations

from datetime import UTC, datetime


def rfc3339(moment: datetime) -> str:
    """Write an aware datetime as Alibaba's APIs do: in whole seconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def rfc3339_micros(moment: datetime) -> str:
    """Write an aware datetime in microseconds, so that records of one second keep their order."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
