"""The rights of this host's user on the server of the board: each command is tried in a form that writes nothing.

The server looks at the rights before it looks at the arguments. The key of a probe is one that no credential has.
"""

from __future__ import annotations

from typing import Any

from redis import exceptions

from agent.fleet.errors import translated

PROBES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("XADD", ("KEY", "no id", "probe", "")),  # is refused
    ("XREAD", ("COUNT", "1", "STREAMS", "KEY", "0-0")),
    ("XREVRANGE", ("KEY", "+", "-", "COUNT", "1")),
    ("HSET", ("KEY", "probe", "", "odd")),  # a field without a value is refused
    ("HGET", ("KEY", "probe")),
    ("HGETALL", ("KEY",)),
    ("HLEN", ("KEY",)),
    ("HDEL", ("KEY", "probe")),
    ("ZADD", ("KEY", "XX", "0", "probe")),  # only a member that is there
    ("ZREVRANGEBYSCORE", ("KEY", "+inf", "-inf")),
    ("ZREM", ("KEY", "probe")),
    ("EXPIRE", ("KEY", "60")),
    ("TIME", ()),
)
"""Every command that a host sends (board.py), but SELECT, which the connection sends itself."""
LEASE_PROBES: tuple[tuple[str, tuple[str, ...]], ...] = (("EVAL", ("return 1", "1", "KEY")),)
"""What a host sends besides where the fleet has the lease of a RAM user (lease.py)."""
_REFUSED = frozenset({"XADD", "HSET"})
"""Those whose arguments are refused once the rights were found to do."""


@translated
def missing_rights(client: Any, key: str, *, has_leases: bool = False) -> dict[str, str]:
    """Return the commands that the server refuses, each with its words; none where all is well.

    Args:
        client: the connection.
        key: one that nobody uses.
        has_leases: whether a lease is wanted.

    Raises:
        FleetError, FleetRefusedError: the server cannot be asked at all.
    """
    missing: dict[str, str] = {}
    for command, words in (*PROBES, *(LEASE_PROBES if has_leases else ())):
        try:
            client.execute_command(command, *(key if word == "KEY" else word for word in words))
        except (exceptions.AuthenticationError, exceptions.AuthorizationError):
            raise
        except exceptions.ResponseError as error:
            lacks = isinstance(error, exceptions.NoPermissionError) or "unknown command" in str(error).lower()
            if lacks or command not in _REFUSED:
                missing[command] = " ".join(str(error).split())[:200]
    return missing
