"""When a key is to be replaced: its age, a window of the day in a named time zone, and a spot in it that differs by host."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

EARLIER = 0.1
"""The largest part of `every` by which a rotation comes early, so that those of a fleet do not come at once."""
EARLIER_AT_MOST = timedelta(days=1)
DAYS = 4
"""How many days are looked through for a window: one is missing where the clocks jump over it."""

_WINDOW = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])-([01][0-9]|2[0-3]):([0-5][0-9])")


@dataclass(frozen=True, slots=True)
class Window:
    """Hours of the day in a time zone; `ends` before `begins` means the next day."""

    begins: time
    ends: time
    zone: ZoneInfo

    def around(self, moment: datetime) -> list[tuple[datetime, datetime]]:
        """Return the windows of the day before `moment` and of those after it, as UTC; without those that a clock change skips."""
        first = moment.astimezone(self.zone).date() - timedelta(days=1)
        found = []
        for number in range(DAYS):
            day = first + timedelta(days=number)
            last = day if self.begins < self.ends else day + timedelta(days=1)
            begins = datetime.combine(day, self.begins, self.zone).astimezone(UTC)
            ends = datetime.combine(last, self.ends, self.zone).astimezone(UTC)
            if begins < ends:
                found.append((begins, ends))
        return found


def window_fault(between: str, time_zone: str) -> tuple[str, str] | None:
    """Return what is wrong with a window, as (key, sentence); None where it can be used."""
    if not between:
        return ("time_zone", "is the zone of `between`, which is missing") if time_zone else None
    match = _WINDOW.fullmatch(between)
    if match is None or match.group(1, 2) == match.group(3, 4):
        return "between", 'want two times of the day, such as "02:00-05:00"'
    if not time_zone:
        return "time_zone", 'is missing; name the zone of `between`, such as "Asia/Shanghai" or "UTC"'
    try:
        _zone(time_zone)
    except (ValueError, OSError, KeyError):  # ZoneInfoNotFoundError is a KeyError; a directory is an OSError
        return "time_zone", 'is no time zone of this machine, want a name such as "Asia/Shanghai" (package tzdata)'
    return None


def window_of(between: str, time_zone: str) -> Window | None:
    """Return the window of a config that `window_fault` finds nothing wrong with; None for any time of the day."""
    match = _WINDOW.fullmatch(between)
    if match is None:
        return None
    begins, ends = time(int(match[1]), int(match[2])), time(int(match[3]), int(match[4]))
    return Window(begins, ends, _zone(time_zone))


def next_rotation(since: datetime, every: timedelta, window: Window | None, seed: str, now: datetime) -> datetime:
    """Return when the key that was published at `since` is to be replaced; not after `now` where that is due.

    One that should have been replaced while the agent was stopped is due at once, or where the next window begins. The same
    arguments always give the same moment, over restarts as well.

    Args:
        every: the age.
        window: the hours in which it may begin; None for any.
        seed: what differs by host and credential.
    """
    chance = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8]) / 2.0**64
    due = since + every - chance * min(every * EARLIER, EARLIER_AT_MOST)
    if window is None:
        return due
    for begins, ends in window.around(due):
        spot = begins + chance * (ends - begins)
        if spot >= due and now < ends:
            return spot
    for begins, ends in window.around(now):
        if now < ends and ends > due:
            return max(begins, due)
    return now + timedelta(days=1)


def _zone(name: str) -> ZoneInfo:
    from zoneinfo import ZoneInfo  # half a megabyte, for those alone who name a time zone

    return ZoneInfo(name)
