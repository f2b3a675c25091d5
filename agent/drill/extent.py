"""Which credentials of a config an emergency of one of them is about, by the config and, where it may be read, the state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from agent.core.errors import NotPermittedError
from agent.core.settings import CredentialSettings, ProviderSettings
from agent.state.store import StateStore


class Extent(NamedTuple):
    """The credentials of a drill.

    Attributes:
        holders: those that hold the key or are built on it.
        copies: those of the holders that publish the key from a source which does not follow its rotation.
        needed: what the holders and the authority are built on.
        note: what could not be looked up; "" for nothing.
    """

    holders: frozenset[str]
    copies: frozenset[str]
    needed: frozenset[str]
    note: str


def extent_of(credentials: Mapping[str, CredentialSettings], name: str, state: Path) -> Extent:
    """Return the credentials that matter to `name`. The state is read without its lock, and holds no secret."""
    copies, note = _copies(credentials, name, state)
    own = secrets_of(credentials[name].provider)
    found = {name, *copies} | {other for other, one in credentials.items() if own & _all_secrets(one.provider)}
    while more := {other for other, one in credentials.items() if found & set(one.provider.builds_on())} - found:
        found |= more
    return Extent(frozenset(found), copies, frozenset(_needed(credentials, name, found)), note)


def secrets_of(provider: ProviderSettings) -> frozenset[str]:
    """Return the bare names of the secrets whose value a source hands out."""
    return frozenset(bare(secret) for secret in provider.own_secrets())


def bare(secret: str) -> str:
    """Return the name in an ARN (acs:kms:REGION:ACCOUNT:secret/NAME)."""
    return secret.rpartition(":secret/")[2]


def _all_secrets(provider: ProviderSettings) -> frozenset[str]:
    return secrets_of(provider).union(*map(_all_secrets, provider.inline()))


def _needed(credentials: Mapping[str, CredentialSettings], name: str, found: set[str]) -> Iterator[str]:
    emergency = credentials[name].emergency
    todo = sorted(found)
    authority = emergency.authority if emergency is not None else None
    if authority is not None:
        todo.extend([authority] if isinstance(authority, str) else authority.builds_on())
    seen: set[str] = set()
    while todo:
        one = todo.pop()
        if one not in seen:
            seen.add(one)
            todo.extend(credentials[one].provider.builds_on())
    yield from seen


def _copies(credentials: Mapping[str, CredentialSettings], name: str, state: Path) -> tuple[frozenset[str], str]:
    """Return who published the key of `name` last from a source that does not follow its rotation."""
    states, own = StateStore(state), secrets_of(credentials[name].provider)
    try:
        published = {other: states.peek(other).published.access_key_id for other in credentials}
    except NotPermittedError as error:
        return frozenset(), f"who else publishes a copy of the key is not known here: {error.problem}"
    key = published[name]
    same = {other for other, key_id in published.items() if key and key_id == key and other != name}
    return frozenset(other for other in same if not own & secrets_of(credentials[other].provider)), ""
