"""Credentials that build on others: who is asked first, and who follows.

* A base is refreshed before whatever builds on it, unless it answered within the last seconds, is being rotated by
  an operator, or is in flight already; then that answer is waited for.
* A base that was published anew, or that came back after failures, makes its dependants renew at once, nearest
  first, so a chain of any length renews in one go and in order. (The config refuses circles.)
"""

from __future__ import annotations

from collections.abc import Mapping

from agent.desk import Desk

FRESH_S = 5.0
"""An answer of a base that is younger than this is the newest value: one base, many dependants, one call."""


def in_order(desks: Mapping[str, Desk]) -> list[str]:
    """All names, each behind those that it builds on, else in the order of the config."""
    ordered: dict[str, None] = {}

    def place(name: str) -> None:
        if name in desks and name not in ordered:
            for base in desks[name].managed.builds_on:
                place(base)
            ordered[name] = None

    for name in desks:
        place(name)
    return list(ordered)


def bases_to_ask(desks: Mapping[str, Desk], desk: Desk, boottime: float) -> set[str]:
    """The bases that are to be refreshed before a credential is."""
    bases = (desks[name] for name in desk.managed.builds_on if name in desks)
    return {base.managed.name for base in bases if base.emergency is None and boottime - base.answered_at > FRESH_S}


def followers(desks: Mapping[str, Desk], name: str) -> list[str]:
    """The credentials that build on `name` and do not already wait for the answer that it has just given."""
    return [
        other.managed.name
        for other in desks.values()
        if name in other.managed.builds_on and not (other.attempt and name in other.attempt.waits_for)
    ]
