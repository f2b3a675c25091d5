"""What can be seen of the engine at one moment: frozen copies, made on the loop's thread and read on any."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from agent.core.alarms import KeyAlarm
from agent.core.notify_outcome import NotifyOutcome
from agent.core.policy import Condition
from agent.engine.client_key_alarms import ClientKeySnapshot
from agent.refresh.managed_credential import ManagedCredential
from agent.state.ram_record import RamRecord
from agent.state.records import Published, RotationEnd, RotationJournal
from agent.system.clock import Clock


@dataclass(frozen=True, slots=True)
class SinkSnapshot:
    """One sink; `in_sync` is None where that is not known."""

    type_name: str
    target: str
    in_sync: bool | None


@dataclass(frozen=True, slots=True)
class DependentSnapshot:
    """One notifier of a credential: how its dependent was told last, and what is known of the pickup."""

    type_name: str
    target: str
    identity: tuple[str, ...]
    owed: bool
    outcome: NotifyOutcome | None
    pickup: str | None

    @property
    def untold(self) -> bool:
        """Whether it does not know of the newest generation: it is to be told, or was given up."""
        return self.owed or (self.outcome is not None and self.outcome.gave_up)


@dataclass(frozen=True, slots=True)
class CredentialSnapshot:
    """One credential, without a secret.

    Attributes:
        key_made_at: when the AccessKey in use was made, or else first published here; None for a session.
        key_alarms: those about its keys that stand.
        unfinished: the rotation at the source that an emergency began and did not end.
        rotations_spent: how many it began within the hour.
        rotation_begun_at: when it began the newest one that KMS did not refuse; None for none.
        rotation_ended: what became of the last one that came to its end.
        ram: which keys of a RAM user are ours.
    """

    name: str
    provider: str
    condition: Condition
    published: Published
    last_success_at: datetime | None
    next_refresh_at: datetime | None
    failures: int
    last_error: str
    debts: int
    sinks: tuple[SinkSnapshot, ...]
    dependents: tuple[DependentSnapshot, ...]
    is_tried: bool
    key_made_at: datetime | None
    key_alarms: tuple[KeyAlarm, ...]
    unfinished: RotationJournal | None
    rotations_spent: int
    rotation_begun_at: datetime | None
    rotation_ended: RotationEnd | None
    ram: RamRecord


@dataclass(frozen=True, slots=True)
class EngineSnapshot:
    """All credentials, in the order of the config, and the ClientKeys that sign for them.

    Attributes:
        passed: whether the first pass over all credentials has ended.
    """

    taken_at: datetime
    passed: bool
    credentials: tuple[CredentialSnapshot, ...]
    client_keys: tuple[ClientKeySnapshot, ...] = ()

    @property
    def awaited(self) -> tuple[str, ...]:
        """The credentials that the first pass still waits for."""
        return () if self.passed else tuple(one.name for one in self.credentials if not one.is_tried)


def snapshot_of(managed: ManagedCredential, clock: Clock, *, is_tried: bool = True) -> CredentialSnapshot:
    """Return a copy of what can be seen of one credential."""
    health, ledger, due = managed.state.health, managed.state.ledger, managed.next_refresh_at
    owed, now = {debt.identity for debt in ledger.debts}, clock.now()
    return CredentialSnapshot(
        name=managed.name,
        provider=managed.provider.type_name,
        condition=managed.condition(now),
        published=managed.state.published,
        last_success_at=health.last_success_at,
        next_refresh_at=clock.at(due) if due is not None else None,
        failures=health.failures,
        last_error=health.last_error,
        debts=len(ledger.debts),
        sinks=tuple(SinkSnapshot(s.type_name, s.target, managed.in_sync(s.target)) for s in managed.sinks),
        dependents=tuple(
            DependentSnapshot(
                n.type_name,
                n.target,
                n.identity,
                n.identity in owed,
                ledger.outcome_of(n.identity),
                ledger.pickup_of(n.identity),
            )
            for n in managed.notifiers
        ),
        is_tried=is_tried,
        key_made_at=managed.key_made_at,
        key_alarms=managed.key_alarms(now),
        unfinished=managed.state.rotation.unfinished,
        rotations_spent=managed.state.rotation.spent(now),
        rotation_begun_at=max(managed.state.rotation.begun_at, default=None),
        rotation_ended=managed.state.rotation.ended,
        ram=managed.state.ram.record,
    )
