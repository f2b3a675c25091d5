"""What is known of ClientKeys everywhere: how they are called, and the Protocol of a source that signs with them."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple, Protocol, runtime_checkable

CLIENT_KEY = "KAAP."
"""How the id of a ClientKey begins (KMS, "Create an AAP")."""


class ClientKeyEnd(NamedTuple):
    """A ClientKey that was opened, and when its certificate ends."""

    key_id: str
    path: str
    expires_at: datetime


@runtime_checkable
class HoldsClientKeys(Protocol):
    """A source that may sign with ClientKeys. Providers that do have this, besides the interface of each."""

    @property
    def client_keys(self) -> tuple[ClientKeyEnd, ...] | None:
        """Those that the newest fetch opened, without I/O and on any thread; None while that is not known."""
