"""RFC 3339: written in UTC with `Z`, read with any zone."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_TIME = re.compile(
    r"(?P<minute>[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2})"
    r"(?::(?P<second>[0-9]{2})(?P<fraction>[.,][0-9]+)?)?(?P<zone>Z|[+-][0-9]{2}:?[0-9]{2})"
)


def rfc3339(moment: datetime) -> str:
    """Write an aware datetime as Alibaba's APIs do: in whole seconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def rfc3339_micros(moment: datetime) -> str:
    """Write an aware datetime in microseconds, so that records of one second keep their order."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def moment_of(text: str) -> datetime | None:
    """Read an RFC 3339 time with its zone, as UTC; None for anything else.

    RFC 3339, 5.6 and 5.7: `t` and `z` may be lower case, and a leap second is `:60`. Python knows neither, and reads much
    that is no time; a leap second is taken for the second after it, as a POSIX clock counts.
    """
    match = _TIME.fullmatch(text.strip().upper())
    if match is None:
        return None
    is_leap = match["second"] == "60"
    second = "59" if is_leap else match["second"] or "00"
    try:
        found = datetime.fromisoformat(f"{match['minute']}:{second}{match['fraction'] or ''}{match['zone']}")
        moment = found.astimezone(UTC)
        if not is_leap:
            return moment
        is_last = (moment.hour, moment.minute) == (23, 59)  # nowhere else is one put in
        return moment.replace(microsecond=0) + timedelta(seconds=1) if is_last else None
    except (ValueError, OverflowError):
        return None
