"""What the engine writes down of itself: audit records and state whose failure is logged, and stops nothing."""

from __future__ import annotations

from typing import Any

from agent.audit.log import AuditLog
from agent.core.errors import AuditError, KeyturnError
from agent.core.events import Cause, Event
from agent.logs.log import log
from agent.refresh.managed_credential import ManagedCredential
from agent.state.store import StateStore


class Notes:
    """The audit log and the state store. Belongs to the loop's thread."""

    def __init__(self, audit: AuditLog, states: StateStore) -> None:
        self._audit, self._states = audit, states

    def record(self, event: Event, cause: Cause, **fields: Any) -> None:
        """Add a record to the audit log."""
        try:
            self._audit.record(event, **fields, **cause.as_fields())
        except AuditError as error:
            log.error("the audit log cannot be written", error=str(error), audit_event=str(event))

    def save(self, managed: ManagedCredential) -> None:
        """Write the state of a credential, unflushed."""
        try:
            self._states.save(managed.name, managed.state, flush=False)
        except KeyturnError as error:
            log.error("the state cannot be written", credential=managed.name, error=str(error))
