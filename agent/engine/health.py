"""How a credential fares: failures, recovery, staleness and what its keys alarm of, each told once, in audit, log and state."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from functools import partial
from typing import Any

from agent.audit.log import AuditLog
from agent.core import policy
from agent.core.errors import KeyturnError
from agent.core.events import Cause, Event, Trigger
from agent.core.observer import NOBODY, Observer
from agent.core.outcome import Outcome
from agent.core.timestamps import rfc3339
from agent.engine.client_key_alarms import ClientKeyAlarms, ClientKeySnapshot
from agent.engine.key_alarms import KeyAlarms
from agent.engine.notes import Notes
from agent.logs.log import describe, log
from agent.refresh.managed_credential import ManagedCredential
from agent.runtime.deadlines import Deadlines
from agent.runtime.scheduler import Job, JobKind, Scheduler
from agent.state.alarm_record import Seen
from agent.state.client_key_book import ClientKeyBook
from agent.state.store import StateStore
from agent.system.clock import Clock

NOTED_TO_S = 60.0
"""How exactly the time of the last success is known after a restart, at worst."""


class Health:
    """The one that takes note of outcomes and raises the alarm. Belongs to the loop's thread."""

    def __init__(
        self,
        scheduler: Scheduler,
        clock: Clock,
        audit: AuditLog,
        states: StateStore,
        everyone: Callable[[], Iterable[ManagedCredential]],
    ) -> None:
        self._clock, self._deadlines, self._notes = clock, Deadlines(scheduler, clock), Notes(audit, states)
        self._observer: Observer = NOBODY
        self._keys = KeyAlarms(self._deadlines, clock, self._notes, everyone, self._changed)
        book = ClientKeyBook(states.directory)
        self._client_keys = ClientKeyAlarms(self._deadlines, clock, self._notes, book, self._changed)
        self._noted: dict[str, datetime] = {}  # the last success of each as it was written last

    @property
    def keys(self) -> KeyAlarms:
        """The alarms about keys that are too old, or restricted."""
        return self._keys

    def client_keys(self) -> tuple[ClientKeySnapshot, ...]:
        """Return the ClientKeys that are in use."""
        return self._client_keys.snapshot()

    def _changed(self) -> None:
        self._observer.changed()

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
        self._keys.answered(managed, Seen.SOURCE)
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
        if isinstance(error, KeyturnError) and error.restricted_key:
            self._keys.restricted(managed.name, error.restricted_key, text, cause, Seen.SOURCE)
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
        """Plan the alarms: after a start, a refresh, a step of the clock."""
        self._watch_staleness(managed)
        self._keys.watch(managed)
        self._client_keys.watch(managed)

    def forget(self, managed: ManagedCredential) -> None:
        """Plan nothing more: the credential left the config."""
        self._deadlines.clear(Job(JobKind.STALE, managed.name))
        self._keys.forget(managed)
        self._client_keys.forget(managed)

    def stepped(self, everyone: Iterable[ManagedCredential]) -> None:
        """Plan the alarms anew after the wall clock was set."""
        for managed in everyone:
            self.watch(managed)
        self._client_keys.stepped()
        self._deadlines.stepped()

    def _watch_staleness(self, managed: ManagedCredential) -> None:
        """Plan the alarm for when no refresh will have succeeded for too long.

        An alarm that was raised stays raised, over restarts too, until a refresh succeeds; or until its time lies
        ahead again, because the limit was raised or a wrong clock was set right.
        """
        stale_at, health, job = managed.stale_at(), managed.state.health, Job(JobKind.STALE, managed.name)
        left_s = (stale_at - self._clock.now()).total_seconds() if stale_at is not None else 0.0
        if stale_at is None or (health.is_stale and left_s <= 0):
            self._deadlines.clear(job)
            return
        if health.is_stale:
            health.take_back_alarm()
            log.info("not stale any more: the limit lies ahead again", credential=managed.name)
            self._save(managed)
            self._observer.changed()
        self._deadlines.set(job, stale_at, partial(self._rang, managed))

    def is_overdue(self, managed: ManagedCredential) -> bool:
        """Return whether no refresh succeeded for too long, by the wall clock."""
        stale_at = managed.stale_at()
        return stale_at is not None and stale_at <= self._clock.now()

    def _rang(self, managed: ManagedCredential) -> None:
        """Raise the alarm.

        Not while a refresh is under way or due, as it is after a start, a suspend or a step: what comes of it decides,
        since the planner sets the alarm anew at its end (agent/engine/planner.py).
        """
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
        about = {"credential": managed.name, "generation": done.generation or None}
        self._notes.record(event, cause, **about, access_key_id=done.access_key_id or None, **fields)

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
        self._notes.save(managed)
