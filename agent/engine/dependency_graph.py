"""Credentials that build on others: which are asked first, and which follow (docs/adr/0014).

* A base is refreshed before whatever builds on it, unless it answered within the last seconds (for a follower that
  fails: within the base's own poll) or is being rotated by an operator. One that is in flight already is waited for.
* A base that is a session is another one each time it is asked, with its own dependents to tell. So one that lives and is
  not due serves as it is, unless its key was refused: a follower with a typo must not restart its base's units.
* A base that was published anew, or that came back after failures, makes its followers renew at once, nearest
  first, so that a chain of any length renews in one go and in order. (The config refuses circles.)
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime

from agent.core import policy
from agent.engine.attempts import RefreshSlot

FRESH_S = 5.0
"""An answer of a base that is younger than this is the newest value: one base, many followers, one call."""


def family(slots: Mapping[str, RefreshSlot], names: Collection[str]) -> list[str]:
    """Return every credential that a refresh of `names` can touch: these, what they build on, and what builds on those."""
    found = {name for name in names if name in slots}
    for grow in (_bases_of, _followers_of):
        before: set[str] = set()
        while found != before:
            before, found = found, found | {other for name in found for other in grow(slots, name)}
    return [name for name in in_order(slots) if name in found]


def _bases_of(slots: Mapping[str, RefreshSlot], name: str) -> list[str]:
    return [base for base in slots[name].managed.builds_on if base in slots]


def _followers_of(slots: Mapping[str, RefreshSlot], name: str) -> list[str]:
    return [other for other, slot in slots.items() if name in slot.managed.builds_on]


def in_order(slots: Mapping[str, RefreshSlot]) -> list[str]:
    """Return all names, each behind those that it builds on, else in the order of the config."""
    ordered: dict[str, None] = {}

    def place(name: str) -> None:
        if name in slots and name not in ordered:
            for base in slots[name].managed.builds_on:
                place(base)
            ordered[name] = None

    for name in slots:
        place(name)
    return list(ordered)


def bases_to_ask(slots: Mapping[str, RefreshSlot], slot: RefreshSlot, now: datetime, boottime: float) -> set[str]:
    """Return the bases that are to be refreshed before a credential is."""
    bases = (slots[name] for name in slot.managed.builds_on if name in slots)
    return {base.managed.name for base in bases if not _serves(base, slot, now, boottime)}


def _serves(base: RefreshSlot, slot: RefreshSlot, now: datetime, boottime: float) -> bool:
    """Return whether the base's newest value may be used without asking for a newer one."""
    if base.emergency is not None:
        return True
    failing = slot.managed.state.health.failures > 0 and not slot.key_refused
    if boottime - base.answered_at <= (base.managed.poll_s if failing else FRESH_S):
        return True
    standing = base.managed.standing()
    known = base.managed.value is not None and standing.expiration is not None
    return known and not slot.key_refused and policy.assess(standing, now) is policy.Window.FRESH


def followers(slots: Mapping[str, RefreshSlot], name: str) -> list[str]:
    """Return the credentials that build on `name` and do not already wait for the answer that it has just given."""
    return [
        other.managed.name
        for other in slots.values()
        if name in other.managed.builds_on
        and other.emergency is None
        and not (other.attempt and name in other.attempt.waits_for)
    ]
