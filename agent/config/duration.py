"""Durations as a config and the options of commands write them."""

from __future__ import annotations

import re

from agent.config.unfit import Unfit
from agent.core.scalars import Duration

A_DURATION = 'a duration in quotes with a unit, like "30s"'

MAX_DURATION_S = 3650 * 86400
"""Ten years: far more than anybody wants, and far from what would overflow a date."""

_DURATION = re.compile(
    r"(?:(?P<d>[0-9]{1,9})d)?(?:(?P<h>[0-9]{1,9})h)?(?:(?P<m>[0-9]{1,9})m)?"
    r"(?:(?P<s>[0-9]{1,9})s)?(?:(?P<ms>[0-9]{1,9})ms)?"
)
_UNIT_MS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}


class Malformed(Unfit):
    """A value is not written as its type demands. The text does not say yet what was found."""


def duration(text: str) -> Duration:
    """Parse "500ms", "30s", "15m", "12h", "2d", and as in Go "1h30m", the larger unit first.

    Raises:
        Unfit: it is no duration, or one of more than ten years.
    """
    match = _DURATION.fullmatch(text)
    if match is None or not text:
        raise Malformed(f"want {A_DURATION}")
    total_ms = sum(int(number) * _UNIT_MS[unit] for unit, number in match.groupdict(default="0").items())
    if total_ms > MAX_DURATION_S * 1000:
        raise Malformed('want at most "3650d"')
    return Duration(total_ms / 1000)
