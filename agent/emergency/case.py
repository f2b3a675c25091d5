"""One run of `rotate`: what was asked, the credential that is held for it, and what has come of it so far."""

from __future__ import annotations

from functools import partial
from typing import Any

from agent.audit.log import AuditLog
from agent.core.events import Cause, Event
from agent.core.outcome import Report
from agent.emergency.report import Patience, Result, Steps
from agent.emergency.request import Request
from agent.engine.held_credential import HeldCredential
from agent.state.records import Published


class Case:
    """What every part of an emergency works with. To be used on another thread than the loop's.

    Attributes:
        held: the credential, which nobody else refreshes or rotates meanwhile.
        request: what the operator asked for.
        result: what is printed at the end; its `old_access_key_id` is the key that is to go.
        steps: shows and keeps what has been done, and what is waited for.
        patience: how long each wait may take.
    """

    def __init__(
        self,
        held: HeldCredential,
        request: Request,
        result: Result,
        steps: Steps,
        patience: Patience,
        audit: AuditLog,
        cause: Cause,
    ) -> None:
        """Keep them; `cause` goes into every record."""
        self.held, self.request, self.result, self.steps, self.patience = held, request, result, steps, patience
        self._audit, self._cause = audit, cause
        self.clock, self.place = held.clock, f"credentials.{held.name}"

    @property
    def published(self) -> Published:
        """What the sinks hold now."""
        return self.held.look().seen.published

    @property
    def old_id(self) -> str:
        """The id of the key that is to go."""
        return self.result.old_access_key_id

    def refresh(self) -> Report:
        """Refresh the credential now; return what came of it.

        Raises:
            CancelledError: nothing came of it in `follow_s` seconds.
        """
        with self.steps.activity.asking(partial(self.held.under_way, self.old_id)):
            return self.held.refresh(self.patience.follow_s)

    def refresh_first(self) -> None:
        """Refresh before anything is replaced: what the source has now is what is to go.

        Raises:
            KeyturnError: it cannot be had, and nothing was ever published.
        """
        self.steps.activity.begin(f"a refresh of {self.place}")
        report = self.refresh()
        if report.error is not None and not self.published.generation:
            raise report.error

    def record(self, event: Event, **fields: Any) -> None:
        """Write it to the audit log, with who asked for the emergency and why.

        Raises:
            KeyturnError: it cannot be written.
        """
        self._audit.record(event, credential=self.held.name, **fields, **self._cause.as_fields())
