"""What may be handed out now, for each credential: written on the loop's thread, read by the threads that serve.

An offer is frozen and put in place whole, so no reader sees the key of one generation beside the expiry of another.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from datetime import datetime

from agent.core.credential import Credential
from agent.serving.document import EMERGENCY_HOLD_S, HOLD_S


@dataclass(frozen=True, slots=True)
class Offer:
    """What is to be known of one credential.

    Attributes:
        generation: of the value in use; 0 before the first publish.
        value: with its secrets; None where they are not known to this process, and no published file could be read back.
        expiration: the real one; None for a value that lives until it is rotated.
        hold_s: how long a client may keep an answer.
        users: the uids that may ask over the socket, besides root and the agent's own.
        groups: the gids whose members may.
    """

    generation: int = 0
    value: Credential | None = field(default=None, repr=False)
    expiration: datetime | None = None
    hold_s: float = HOLD_S
    users: frozenset[int] = frozenset()
    groups: frozenset[int] = frozenset()


class Offers:
    """The offers of one agent, in memory only."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._offers: dict[str, Offer] = {}
        self._hurried: frozenset[str] = frozenset()

    def put(self, name: str, offer: Offer) -> None:
        """Hand this out from now on."""
        with self._lock:
            self._offers[name] = offer

    def drop(self, name: str) -> None:
        """Forget a credential that left the config."""
        with self._lock:
            self._offers.pop(name, None)

    def hurry(self, names: frozenset[str]) -> None:
        """Let clients keep an answer for these credentials for no more than `EMERGENCY_HOLD_S`, and the others as configured."""
        with self._lock:
            self._hurried = names

    def find(self, name: str) -> Offer | None:
        """Return what may be handed out now; None for a credential that there is none of."""
        with self._lock:
            offer, hurried = self._offers.get(name), name in self._hurried
        if offer is None or not hurried:
            return offer
        return replace(offer, hold_s=min(offer.hold_s, EMERGENCY_HOLD_S))

    def names(self) -> list[str]:
        """Return every credential, in the order in which they came."""
        with self._lock:
            return list(self._offers)
