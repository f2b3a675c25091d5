"""How a credential fares: failures, recovery and staleness, each told once, in the audit, the log and the state."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Any

from agent.audit.log import AuditLog
from agent.core import policy
from agent.core.errors import AuditError, KeyturnError
from agent.core.events import Cause, Event, Trigger
from agent.core.observer import NOBODY, Observer
from agent.core.outcome import Outcome
from agent.core.timestamps import rfc3339
from agent.logs.log import describe, log
from agent.refresh.managed_credential import ManagedCredential
from agent.runtime.scheduler import Job, JobKind, Scheduler
from agent.state.store import StateStore
from agent.system.clock import Clock

NOTED_TO_S = 60.0
"""How exactly the time of the last success is known after a restart, at worst."""


class Health:
    """The one that takes note of outcomes and raises the alarm. Belongs to the loop's thread."""

    def __init__(self, scheduler: Scheduler, clock: Clock, audit: AuditLog, states: StateStore) -> None:
        self._scheduler, self._clock = scheduler, clock
        self._audit, self._states = audit, states
        self._observer: Observer = NOBODY
        self._noted: dict[str, datetime] = {}  # the last success of each as it was written last

    def observe(self, observer: Observer) -> None:
        """Have an observer called for each outcome."""
        self._observer = observer

    def succeeded(self, managed: ManagedCredential, cause: Cause, outcome: Outcome) -> bool:
        """Note that the source answered and the sinks hold the answer; return whether failures came before."""
        now = self._clock.now()
        ended = managed.state.health.succeeded(now)
        if ended.from_trouble:
            self._record(Event.RECOVERED, managed, cause, outcome=f"after {ended.failures} failures")
            log.info("recovered", credential=managed.name, failures=ended.failures)
        if ended.from_trouble or self._worth_a_write(managed, ended.previous_success_at, now):
            self._save(managed)
        self._observer.refreshed(managed.name, outcome)
        return bool(ended.failures)

    def failed(self, managed: ManagedCredential, event: Event, error: BaseException, cause: Cause) -> None:
        """Note that a refresh failed; the audit has one record for a run of failures with the same reason."""
        health, text, now = managed.state.health, describe(error), self._clock.now()
        first = health.failed(text, now)
        another_window = health.judged(policy.assess(managed.standing(), now))
        if first or another_window:
            self._say(managed, event, text)
        else:
            log.debug("failed again", credential=managed.name, failures=health.failures)
        if first:
            request_id = error.request_id if isinstance(error, KeyturnError) else ""
            self._record(event, managed, cause, error=text, request_id=request_id or None)
            self._save(managed)
        self._observer.failed(managed.name, str(event))

    def _say(self, managed: ManagedCredential, event: Event, text: str) -> None:
        """Log a failure: a warning for a fetch while there is time, an error when there is none or the new value is bad."""
        window, done = managed.state.health.window, managed.state.published
        calm = window is policy.Window.CALM and event is Event.FETCH_FAILED
        say = log.warning if calm else log.error
        say(
            str(event).replace("_", " "),
            credential=managed.name,
            error=text,
            window=str(window) if done.generation else "none yet",
            expires_at=rfc3339(done.expiration) if done.expiration else None,
        )

    def watch(self, managed: ManagedCredential) -> None:
        """Plan the alarm for when no refresh will have succeeded for too long.

        An alarm that was raised stays raised, over restarts too, until a refresh succeeds; or until its time lies
        ahead again, because the limit was raised or a wrong clock was set right.
        """
        stale_at, health, job = managed.stale_at(), managed.state.health, Job(JobKind.STALE, managed.name)
        left_s = (stale_at - self._clock.now()).total_seconds() if stale_at is not None else 0.0
        if stale_at is None or (health.is_stale and left_s <= 0):
            self._scheduler.clear(job)
            return
        if health.is_stale:
            health.take_back_alarm()
            log.info("not stale any more: the limit lies ahead again", credential=managed.name)
            self._save(managed)
            self._observer.changed()
        self._scheduler.set(job, left_s, partial(self._rang, managed))

    def is_overdue(self, managed: ManagedCredential) -> bool:
        """Return whether no refresh succeeded for too long, by the wall clock."""
        stale_at = managed.stale_at()
        return stale_at is not None and stale_at <= self._clock.now()

    def _rang(self, managed: ManagedCredential) -> None:
        """Raise the alarm, if it is time by the wall clock too.

        Not while a refresh is under way or due, as it is after a start, a suspend or a step: what comes of it decides,
        since the planner sets the alarm anew at its end (agent/engine/planner.py).
        """
        if not self.is_overdue(managed):
            self.watch(managed)
            return
        if managed.next_refresh_at is None or managed.next_refresh_at <= self._clock.boottime():
            return
        health = managed.state.health
        health.raise_alarm()
        text = health.last_error or "no refresh succeeded for too long"
        what = "the value in use is too old" if managed.state.published.generation else "no value was ever published"
        last = health.last_success_at
        log.critical(
            f"stale: {what}", credential=managed.name, last_success_at=rfc3339(last) if last else None, error=text
        )
        self._record(Event.STALE, managed, Cause(Trigger.SCHEDULE), error=text)
        self._save(managed)
        self._observer.changed()

    def _record(self, event: Event, managed: ManagedCredential, cause: Cause, **fields: Any) -> None:
        done = managed.state.published
        try:
            self._audit.record(
                event,
                credential=managed.name,
                generation=done.generation or None,
                access_key_id=done.access_key_id or None,
                **fields,
                **cause.as_fields(),
            )
        except AuditError as error:
            log.error("the audit log cannot be written", error=str(error), audit_event=str(event))

    def _worth_a_write(self, managed: ManagedCredential, previous: datetime | None, now: datetime) -> bool:
        """Return whether the last success on disk is off by a minute or a tenth of the limit: not each poll is worth a write.

        Compared with what was written, since the success before is always one poll old; and in both directions, since
        the wall clock may have been set back.
        """
        noted = self._noted.setdefault(managed.name, previous) if previous is not None else None
        limit_s = float(managed.settings.max_staleness or policy.DEFAULT_MAX_STALENESS_S)
        return noted is None or abs((now - noted).total_seconds()) >= min(NOTED_TO_S, limit_s / 10)

    def _save(self, managed: ManagedCredential) -> None:
        last = managed.state.health.last_success_at
        if last is not None:  # a write that fails counts: a full disk is not said at each poll
            self._noted[managed.name] = last
        try:
            self._states.save(managed.name, managed.state, flush=False)
        except KeyturnError as error:
            log.error("the state cannot be written", credential=managed.name, error=str(error))
