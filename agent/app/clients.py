"""Who fetched a credential, as `status`, the metrics and an emergency see it: by the record of agent/serving/fetches.py."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from agent.core.timestamps import rfc3339
from agent.notifiers.interface import Pickup
from agent.serving.fetches import FetchRecord
from agent.system.accounts import actor_name


def client_rows(fetches: FetchRecord, credential: str, generation: int, now: datetime) -> list[dict[str, Any]]:
    """Return an object for each process that holds an answer: who, which generation, and whether it has moved to this one."""
    behind = {one.peer for one in fetches.laggards(credential, generation, now)}
    return [
        {
            "uid": one.peer.uid,
            "user": actor_name(one.peer.uid),
            "pid": one.peer.pid,
            "executable": one.peer.executable or None,
            "unit": one.peer.unit or None,
            "generation": one.generation,
            "fetched_at": rfc3339(one.fetched_at),
            "expires_at": rfc3339(one.until),
            "pickup": str(Pickup.NOT_PICKED_UP if one.peer in behind else Pickup.CONFIRMED),
        }
        for one in fetches.clients(credential, now)
    ]


def counted(fetches: FetchRecord, credential: str, generation: int, now: datetime) -> tuple[int, int]:
    """Return how many processes hold this generation alone, and how many may still hold an older one."""
    behind = len({one.peer for one in fetches.laggards(credential, generation, now)})
    return max(0, len(fetches.clients(credential, now)) - behind), behind


def unit_pickup(clients: Sequence[dict[str, Any]], unit: str) -> str | None:
    """Return what the record says of a service's pickup; None where none of its processes asked."""
    found = {one["pickup"] for one in clients if one["unit"] == unit}
    if not found:
        return None
    return str(Pickup.NOT_PICKED_UP if str(Pickup.NOT_PICKED_UP) in found else Pickup.CONFIRMED)
