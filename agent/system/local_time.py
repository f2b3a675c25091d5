"""Times for people, in the zone of whoever runs the command. Programs get RFC 3339 in UTC (agent/core/timestamps.py).

The zone is the C library's: $TZ, else /etc/localtime, else UTC; an unknown $TZ is UTC by that name, as for `date`. Since
abbreviations are ambiguous (CST is Shanghai and Chicago), a zone is named with its offset. One name does not do for a year:
a time of the other half, summer time or not, has its own offset with it.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, tzinfo

from agent.core.timestamps import moment_of

_STAMP = re.compile(r"\b[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?Z")


class LocalTime:
    """The local zone, as one output names it once."""

    def __init__(self, now: datetime, zone: tzinfo | None = None) -> None:
        """Take the zone as it is now.

        Args:
            now: aware.
            zone: None for that of this process.
        """
        self._zone, local = zone, now.astimezone(zone)
        self._offset = local.utcoffset() or timedelta(0)
        self.zone = _named(local)
        """Its name, such as "UTC" or "CST (UTC+08:00)"."""
        self.is_told = False
        """Whether `told` has put a time into a sentence, so that the zone is to be named."""

    def time(self, moment: datetime) -> str:
        """Return a moment to the second, without its zone; with its offset where that is not the one of now."""
        local = self._local(moment)
        text = f"{local:%Y-%m-%d %H:%M:%S}"
        return text if local.utcoffset() == self._offset else f"{text} {_offset(local)}"

    def date(self, moment: datetime) -> str:
        """Return the day of a moment."""
        return f"{self._local(moment):%Y-%m-%d}"

    def clock(self, moment: datetime) -> str:
        """Return what `time` does, without the day."""
        return self.time(moment).partition(" ")[2]

    def zoned(self, moment: datetime) -> str:
        """Return a moment with its zone's offset, for a sentence that stands alone."""
        local = self._local(moment)
        return f"{local:%Y-%m-%d %H:%M:%S} {_offset(local)}"

    def iso(self, moment: datetime) -> str:
        """Return a moment as ISO 8601 with its offset, for a line that is read elsewhere, or by a program after all."""
        return self._local(moment).isoformat(" ", "seconds")

    def told(self, text: str) -> str:
        """Return a sentence in which each RFC 3339 time of UTC has become what `time` returns."""
        return _STAMP.sub(self._replaced, text)

    def _local(self, moment: datetime) -> datetime:
        try:
            return moment.astimezone(self._zone)
        except (OverflowError, OSError):  # a year that the C library does not know
            return moment.astimezone(UTC)

    def _replaced(self, found: re.Match[str]) -> str:
        moment = moment_of(found[0])
        if moment is None:
            return found[0]
        self.is_told = True
        return self.time(moment)


def local_times(text: str) -> str:
    """Return a sentence that stands alone, with each RFC 3339 time of UTC as a local one with its offset."""

    def local(found: re.Match[str]) -> str:
        moment = moment_of(found[0])
        return LocalTime(moment).zoned(moment) if moment is not None else found[0]

    return _STAMP.sub(local, text)


def _offset(local: datetime) -> str:
    offset = local.utcoffset() or timedelta(0)
    if not offset:
        return "UTC"
    sign, minutes = ("-", -offset) if offset < timedelta(0) else ("+", offset)
    hours, rest = divmod(round(minutes.total_seconds() / 60), 60)
    return f"UTC{sign}{hours:02d}:{rest:02d}"


def _named(local: datetime) -> str:
    name, offset = local.tzname() or "", _offset(local)
    is_telling = name.isalpha() and name != "UTC"  # a zone without a name is called "+03"
    return f"{name} ({offset})" if is_telling else offset
