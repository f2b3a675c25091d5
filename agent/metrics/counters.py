"""What is counted: refreshes, notifications, and how long a publish takes. Belongs to the loop's thread."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import accumulate

from agent.core.events import Event
from agent.core.observer import Observer
from agent.core.outcome import Outcome, Result

REFRESHES = (
    "unchanged",
    "published",
    "repaired",
    *map(str, (Event.FETCH_FAILED, Event.VERIFY_FAILED, Event.PUBLISH_FAILED)),
)
"""The outcomes of a refresh."""
NOTIFICATIONS = ("told", "failed", "gave_up")
"""The outcomes of a try to tell a dependent."""
BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""From the bare transaction (milliseconds) to a key that takes its minute to work everywhere."""


@dataclass
class Durations:
    """A histogram: how many lie between each bound and the one before, those above all bounds last."""

    per_bucket: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))
    sum_s: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one duration."""
        self.per_bucket[bisect_left(BOUNDS_S, seconds)] += 1
        self.sum_s += seconds

    def cumulative(self) -> tuple[int, ...]:
        """Return how many were at most as long as each bound, and at last all of them, as Prometheus wants it."""
        return tuple(accumulate(self.per_bucket))


class Counters(Observer):
    """The counts since the start of the process, by credential."""

    def __init__(self, on_change: Callable[[], None] = lambda: None) -> None:
        self.refreshes: Counter[tuple[str, str]] = Counter()
        self.notifications: Counter[tuple[str, str, str]] = Counter()
        self.durations: dict[str, Durations] = {}
        self.on_change = on_change

    def refreshed(self, credential: str, outcome: Outcome) -> None:
        """Count a refresh that went well. A repair switches files too, but is no publish: it makes no generation."""
        self.refreshes[credential, str(outcome.result)] += 1
        if outcome.result is Result.PUBLISHED:
            self.durations.setdefault(credential, Durations()).add(outcome.publish_s)
        self.on_change()

    def failed(self, credential: str, event: str) -> None:
        """Count a refresh that failed."""
        self.refreshes[credential, event] += 1
        self.on_change()

    def told(self, credential: str, notifier: str, outcome: str) -> None:
        """Count a try to tell a dependent."""
        self.notifications[credential, notifier, outcome] += 1
        self.on_change()

    def changed(self) -> None:
        """Pass on that something else changed."""
        self.on_change()
