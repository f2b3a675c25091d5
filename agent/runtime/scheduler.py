"""`schedule` as the timer: it only collects what is due, and no step of the wall clock misleads it.

The library reads naive local time, so a wall clock set back an hour, or the end of summer time, stops it
for an hour (measured with schedule 1.2.2: 59 minutes without a run). Here every job's instant is kept on
CLOCK_BOOTTIME, which never steps and counts suspended time; `schedule` is asked when the earliest has come, and each job
that is due is first put to where its instant lies on the local clock of that moment, the others to never. Another trap of the
library, that a job which raises starves those behind it, is avoided: all that a job does is to note that it is due.

All jobs are one-shot and set anew after each run: docs/adr/0002.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

import schedule

NEVER = float("inf")
STEP_S = 1.0
"""A wall clock that moved this much against boottime was stepped rather than slewed."""


class JobKind(StrEnum):
    """The kinds of what is planned."""

    REFRESH = "refresh"
    """Of a credential: its next refresh."""
    RETRY = "retry"
    """Of a credential: a refresh that somebody waits for, once more."""
    OVERRUN = "overrun"
    """Of a credential: the deadline of the call under way."""
    STALE = "stale"
    """Of a credential: the alarm that it was not refreshed for too long."""
    TOO_OLD = "too old"
    """Of a credential: the alarm about its key's age."""
    CLIENT_KEY = "client key"
    """Of a ClientKey: the next alarm about its end."""
    DEADLINE = "deadline"
    """Of nobody: the earliest of the deadlines by the wall clock (agent/runtime/deadlines.py)."""
    TELL = "tell"
    """Of a dependent: the next try."""
    EVERY = "every"
    """Of a function: its next call."""
    CALL = "call"
    """Of a function: called once."""


FIRST = frozenset({JobKind.EVERY, JobKind.CALL})
"""What comes before everything else that is due: the watchdog, and who asks whether the scheduler moves."""


@dataclass(frozen=True, slots=True)
class Job:
    """One thing that is planned; two jobs of the same kind and subject are the same."""

    kind: JobKind
    subject: Hashable


Act = Callable[[], None]


class Scheduler:
    """The jobs that are planned, and when each comes due. Not thread-safe: it belongs to the loop's thread."""

    def __init__(self, boottime: Callable[[], float]) -> None:
        self._boottime = boottime
        self._schedule = schedule.Scheduler()
        self._due_first: dict[Job, Act] = {}
        self._due: dict[Job, Act] = {}
        self._at: dict[Job, float] = {}
        self._planned: dict[Job, schedule.Job] = {}
        self._acts: dict[Job, Act] = {}
        self._earliest: float | None = None  # of what is planned; None where that must be looked for
        self._wall_minus_boot = _wall() - boottime()

    def set(self, job: Job, delay_s: float, act: Act) -> None:
        """Have `act` come due in `delay_s` seconds, instead of whatever was set for this job before."""
        self._forget_due(job)
        at = self._boottime() + max(0.0, delay_s)
        if job not in self._planned:
            planned = self._schedule.every(1).seconds.do(self._ring, job)
            planned.next_run = datetime.max
            self._planned[job] = planned
        elif self._at[job] == self._earliest:
            self._earliest = None
        if self._earliest is not None:
            self._earliest = min(self._earliest, at)
        self._at[job], self._acts[job] = at, act

    def clear(self, job: Job) -> None:
        """Forget a job, also one that is due and was not taken."""
        self._forget_due(job)
        if self._at.pop(job, None) == self._earliest:
            self._earliest = None
        self._acts.pop(job, None)
        if job in self._planned:
            # Not by its tag: `schedule` would look at each tag of each job, at a thousand credentials for milliseconds.
            self._schedule.cancel_job(self._planned.pop(job))

    def at(self, job: Job) -> float | None:
        """Return the boottime instant at which a job comes due, or came and was not taken; None where nothing is set."""
        return self._at.get(job)

    def next_at(self) -> float | None:
        """Return the boottime instant of the earliest job; None where nothing is planned."""
        return min(self._at.values(), default=None)

    def collect(self) -> None:
        """See what is due now. It is handed out by `take`, each job once, the earliest first."""
        boot = self._boottime()
        if self._earliest is None:
            self._earliest = min((self._at[job] for job in self._planned), default=NEVER)
        if self._earliest > boot:
            return  # asked only where something is due: it looks at every job
        local = datetime.now()
        for job, planned in self._planned.items():
            if self._at[job] <= boot:
                planned.next_run = local + timedelta(seconds=self._at[job] - boot)
        self._schedule.run_pending()

    def take(self) -> Act | None:
        """Take out and return what is due: the `FIRST` kinds, then the earliest; None where nothing is."""
        for due in (self._due_first, self._due):
            if due:
                job = next(iter(due))
                del self._at[job]
                return due.pop(job)
        return None

    def clock_step(self) -> float:
        """Return the seconds that the wall clock was stepped since the last look, forwards positive; 0.0 for none."""
        difference = _wall() - self._boottime()
        step = difference - self._wall_minus_boot
        self._wall_minus_boot = difference
        return step if abs(step) >= STEP_S else 0.0

    def _forget_due(self, job: Job) -> None:
        self._due_first.pop(job, None)
        self._due.pop(job, None)

    def _ring(self, job: Job) -> type[schedule.CancelJob]:
        del self._planned[job]
        self._earliest = None
        due = self._due_first if job.kind in FIRST else self._due
        due[job] = self._acts.pop(job)
        return schedule.CancelJob


def _wall() -> float:
    return datetime.now().astimezone().timestamp()
