"""What one credential offers to its readers now: to those who ask, and in its sinks. Frozen copies, made on the loop's thread."""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass, field
from datetime import datetime

from agent.core.credential import Credential
from agent.core.settings import ServeSettings
from agent.notifiers.interface import Pickup
from agent.refresh.managed_credential import ManagedCredential
from agent.sinks.interface import Sink


@dataclass(frozen=True, slots=True)
class InUse:
    """What one credential has to offer to those who ask.

    Attributes:
        generation: 0 before the first publish.
        value: with its secrets; None where they are not to be had (`ManagedCredential.value_in_use`).
        expiration: the real one.
        serve: who may ask; None where the config lets nobody.
    """

    generation: int
    value: Credential | None = field(repr=False)
    expiration: datetime | None
    serve: ServeSettings | None


@dataclass(frozen=True, slots=True)
class Offered:
    """Where the readers of one credential find it, and how far its newest generation has come.

    Attributes:
        sinks: as configured; what they hold is to be read on another thread.
        is_served: whether it is handed out to those who ask, too.
        generation: the newest; 0 before the first publish.
        published_at: of the newest generation.
        is_spread: whether every dependent was told of it, and none is known not to have picked it up.
        in_emergency: whether a `rotate` is replacing the key.
    """

    sinks: tuple[Sink, ...]
    is_served: bool
    generation: int
    published_at: datetime | None
    is_spread: bool
    in_emergency: bool


def in_use_of(managed: ManagedCredential) -> InUse:
    """Return what one credential has to offer to those who ask."""
    done = managed.in_use
    value = managed.value_in_use() if managed.is_served else None
    return InUse(done.generation, value, done.expiration, managed.settings.serve)


def offered_by(managed: ManagedCredential, in_emergency: Callable[[], Container[str]]) -> Offered | None:
    """Return where the readers of one credential find it; None where the config asks for no canary.

    Args:
        managed: the credential.
        in_emergency: returns the names of those whose key a `rotate` is replacing.
    """
    if not managed.settings.canary:
        return None
    ledger, done = managed.state.ledger, managed.state.published
    left = any(ledger.pickup_of(one.identity) == Pickup.NOT_PICKED_UP for one in managed.notifiers)
    return Offered(
        sinks=managed.sinks,
        is_served=managed.is_served,
        generation=done.generation,
        published_at=done.published_at,
        is_spread=not ledger.debts and not left,
        in_emergency=managed.name in in_emergency(),
    )
