"""Everybody on this host who holds one AccessKey: the credential itself, those of the same secret, those built on one of them.

Decisions:
* A secret is known by its name, wherever it is asked for: two gateways, or an ARN and a name, may lead to one secret, and
  to refresh a credential in vain costs a call, while one that is forgotten goes on with a dead key.
* Whoever publishes the same key id holds the key, whatever its source: a file that somebody copied it into, for example.
* What is built on a holder is a session. It has moved on once it was obtained after each of its bases was published.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from agent.core.errors import KeyturnError
from agent.core.settings import ProviderSettings
from agent.engine.attempts import RefreshSlot
from agent.engine.dependency_graph import in_order
from agent.engine.snapshot import CredentialSnapshot, snapshot_of
from agent.notifiers.interface import Notifier
from agent.refresh.managed_credential import ManagedCredential
from agent.sinks.interface import Sink
from agent.system.clock import Clock

NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Holder:
    """One of them, as it stands now.

    Attributes:
        follows: its source hands out the rotated secret, so the new key will come.
        holds_old: what it published last is the old key.
        is_built_on: it is made of a holder, and holds no key of its own.
        is_current: what it published is known here, and is not older than what it is built on.
        is_refreshing: a refresh is under way.
        sinks_behind: the sinks that do not hold what it published; None where that is not known, and none where the files
            were not read.
        sinks: as configured.
        notifiers: its dependents, whose calls are made on workers anyway.
        formats: the types of its files.
    """

    seen: CredentialSnapshot
    follows: bool
    holds_old: bool
    is_built_on: bool
    is_current: bool
    is_refreshing: bool
    sinks_behind: tuple[str, ...] | None
    sinks: tuple[Sink, ...]
    notifiers: tuple[Notifier, ...]
    formats: frozenset[str]

    @property
    def name(self) -> str:
        """The credential's name."""
        return self.seen.name

    @property
    def has_moved(self) -> bool:
        """Whether it is done with the old key, its dependents apart."""
        return not self.holds_old and self.is_current


def holders(
    slots: Mapping[str, RefreshSlot], name: str, old_id: str, clock: Clock, *, reads_files: bool = True
) -> tuple[Holder, ...]:
    """Return everybody who holds the key of a credential, or is made of it, each behind what it builds on.

    Args:
        name: of the credential.
        old_id: the key that is to go; "" where it is not known yet.
        reads_files: whether it is looked what the sinks hold.
    """
    everyone = {other: slot.managed for other, slot in slots.items()}
    if name not in everyone:
        return ()
    direct = _direct(everyone, name, old_id)
    found = direct | _built_on(everyone, direct, secrets_of(everyone[name]))
    return tuple(
        _holder(slots[one], everyone, found, direct, name, old_id, clock, reads_files)
        for one in in_order(slots)
        if one in found
    )


def names_of_holders(slots: Mapping[str, RefreshSlot], name: str) -> frozenset[str]:
    """Return the names of everybody who holds the key of a credential, or is made of it; looks at no file."""
    everyone = {other: slot.managed for other, slot in slots.items()}
    if name not in everyone:
        return frozenset()
    direct = _direct(everyone, name, everyone[name].state.published.access_key_id)
    return frozenset(direct | _built_on(everyone, direct, secrets_of(everyone[name])))


def secrets_of(managed: ManagedCredential) -> frozenset[str]:
    """Return the names of the secrets that a credential's value is; none where it is made of one by its source."""
    return frozenset(_plain(each) for each in managed.settings.provider.own_secrets())


def shared_secrets(credentials: Iterable[ManagedCredential]) -> dict[str, list[str]]:
    """Return the secrets that several credentials get their values from, with their names."""
    asked: dict[str, list[str]] = {}
    for managed in credentials:
        inner = frozenset(map(_plain, _inner(managed.settings.provider)))
        for secret in sorted(secrets_of(managed) | inner):
            asked.setdefault(secret, []).append(managed.name)
    return {secret: names for secret, names in asked.items() if len(names) > 1}


def _direct(everyone: Mapping[str, ManagedCredential], name: str, old_id: str) -> set[str]:
    secrets = secrets_of(everyone[name])
    return {
        other
        for other, managed in everyone.items()
        if other == name
        or secrets & secrets_of(managed)
        or (old_id and managed.state.published.access_key_id == old_id)
    }


def _built_on(everyone: Mapping[str, ManagedCredential], direct: set[str], secrets: frozenset[str]) -> set[str]:
    found = {other for other, one in everyone.items() if secrets & set(map(_plain, _inner(one.settings.provider)))}
    found |= direct
    while more := {other for other, managed in everyone.items() if found & set(managed.builds_on)} - found:
        found |= more
    return found - direct


def _inner(settings: ProviderSettings) -> Iterator[str]:
    """The secrets of the inline providers that this one builds on."""
    for each in settings.inline():
        yield from each.own_secrets()
        yield from _inner(each)


def _plain(secret: str) -> str:
    """The name in an ARN (acs:kms:REGION:ACCOUNT:secret/NAME)."""
    return secret.rpartition(":secret/")[2]


def _holder(
    slot: RefreshSlot,
    everyone: Mapping[str, ManagedCredential],
    found: set[str],
    direct: set[str],
    name: str,
    old_id: str,
    clock: Clock,
    reads_files: bool,
) -> Holder:
    managed = slot.managed
    done = managed.state.published
    bases = [everyone[base] for base in (*managed.builds_on, name) if base in found and base != managed.name]
    newest = max((base.state.published.published_at or NEVER for base in bases), default=NEVER)
    known = not done.generation or (managed.value is not None and managed.value.access_key_id == done.access_key_id)
    return Holder(
        seen=snapshot_of(managed, clock),
        follows=bool(secrets_of(managed) & secrets_of(everyone[name])),
        holds_old=bool(old_id) and done.access_key_id == old_id,
        is_built_on=managed.name not in direct,
        is_current=known and (managed.name in direct or not done.generation or (done.obtained_at or NEVER) >= newest),
        is_refreshing=slot.attempt is not None or slot.is_queued,
        sinks_behind=_sinks_behind(managed) if reads_files else (),
        sinks=managed.sinks,
        notifiers=managed.notifiers,
        formats=managed.formats,
    )


def _sinks_behind(managed: ManagedCredential) -> tuple[str, ...] | None:
    if not managed.state.published.generation:
        return ()
    try:
        return managed.sinks_behind()
    except KeyturnError:
        return None
