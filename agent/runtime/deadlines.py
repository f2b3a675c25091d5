"""What comes due at an instant of the wall clock, such as an expiry: put on boottime, and checked against the wall clock.

The wall clock decides: what rings too early, because the clock was set back, waits on; and after a step everything is planned
anew (`stepped`). However many deadlines there are, the scheduler, which looks at each of its jobs, has one job for
all. A deadline that moves away (each refresh that succeeds moves the alarm of staleness) leaves that job where it is: it
then rings once for nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from agent.runtime.event_loop import safely
from agent.runtime.scheduler import Job, JobKind, Scheduler
from agent.system.clock import Clock

Act = Callable[[], None]
_JOB = Job(JobKind.DEADLINE, None)


class Deadlines:
    """Deadlines by the wall clock. Belongs to the loop's thread."""

    def __init__(self, scheduler: Scheduler, clock: Clock) -> None:
        self._scheduler, self._clock = scheduler, clock
        self._set: dict[Job, tuple[datetime, Act]] = {}
        self._planned_for: datetime | None = None

    def set(self, job: Job, at: datetime, act: Act) -> None:
        """Have `act` called once it is `at`, instead of whatever was set for this job before."""
        self._set[job] = at, act
        if self._planned_for is None or at < self._planned_for:
            self._plan(at)

    def clear(self, job: Job) -> None:
        """Forget a job."""
        self._set.pop(job, None)

    def stepped(self) -> None:
        """Plan anew after the wall clock was set."""
        earliest = min((at for at, _act in self._set.values()), default=None)
        if earliest is not None:
            self._plan(earliest)

    def _plan(self, at: datetime) -> None:
        self._planned_for = at
        self._scheduler.set(_JOB, (at - self._clock.now()).total_seconds(), self._ring)

    def _ring(self) -> None:
        self._planned_for = None
        now = self._clock.now()
        for job, (at, act) in list(self._set.items()):
            if at <= now:
                del self._set[job]
                safely(act)
        self.stepped()
