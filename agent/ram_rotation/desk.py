"""What a rotation knows of its credential on this host, and does with it: through `HeldCredential`, on a worker."""

from __future__ import annotations

from typing import Any

from agent.audit.log import AuditLog
from agent.core.credential import Credential
from agent.core.errors import KeyturnError, SinkError, SourceUnavailableError
from agent.core.events import Cause, Event
from agent.engine.held_credential import HeldCredential
from agent.logs.log import log
from agent.notifiers.interface import Pickup
from agent.ram_rotation.view import InUse
from agent.sinks.offered import offered
from agent.state.ram_record import RamRecord

PUBLISH_S = 150.0
"""Seconds within which one refresh answers: its proof alone may take `verify_timeout`, by default 60."""


class HeldDesk:
    """`agent.ram_rotation.rotation.Desk` of a credential that is held."""

    def __init__(self, held: HeldCredential, audit: AuditLog, cause: Cause) -> None:
        self._held, self._audit, self._cause = held, audit, cause

    def look(self) -> InUse:
        """Return what is published, with each sink read anew."""
        now = self._held.look()
        done, (in_sinks, unreadable) = now.seen.published, self._in_sinks()
        value = now.value
        is_known = done.access_key_id in in_sinks or (value is not None and value.access_key_id == done.access_key_id)
        return InUse(
            done.access_key_id,
            done.published_at,
            bool(done.access_key_id) and is_known,
            done.verified in ("verified", "off"),
            tuple(
                f"{one.type_name} {one.target}"
                for one in now.seen.dependents
                if one.untold or one.pickup == Pickup.NOT_PICKED_UP
            ),
            in_sinks,
            now.made_id,
            unreadable,
        )

    def record(self) -> RamRecord:
        """Return the record of the user's keys."""
        return self._held.look().ram

    def keep(self, record: RamRecord) -> None:
        """Flush the record to disk.

        Raises:
            StateError: it cannot be written.
        """
        self._held.keep_ram(record)

    def hand(self, value: Credential) -> None:
        """Have the provider hand this value out from now on."""
        self._held.hand(value)

    def forsake(self) -> None:
        """Have the provider hand out the key in use again."""
        self._held.forsake()

    def publish(self, access_key_id: str) -> None:
        """Refresh once: proof, publish, and the news to every dependent.

        Raises:
            KeyturnError: the key is not published; the schedule tries again, and so does the next errand.
        """
        report = self._held.refresh(PUBLISH_S)
        if report.error is not None:
            raise report.error
        if self._held.look().seen.published.access_key_id != access_key_id:
            raise SourceUnavailableError(
                f"credentials.{self._held.name}: the new key {access_key_id} is not published yet"
            )

    def note(self, event: str, access_key_id: str, outcome: str, request_id: str) -> None:
        """Write it to the audit log and the log; a log that cannot be written does not undo what RAM did."""
        fields: dict[str, Any] = {
            "credential": self._held.name,
            "access_key_id": access_key_id,
            "outcome": outcome or None,
            "request_id": request_id or None,
        }
        if event == Event.ROTATION_STARTED:
            done = self._held.look().seen.published
            fields |= {"previous_access_key_id": done.access_key_id or None, "created_at": done.created_at}
        log.info(
            event.replace("_", " "), **{name: value for name, value in fields.items() if value and name != "created_at"}
        )
        try:
            self._audit.record(Event(event), **fields, **self._cause.as_fields())
        except KeyturnError as error:
            log.error("the audit log cannot be written", error=str(error))

    def _in_sinks(self) -> tuple[frozenset[str], tuple[str, ...]]:
        """Return the keys that the sinks hold, and the sinks that cannot be read."""
        found, unreadable = set(), []
        for sink in self._held.sinks:
            try:
                value = offered(sink)
            except (OSError, SinkError):
                unreadable.append(sink.target)
                continue
            if value is not None and value.access_key_id:
                found.add(value.access_key_id)
        return frozenset(found), tuple(unreadable)
