"""All that is remembered of one credential over a restart: six parts, each changed by itself alone, saved as one record."""

from __future__ import annotations

from typing import Self

from agent.core.notify_outcome import NotifyOutcome
from agent.state.alarm_record import AlarmRecord
from agent.state.health_record import HealthRecord
from agent.state.notification_ledger import NotificationLedger
from agent.state.publish_journal import PublishJournal
from agent.state.ram_record import RamKeys, RamRecord
from agent.state.records import CredentialRecord, Debt, Published
from agent.state.rotation_record import RotationRecord


class CredentialState:
    """The state of one credential: what is published, who is owed it, how refreshes fare, rotations, alarms, whose keys."""

    def __init__(
        self,
        journal: PublishJournal | None = None,
        ledger: NotificationLedger | None = None,
        health: HealthRecord | None = None,
        rotation: RotationRecord | None = None,
        alarms: AlarmRecord | None = None,
        ram: RamKeys | None = None,
    ) -> None:
        self.journal = journal or PublishJournal()
        self.ledger = ledger or NotificationLedger()
        self.health = health or HealthRecord()
        self.rotation = rotation or RotationRecord()
        self.alarms = alarms or AlarmRecord()
        self.ram = ram or RamKeys()

    @property
    def published(self) -> Published:
        """The newest generation."""
        return self.journal.published

    @property
    def debts(self) -> tuple[Debt, ...]:
        """The dependents that are to be told of it."""
        return self.ledger.debts

    @classmethod
    def of(cls, record: CredentialRecord) -> Self:
        """Return the state that a record keeps."""
        return cls(
            PublishJournal(
                record.published,
                before=record.before,
                staged=record.journal,
                is_switched=record.switched,
                audit_seq=record.journal_seq,
                spent=record.spent,
            ),
            NotificationLedger(
                record.debts,
                {name: NotifyOutcome.read(written) for name, written in record.last_outcome.items()},
                record.pickup,
                record.untold,
            ),
            HealthRecord(
                last_success_at=record.last_success_at,
                tried_since=record.tried_since,
                failures=record.consecutive_failures,
                last_error=record.last_error,
                is_stale=record.stale,
            ),
            RotationRecord(record.rotation, record.rotations, record.rotation_end),
            AlarmRecord(record.too_old, record.restricted),
            RamKeys(record.ram),
        )

    def record(self) -> CredentialRecord:
        """Return the record that is written to disk."""
        journal, ledger, health, rotation = self.journal, self.ledger, self.health, self.rotation
        return CredentialRecord(
            published=journal.published,
            debts=list(ledger.debts),
            last_outcome={name: str(outcome) for name, outcome in ledger.outcomes.items()},
            pickup=dict(ledger.pickups),
            last_success_at=health.last_success_at,
            tried_since=health.tried_since,
            consecutive_failures=health.failures,
            last_error=health.last_error,
            stale=health.is_stale,
            rotation=rotation.unfinished,
            rotations=list(rotation.begun_at),
            rotation_end=rotation.ended,
            journal=list(journal.staged),
            switched=journal.is_switched,
            journal_seq=journal.audit_seq,
            before=journal.before,
            untold=ledger.untold,
            too_old=self.alarms.too_old,
            restricted={key_id: str(seen) for key_id, seen in self.alarms.restricted.items()},
            spent=journal.spent,
            ram=self.ram.record if self.ram.record != RamRecord() else None,
        )
