"""`schedule` as the metronome: it only enqueues what is due, and cannot be fooled by the clock.

The library reads naive local time, so a wall clock set back an hour, or the end of summer time, stops it
for an hour (measured with schedule 1.2.2: 59 minutes without a run). Here every job's instant is kept on
CLOCK_BOOTTIME, which never steps and counts suspended time; whenever `schedule` is asked, each job is
first put to where its instant lies on the local clock of that moment. Another trap of the library, that a
raising job starves those behind it, cannot be met: the only thing a job does is to append a name to a list.

Decision: one-shot jobs, set anew after each run. The interval between two runs depends on what came of
the last one (policy.py), so a fixed interval would be a lie.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import schedule

STEP_S = 1.0
"""A wall clock that moved this much against boottime was stepped rather than slewed."""


class Scheduler:
    """When to wake up, and for what. Not thread-safe: it belongs to the engine's loop."""

    def __init__(self, boottime: Callable[[], float]) -> None:
        self._boottime = boottime
        self._jobs = schedule.Scheduler()
        self._due: list[str] = []
        self._at: dict[str, float] = {}
        self._planned: dict[str, schedule.Job] = {}
        self._wall_minus_boot = _wall() - boottime()

    def set(self, name: str, delay_s: float) -> None:
        """Have `name` come due in `delay_s` seconds, whatever was set for it before."""
        if name not in self._at:
            self._planned[name] = self._jobs.every(1).seconds.do(self._ring, name).tag(name)
        self._at[name] = self._boottime() + max(0.0, delay_s)

    def clear(self, name: str) -> None:
        """Forget `name`."""
        if self._at.pop(name, None) is not None:
            # Not by its tag: `schedule` would look at each tag of each job, at a thousand credentials for milliseconds.
            self._jobs.cancel_job(self._planned.pop(name))

    def at(self, name: str) -> float | None:
        """The boottime instant at which `name` comes due; None where nothing is set."""
        return self._at.get(name)

    def next_at(self) -> float | None:
        """The boottime instant of the earliest job; None where nothing is due ever."""
        return min(self._at.values(), default=None)

    def collect(self) -> list[str]:
        """Return what is due now, each name once, the earliest first."""
        local, boot = datetime.now(), self._boottime()
        for job in self._jobs.jobs:
            (name,) = job.tags
            job.next_run = local + timedelta(seconds=self._at[str(name)] - boot)
        self._jobs.run_pending()
        due, self._due = self._due, []
        return due

    def clock_step(self) -> float:
        """Seconds that the wall clock was stepped since the last look, forwards positive; 0.0 for none."""
        difference = _wall() - self._boottime()
        step = difference - self._wall_minus_boot
        self._wall_minus_boot = difference
        return step if abs(step) >= STEP_S else 0.0

    def _ring(self, name: str) -> type[schedule.CancelJob]:
        del self._at[name], self._planned[name]
        self._due.append(name)
        return schedule.CancelJob


def _wall() -> float:
    return datetime.now().astimezone().timestamp()
