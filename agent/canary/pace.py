"""How often the canary looks, and has a refused credential refreshed: pure functions. Why so: agent/canary/__init__.py."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

CALM_S = 60.0
CALM_JITTER = 0.1
HURRIED_S = 1.0
HURRIED_AT_LEAST = timedelta(minutes=1)
"""How long a new key is watched each second, however soon everybody has it."""
HURRIED_AT_MOST = timedelta(minutes=10)
"""And how long at most. KMS lets the key before it live for up to two days, of which nobody tells keyturn."""
LEAK_S = 600.0
"""Seconds between two questions whether a key is restricted as leaked."""
UNANSWERED_S = 5.0
"""The shortest pause after a look that STS did not answer."""
TICK_S = 1.0
PER_TICK = 25
"""Looks that begin within one tick, over all credentials: a thousand of them, each once a minute, are 17."""
REFRESH_S = 10.0
REFRESH_CAP_S = 60.0


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the newest generation of a credential has come.

    Attributes:
        published_at: when it was published; None where none was.
        is_spread: whether everybody has it, as far as is known.
        in_emergency: whether a `rotate` is under way.
    """

    published_at: datetime | None
    is_spread: bool
    in_emergency: bool


def is_hurried(progress: Progress, now: datetime) -> bool:
    """Return whether to look each second: while a `rotate` runs, and from a publish until everybody has the new key.

    An age below zero, of a wall clock that was set back, is none to hurry for.
    """
    if progress.in_emergency:
        return True
    if progress.published_at is None:
        return False
    age = now - progress.published_at
    return timedelta(0) <= age < (HURRIED_AT_LEAST if progress.is_spread else HURRIED_AT_MOST)


def pause_s(progress: Progress, now: datetime, chance: float) -> float:
    """Return the seconds until the next look; `chance` is in [0, 1)."""
    if is_hurried(progress, now):
        return HURRIED_S
    return CALM_S * (1 + CALM_JITTER * (2 * chance - 1))


def refresh_pause_s(refreshes: int) -> float:
    """Return the seconds in which a refused key leads to no other refresh, after so many in a row."""
    return min(REFRESH_CAP_S, REFRESH_S * 2.0 ** min(refreshes - 1, 8))
