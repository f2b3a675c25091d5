"""Everything that is shown, copied in one go on the engine's thread, and how other threads come by it."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import datetime

from agent.engine.engine import Engine
from agent.metrics.counters import NOTIFICATIONS, REFRESHES, Counters, Durations
from agent.refresh.managed_credential import ManagedCredential

JOB = "glance"


@dataclass(frozen=True, slots=True)
class Row:
    """One credential; instants are seconds since 1970, UTC."""

    name: str
    state: str
    generation: int
    expires_at: float | None
    last_success_at: float | None
    owed: int
    refreshes: tuple[tuple[str, int], ...]
    notifications: tuple[tuple[str, str, int], ...]
    published: tuple[int, ...]
    published_sum_s: float


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the engine said at one moment.

    Attributes:
        taken_at: seconds since 1970, UTC.
        passed: whether the first pass over all credentials has ended.
        awaited: the credentials that it still waits for.
    """

    taken_at: float
    passed: bool
    awaited: tuple[str, ...]
    rows: tuple[Row, ...]


def take(engine: Engine, counts: Counters) -> Snapshot:
    """Copy what there is to see. On the engine's thread, or when it has ended."""
    now = engine.clock.now()
    return Snapshot(
        taken_at=now.timestamp(),
        passed=engine.passed,
        awaited=() if engine.passed else tuple(name for name, desk in engine.desks.items() if not desk.tried),
        rows=tuple(_row(desk.managed, counts, now) for desk in engine.desks.values()),
    )


def _row(managed: ManagedCredential, counts: Counters, now: datetime) -> Row:
    name, state = managed.name, managed.state
    types = dict.fromkeys(notifier.type_name for notifier in managed.notifiers)
    durations = counts.durations.get(name) or Durations()
    return Row(
        name=name,
        state=managed.condition(now),
        generation=state.published.generation,
        expires_at=_seconds(state.published.expiration),
        last_success_at=_seconds(state.last_success_at),
        owed=len(state.debts),
        refreshes=tuple((outcome, counts.refreshes[name, outcome]) for outcome in REFRESHES),
        notifications=tuple(
            (kind, outcome, counts.notifications[name, kind, outcome]) for kind in types for outcome in NOTIFICATIONS
        ),
        published=durations.cumulative(),
        published_sum_s=durations.sum_s,
    )


def _seconds(moment: datetime | None) -> float | None:
    return moment.timestamp() if moment is not None else None


class SnapshotReader:
    """Through which other threads look at the engine. One question is under way at a time; whoever comes joins it."""

    def __init__(self, engine: Engine, counts: Counters) -> None:
        self._engine, self._counts = engine, counts
        self._answered = threading.Condition()
        self._asked = False
        self._answers = 0
        self.last: Snapshot | None = None
        """The newest answer, however old."""

    def look(self, patience_s: float) -> Snapshot | None:
        """Ask the engine; None where its scheduler does not move within `patience_s` seconds."""
        with self._answered:
            if not self._asked:
                self._asked = True
                self._engine.loop.post(self._ask)
            mine = self._answers + 1
            return self.last if self._answered.wait_for(lambda: self._answers >= mine, patience_s) else None

    def _ask(self) -> None:
        self._engine.timers[JOB] = self._answer
        self._engine.scheduler.set(JOB, 0.0)

    def _answer(self) -> None:
        try:
            taken = take(self._engine, self._counts)
        except BaseException:
            with self._answered:
                self._asked = False  # the next one asks anew
            raise
        with self._answered:
            self.last, self._asked = taken, False
            self._answers += 1
            self._answered.notify_all()
