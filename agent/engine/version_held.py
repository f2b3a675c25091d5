"""Which version of a key this host holds, and how many here are not known to have moved to it: what it answers to its fleet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.core.credential import Credential
from agent.engine.attempts import RefreshSlot
from agent.engine.key_holders import NEVER, names_of_holders, secrets_of
from agent.notifiers.interface import Pickup
from agent.refresh.managed_credential import ManagedCredential


@dataclass(frozen=True, slots=True)
class VersionHeld:
    """What one credential's readers on this host have.

    Attributes:
        version_id: of the value that its sinks hold; "" before the first publish.
        value: that value with its secrets; None where it is not at hand.
        owed: dependents that were not told or did not pick it up, and other holders of the key that have not moved.
        behind: the other credentials among these, which a refresh may move.
        is_held: whether a `rotate` on this host is at work on it.
    """

    version_id: str
    generation: int
    access_key_id: str
    value: Credential | None = field(repr=False)
    owed: int
    behind: tuple[str, ...]
    is_held: bool


def version_held(slots: Mapping[str, RefreshSlot], name: str) -> VersionHeld | None:
    """Return what this host holds of a credential; None where it is not in the config."""
    slot = slots.get(name)
    if slot is None:
        return None
    done = slot.managed.in_use
    others = [slots[other].managed for other in sorted(names_of_holders(slots, name) - {name})]
    others += [
        one.managed
        for one in slots.values()
        if done.previous_access_key_id and one.managed.state.published.access_key_id == done.previous_access_key_id
    ]
    behind = tuple(dict.fromkeys(one.name for one in others if not _has_moved(one, slot.managed)))
    untold = sum(map(_untold, [slot.managed, *(one for one in others if one.name not in behind)]))
    return VersionHeld(
        version_id=done.version_id,
        generation=done.generation,
        access_key_id=done.access_key_id,
        value=slot.managed.value_in_use(),
        owed=untold + len(behind),
        behind=behind,
        is_held=slot.emergency is not None,
    )


def _has_moved(one: ManagedCredential, source: ManagedCredential) -> bool:
    """Whether another holder of the key is done with the one before: it has the new one, or was made with it."""
    own, new = one.in_use, source.in_use
    if not own.generation:
        return True
    if own.access_key_id == new.previous_access_key_id:
        return False
    if secrets_of(one) & secrets_of(source):
        return own.access_key_id == new.access_key_id
    return (own.obtained_at or NEVER) >= (new.published_at or NEVER)


def _untold(one: ManagedCredential) -> int:
    """How many dependents were not told of what it published last, or are known not to have picked it up."""
    owed, ledger = {debt.identity for debt in one.state.debts}, one.state.ledger
    return sum(
        notifier.identity in owed
        or ((told := ledger.outcome_of(notifier.identity)) is not None and told.gave_up)
        or ledger.pickup_of(notifier.identity) == Pickup.NOT_PICKED_UP
        for notifier in one.notifiers
    )
