"""The right to rotate a RAM user's keys, which one host of a fleet has at a time: what is known of it, and how it is asked for.

Only the fleet's board can say who has it, and RAM asks nobody: so whoever changes something at RAM asks the board right before
the call, with the number that it was given. What the number protects, and what it cannot: docs/adr/0026.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from agent.core.errors import BusyError

LIFE_S = 60.0
"""Seconds for which the lease lasts since it was taken or renewed. It is renewed at a third of it."""
CLAIM_S = 24 * 3600.0
"""Seconds for which nobody takes the lease after a host that says `owner = true` was heard last: as long as a host is absent."""


class LeaseLostError(BusyError):
    """The error that another host may rotate by now, so nothing more is changed."""


@dataclass(frozen=True, slots=True)
class Lease:
    """What the board says of a lease.

    Attributes:
        is_ours: this host has it, now.
        host: who has it, or had it last; "" for nobody yet.
        is_claimed: by `owner = true`; else it was taken.
        number: the fencing number; it grows whenever the lease goes to another host, or back.
        left_s: seconds until another host may have it; 0 where it is over.
        silent_s: seconds since that host was heard last.
    """

    is_ours: bool = False
    host: str = ""
    is_claimed: bool = False
    number: int = 0
    left_s: float = 0.0
    silent_s: float = 0.0


class LeaseBoard(Protocol):
    """The lease of one RAM user. Each method waits for the board's server, and raises a `KeyturnError` where it is away."""

    def take(self, *, may_follow: bool, floor: int) -> Lease:
        """Take the lease where it is free, or renew it.

        Args:
            may_follow: also where another host had it: only who has the key in use can go on from there.
            floor: the number is greater than this one, also on a board that has forgotten all.
        """

    def renew(self, number: int) -> Lease:
        """Renew the lease, where that number is still the newest."""

    def claim(self) -> Lease:
        """Say that this host's config says `owner = true`; it is not ours where another one says so, too, and is there."""

    def look(self) -> Lease:
        """Return what is known; change nothing."""

    def release(self) -> None:
        """Let go of it, where it is this host's: another one may take it at once."""

    def close(self) -> None:
        """Give the connection back."""
