"""The alarms about a credential's keys: one older than `max_age`, and one that Alibaba Cloud restricted as leaked.

Each is raised once, over restarts too, and ends with `recovered` in the audit: the age when another key is published or
the limit is raised; a restriction as agent/state/alarm_record.py says, for it cannot be lifted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from agent.core.alarms import Kind
from agent.core.events import Cause, Event, Trigger
from agent.core.timestamps import rfc3339
from agent.engine.notes import Notes
from agent.logs.log import log
from agent.refresh.managed_credential import ManagedCredential
from agent.runtime.deadlines import Deadlines
from agent.runtime.scheduler import Job, JobKind
from agent.state.alarm_record import Seen
from agent.system.clock import Clock

_BY_ITSELF = Cause(Trigger.SCHEDULE)


class KeyAlarms:
    """The alarms about the keys of all credentials. Belongs to the loop's thread."""

    def __init__(
        self,
        deadlines: Deadlines,
        clock: Clock,
        notes: Notes,
        everyone: Callable[[], Iterable[ManagedCredential]],
        changed: Callable[[], None],
    ) -> None:
        """Keep what it works with.

        Args:
            deadlines: for the day on which a key is too old.
            clock: the wall clock.
            notes: where alarms are recorded.
            everyone: returns all credentials.
            changed: called when there is something new to show.
        """
        self._deadlines, self._clock, self._notes = deadlines, clock, notes
        self._everyone, self._changed = everyone, changed

    def watch(self, managed: ManagedCredential) -> None:
        """Raise, plan or end the alarms of a credential: after a start, a refresh, a reload, a step of the clock."""
        self._watch_age(managed)
        for key_id, seen in tuple(managed.state.alarms.restricted.items()):
            if seen is Seen.PUBLISHED and key_id != managed.state.published.access_key_id:
                self._end_restriction(managed, key_id)

    def forget(self, managed: ManagedCredential) -> None:
        """Plan nothing more: the credential left the config."""
        self._deadlines.clear(Job(JobKind.TOO_OLD, managed.name))

    # -- age ----------------------------------------------------------------------------------------

    def _watch_age(self, managed: ManagedCredential) -> None:
        due_at, job, record = managed.too_old_at(), Job(JobKind.TOO_OLD, managed.name), managed.state.alarms
        is_due = due_at is not None and due_at <= self._clock.now()
        if record.too_old and not (is_due and record.too_old == managed.state.published.access_key_id):
            self._end(managed, Kind.TOO_OLD, record.take_back_age())
        if due_at is not None and not is_due:
            self._deadlines.set(job, due_at, partial(self._watch_age, managed))
            return
        self._deadlines.clear(job)
        if is_due and not record.too_old:
            self._raise_age(managed)

    def _raise_age(self, managed: ManagedCredential) -> None:
        key_id, made_at = managed.state.published.access_key_id, managed.key_made_at
        managed.state.alarms.raise_age(key_id)
        made = rfc3339(made_at) if made_at else None
        log.warning("the key is older than max_age", credential=managed.name, access_key_id=key_id, made_at=made)
        self._notes.record(
            Event.KEY_TOO_OLD,
            _BY_ITSELF,
            credential=managed.name,
            generation=managed.state.published.generation,
            access_key_id=key_id,
            created_at=managed.state.published.created_at,
            error=managed.too_old_text(),
        )
        self._notes.save(managed)
        self._changed()

    # -- restrictions -------------------------------------------------------------------------------

    def restricted(self, name: str, key_id: str, error: str, cause: Cause, seen: Seen) -> None:
        """Take note that a call was refused because the key that signed it is restricted as leaked.

        Args:
            name: of the credential for which the call was made.
            key_id: of the key that signed; the alarm is that of every credential that publishes it.
            error: the refusal.
            cause: of the call.
            seen: what made the call, where no credential publishes the key.
        """
        everyone = list(self._everyone())
        holders = [one for one in everyone if one.state.published.access_key_id == key_id]
        for one in holders or [one for one in everyone if one.name == name]:
            if not one.state.alarms.restrict(key_id, Seen.PUBLISHED if holders else seen):
                continue
            log.critical("a key is restricted as leaked", credential=one.name, access_key_id=key_id, error=error)
            self._notes.record(
                Event.KEY_RESTRICTED,
                cause,
                credential=one.name,
                generation=one.state.published.generation or None,
                access_key_id=key_id,
                error=error,
            )
            self._notes.save(one)
            self._changed()

    def accepted(self, key_id: str) -> None:
        """Take note that a key was let in by what refuses restricted ones."""
        for one in self._everyone():
            if key_id in one.state.alarms.restricted:
                self._end_restriction(one, key_id)

    def answered(self, managed: ManagedCredential, seen: Seen) -> None:
        """Take note that calls of this kind succeed again for a credential."""
        for key_id, by in tuple(managed.state.alarms.restricted.items()):
            if by is seen:
                self._end_restriction(managed, key_id)

    def _end_restriction(self, managed: ManagedCredential, key_id: str) -> None:
        managed.state.alarms.end_restriction(key_id)
        self._end(managed, Kind.RESTRICTED, key_id)

    def _end(self, managed: ManagedCredential, kind: Kind, key_id: str) -> None:
        log.info("an alarm has ended", credential=managed.name, alarm=str(kind), access_key_id=key_id)
        self._notes.record(
            Event.RECOVERED, _BY_ITSELF, credential=managed.name, access_key_id=key_id, outcome=f"from {kind}"
        )
        self._notes.save(managed)
        self._changed()
