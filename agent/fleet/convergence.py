"""Who of a fleet is on a version: the judgement of an emergency, from what stands on the board and the secret that it fetched.

A rule of safety, so it is pure and knows no Redis: a host counts as moved by its proof alone. What it says without one is shown,
and believed by nobody.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from agent.core.secret import Secret
from agent.fleet.board import Host
from agent.fleet.entries import Announcement, proves


@dataclass(frozen=True, slots=True)
class Standing:
    """One host of the fleet, for one announcement.

    Attributes:
        is_live: it was there a moment ago; else it is absent.
        has_moved: it proved the version, and owes nothing.
        why: what is missing, in a clause; "" for nothing.
    """

    host: str
    is_live: bool
    has_moved: bool
    why: str
    age_s: float


def standings(
    hosts: Iterable[Host],
    own: str,
    machine: str,
    credential: str,
    version_id: str,
    nonces: Collection[str],
    secret: Secret,
) -> list[Standing]:
    """Return how each host stands, but for the one that asks.

    Args:
        hosts: what the board has.
        own: this host's name; another machine that goes by it counts as another host.
        machine: tells this machine from it.
        credential: whose new version it is.
        version_id: the new version.
        nonces: of the announcement, and of later ones of the same version, which others made: a proof of any of them is as fresh.
        secret: of the new version.
    """
    found = []
    for host in hosts:
        state = host.state
        if host.name == own and (state is None or (state.machine == machine and not state.twins)):
            continue
        moved = (
            state is not None
            and not state.twins
            and any(proves(state, secret, credential, host.name, version_id, nonce) for nonce in nonces)
        )
        why = "" if moved else _why(host, version_id, nonces)
        found.append(Standing(host.name, host.is_live, moved, why, host.age_s))
    return found


def _why(host: Host, version_id: str, nonces: Collection[str]) -> str:
    state = host.state
    if state is None:
        return "it says nothing that can be understood"
    if state.twins:
        return "two machines go by this name; give one of them another `[fleet] host`"
    if state.failed and state.version_id != version_id:
        return f"it is not on the new version: {state.failed}"
    if state.version_id != version_id:
        return "it has not fetched the new version"
    if state.owed:
        return f"{state.owed} of its dependents are not known to be on the new version"
    if state.nonce not in nonces:
        return "it has not heard the announcement"
    return "its proof is not that of who has the new secret"


def newest_version(hosts: Iterable[Host], news: Iterable[Announcement]) -> str | None:
    """Return the newest version that was announced and that a host says it has: a made-up one is nobody's. None for none.

    Args:
        hosts: what the board has.
        news: announcements of the credential, the older ones first.
    """
    held = {one.state.version_id for one in hosts if one.state is not None}
    newest = None
    for one in news:
        if one.version_id in held:
            newest = one.version_id
    return newest


def is_current(host: Host, newest: str | None) -> bool:
    """Return whether a host says that it is on a version, None for any, and owes nothing. For show: what it says is not proved."""
    state = host.state
    return state is not None and not state.owed and not state.twins and newest in (None, state.version_id)
