"""What a host says of a credential, made of what it holds."""

from __future__ import annotations

from agent.engine.version_held import VersionHeld
from agent.fleet.entries import TAIL, HostState, proof


def state_of(
    held: VersionHeld, credential: str, host: str, machine: str, *, nonce: str, failed: str, twins: bool = False
) -> HostState:
    """Return it, with the proof where nothing is owed, the secret is at hand, and an announcement asks for it.

    Args:
        held: what this host holds.
        credential: its name.
        host: this host's name.
        machine: tells this machine from another by the same name.
        nonce: of the newest announcement of that version; "" for none.
        failed: the audit's name of what failed last; "" for nothing.
        twins: whether another machine was seen under this name.
    """
    secret = held.value.access_key_secret if held.value is not None else None
    may_prove = secret is not None and nonce and not held.owed
    return HostState(
        version_id=held.version_id,
        generation=held.generation,
        access_key_id_tail=held.access_key_id[-TAIL:],
        owed=held.owed,
        failed=failed,
        nonce=nonce,
        mac=proof(secret, credential, host, held.version_id, nonce) if secret is not None and may_prove else "",
        machine=machine,
        twins=twins,
    )
