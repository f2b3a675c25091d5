"""When each credential is refreshed: the policy's answers, put on the scheduler. Belongs to the loop's thread.

Instants are kept on CLOCK_BOOTTIME, so neither a suspend nor a wall clock that is set moves a plan. An expiry is a
wall clock's instant, though, so after a step each session is planned anew, and the earlier of the two plans holds:
which of the two readings of the clock was the wrong one cannot be known, and to renew too early costs nothing. A
session that the step shows to be overdue is renewed within seconds; and whatever fails is tried again within seconds
of a step, for the services refuse every signature of a clock that is wrong by more than 15 minutes, and somebody
has just set it. The rules, and why there is jitter: docs/adr/0008.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from functools import partial

from agent.core import policy
from agent.engine.attempts import RefreshSlot
from agent.engine.health import Health
from agent.refresh.managed_credential import ManagedCredential
from agent.runtime.scheduler import Job, JobKind, Scheduler
from agent.system.clock import Clock

AFTER_STEP_S = 2.0


class RefreshPlanner:
    """The plan of when each credential is refreshed next."""

    def __init__(self, scheduler: Scheduler, clock: Clock, health: Health, due: Callable[[str], None]) -> None:
        """Keep what it plans with; nothing is planned yet.

        Args:
            due: called with the name of a credential whose refresh is due.
        """
        self._scheduler, self._clock, self._health, self._due = scheduler, clock, health, due

    def begin(self, slot: RefreshSlot) -> bool:
        """Plan the first refresh after a start; return False where it is due at once.

        At once too where the staleness limit has passed, for the machine may just have been off: nobody has asked yet.
        """
        delay_s = slot.managed.first_refresh_s(self._clock.now(), random.random())
        if self._health.is_overdue(slot.managed):
            delay_s = 0.0
        if delay_s > 0:
            self._plan(slot.managed, self._clock.boottime() + delay_s)
        return delay_s > 0

    def plan(self, managed: ManagedCredential) -> None:
        """Plan the refresh after one that has just ended."""
        self._plan(managed, self._clock.boottime() + self._delay_s(managed))

    def clear(self, managed: ManagedCredential) -> None:
        """Plan nothing: a refresh is under way, or the credential is gone."""
        self._scheduler.clear(Job(JobKind.REFRESH, managed.name))
        managed.planned(None)

    def no_later_than(self, managed: ManagedCredential, delay_s: float) -> None:
        """Move a planned refresh forward, so that it comes within so many seconds."""
        planned = managed.next_refresh_at
        if planned is not None:
            self._plan(managed, min(planned, self._clock.boottime() + delay_s))

    def stepped(self, slots: Iterable[RefreshSlot]) -> None:
        """Plan anew after the wall clock was set."""
        everyone = [slot.managed for slot in slots]
        self._health.stepped(everyone)
        for managed in everyone:
            if self._health.is_overdue(managed) and not managed.state.health.failures:  # nobody has asked yet
                self.no_later_than(managed, 0.0)
            elif policy.assess(managed.standing(), self._clock.now()) is not policy.Window.FRESH:  # failed, or overdue
                self.no_later_than(managed, AFTER_STEP_S * random.random())
            elif managed.state.published.expiration is not None:
                self.no_later_than(managed, self._delay_s(managed))

    def _delay_s(self, managed: ManagedCredential) -> float:
        return policy.next_refresh(managed.standing(), self._clock.now(), random.random())

    def _plan(self, managed: ManagedCredential, at: float) -> None:
        job = Job(JobKind.REFRESH, managed.name)
        self._scheduler.set(job, at - self._clock.boottime(), partial(self._due, managed.name))
        managed.planned(self._scheduler.at(job))
        self._health.watch(managed)
