"""What came of deliveries, written down at the end of each turn of the loop.

A thousand dependents of one credential end within seconds. Each alone would rewrite the credential's whole state and flush
the audit log, so the ends of one turn are written together: each state once, the records behind one flush, and only then
are they logged and those who wait for them told.

The state is not flushed: a debt that a power cut brings back is paid once more at the next start.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agent.audit.log import AuditLog
from agent.core.errors import AuditError, KeyturnError
from agent.core.events import Event
from agent.logs.log import log
from agent.refresh.managed_credential import ManagedCredential
from agent.runtime.event_loop import safely
from agent.state.store import StateStore

Act = Callable[[], None]


class Outcomes:
    """What is to be written down, in the order in which it came. Belongs to the loop's thread."""

    def __init__(self, audit: AuditLog, states: StateStore) -> None:
        self._audit, self._states = audit, states
        self._changed: dict[str, ManagedCredential] = {}
        self._records: list[tuple[Event, dict[str, Any]]] = []
        self._then: dict[Act, None] = {}

    @property
    def pending(self) -> bool:
        """Whether something is to be written, or somebody to be told that it was."""
        return bool(self._changed or self._records or self._then)

    def changed(self, managed: ManagedCredential) -> None:
        """Have the state of a credential written."""
        self._changed[managed.name] = managed

    def note(self, event: Event, **fields: Any) -> None:
        """Have a record written to the audit log."""
        self._records.append((event, fields))

    def then(self, act: Act) -> None:
        """Have `act` called once everything before it is written; the same one only once."""
        self._then[act] = None

    def write_down(self) -> None:
        """Write what there is. What cannot be written is logged, and hinders nothing else."""
        changed, self._changed = self._changed, {}
        records, self._records = self._records, []
        then, self._then = self._then, {}
        for managed in changed.values():
            self._save(managed)
        try:
            self._audit.record_all(records)
        except AuditError as error:  # a dependent that was told stays told when the audit log is full
            log.error("notifications could not be recorded", error=str(error), records=len(records))
        for act in then:
            safely(act)

    def _save(self, managed: ManagedCredential) -> None:
        # Not written, the debt comes back at the next start and the dependent is told once more; go on with the others.
        try:
            self._states.save(managed.name, managed.state, flush=False)
        except KeyturnError as error:
            log.error("the state cannot be written", credential=managed.name, error=str(error))
