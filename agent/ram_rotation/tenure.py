"""Whether this host is the one that rotates a RAM user's keys: its config says so, or it has the fleet's lease.

RAM asks no fleet, so the board is asked: at each look at the keys, and again right before each call that changes something
there (`permit`), with the number under which the look was taken. A host that lost the lease meanwhile stops before that call and
keeps its record; what it made stays its own, and no other host touches it. Board away: no rotation begins, and one that is under
way stops at its next changing call, for none of them is urgent (an operator's `rotate` may go on: `--no-fleet`). docs/adr/0026.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from agent.cloud.openapi import CALL_TIMEOUT_S
from agent.core.errors import KeyturnError, UsageError
from agent.core.lease import LIFE_S, Lease, LeaseBoard, LeaseLostError
from agent.core.ram_user import RamUserPlan
from agent.logs.log import log
from agent.ram_rotation.view import Rest

RENEW_S = LIFE_S / 3
"""Seconds between two renewals of a lease, and between two tries to have one."""
OpenLease = Callable[[], LeaseBoard]
"""Opens a connection to the board of the fleet, for one RAM user's lease."""


@dataclass(frozen=True, slots=True)
class Terms:
    """By what a host of this config rotates the keys of a RAM user, if at all.

    Attributes:
        plan: what the config says of the user.
        open_lease: None where the config has no `[fleet]`, or says `owner = false`.
    """

    plan: RamUserPlan
    open_lease: OpenLease | None = None

    @property
    def may_rotate(self) -> bool:
        """Whether this host takes part at all."""
        return self.plan.is_owner or self.open_lease is not None


class Tenure:
    """The tenure of one errand, or one emergency. Each method may wait for the board; for one thread."""

    def __init__(
        self,
        name: str,
        terms: Terms,
        now: Callable[[], datetime],
        boottime: Callable[[], float],
        *,
        insists: bool = False,
    ) -> None:
        """Keep what is needed; nothing is asked yet.

        Args:
            name: of the credential.
            terms: what the config says.
            now: the wall clock.
            boottime: the clock of the lease.
            insists: the operator says that no other host rotates: the board is not asked.
        """
        self._name, self._terms, self._now, self._boottime, self._insists = name, terms, now, boottime, insists
        self._asks = terms.open_lease is not None and not insists
        self._board: LeaseBoard | None = None
        self._claimed: Rest | None = None
        self._has_claimed = False
        self.number = 0

    @property
    def is_shared(self) -> bool:
        """Whether a fleet decides which host rotates."""
        return self._terms.open_lease is not None and not self._terms.plan.is_owner

    def why_not(self, *, may_follow: bool, floor: int) -> Rest | None:
        """Return why this host rotates nothing now; None where it does. Takes the lease where it is free, or renews it.

        Args:
            may_follow: the key in use is this host's own: it may go on where another host had the lease.
            floor: the highest number that this host has written down.
        """
        if not self._terms.may_rotate:
            return not_the_owner()
        if not self._asks:
            return None
        if self._terms.plan.is_owner:
            return self._other_owner()
        try:
            lease = self._opened().take(may_follow=may_follow, floor=floor)
        except KeyturnError as error:
            return board_away(error, self._now())
        self.number = lease.number if lease.is_ours else 0
        return None if lease.is_ours else others(lease, self._terms.plan.user, self._name, self._now())

    def foreseen(self, *, may_follow: bool) -> Rest | None:
        """Return what `why_not` would, without taking anything."""
        if not self._terms.may_rotate:
            return not_the_owner()
        if not self._asks:
            return None
        plan = self._terms.plan
        try:
            lease = self._opened().look()
        except KeyturnError as error:
            return None if plan.is_owner else board_away(error, self._now())
        if plan.is_owner or lease.is_ours or not lease.host or (not lease.left_s and may_follow):
            return None
        return others(lease, plan.user, self._name, self._now())

    def permit(self) -> Callable[[], None]:
        """Ask whether a call that changes something may be made now; return what looks once more right before it, without a call.

        That last look raises a `LeaseLostError` where what came between took so long that the call might outlast the lease.

        Raises:
            LeaseLostError: another host has the lease by now.
            UsageError: this host does not rotate this user's keys.
            KeyturnError: the board cannot be asked.
        """
        place = f"credentials.{self._name}"
        if not self._terms.may_rotate:
            rest = not_the_owner()
            raise UsageError(f"{place}.provider.owner: {rest.text}", rest.remedy)
        if not self._asks or self._terms.plan.is_owner:
            return partial(self._still_lasts, math.inf)
        asked_at = self._boottime()
        lease = self._opened().renew(self.number)
        if not lease.is_ours:
            raise LeaseLostError(
                f"{place}: host {lease.host or 'unknown'} has the fleet's lease by now, so nothing more was changed",
                "its own record says what it goes on with; see `keyturn fleet status`",
            )
        return partial(self._still_lasts, asked_at + lease.left_s)

    def _still_lasts(self, until: float) -> None:
        if self._boottime() + CALL_TIMEOUT_S > until:
            raise LeaseLostError(
                f"credentials.{self._name}: the fleet's lease would end before the call: this host was too slow",
                "it is tried again by itself",
            )

    def close(self, *, releases: bool = False) -> None:
        """Give the connection back.

        Args:
            releases: let go of the lease, since nobody renews it from now on.
        """
        if self._board is None:
            return
        with closing(self._board):
            if releases and self.number:
                try:
                    self._board.release()
                except KeyturnError as error:  # it ends by itself
                    log.warning("the fleet's lease was not let go", credential=self._name, error=str(error))
        self._board = None

    def _opened(self) -> LeaseBoard:
        if self._board is None:
            assert self._terms.open_lease is not None
            self._board = self._terms.open_lease()
        return self._board

    def _other_owner(self) -> Rest | None:
        """Return whether another host is the owner as well; a board that is away stops no owner, and is asked once."""
        if self._has_claimed:
            return self._claimed
        self._has_claimed = True
        try:
            lease = self._opened().claim()
        except KeyturnError as error:
            log.warning("the other hosts do not know who rotates", credential=self._name, error=str(error))
            return None
        self._claimed = None if lease.is_ours else two_owners(lease, self._terms.plan.user)
        return self._claimed


def not_the_owner() -> Rest:
    """Return the rest of a host whose config gives it no part."""
    return Rest("this host is not the owner of the RAM user's keys and changes nothing", "set owner = true on one host")


def two_owners(lease: Lease, user: str) -> Rest:
    """Return the rest of the second host that says that it is the owner."""
    return Rest(
        f"host {lease.host} says as well that it is the owner of RAM user {user}'s keys, and was there first; this one "
        "changes nothing",
        "set owner = true on one of them alone",
        is_wrong=True,
    )


def board_away(error: KeyturnError, now: datetime) -> Rest:
    """Return the rest of a host that cannot ask who has the lease."""
    text = f"no rotation begins while it is not known who has the fleet's lease: {error.problem}"
    return Rest(text, error.remedy, now + timedelta(seconds=RENEW_S))


def others(lease: Lease, user: str, name: str, now: datetime) -> Rest:
    """Return the rest of a host that does not have the lease, and may not take it."""
    again = now + timedelta(seconds=RENEW_S)
    if lease.is_claimed:
        return Rest(
            f"host {lease.host} says that it is the owner of RAM user {user}'s keys, and rotates them", until=again
        )
    if lease.left_s:
        return Rest(f"host {lease.host} has the fleet's lease and rotates the keys of RAM user {user}", until=again)
    return Rest(
        f"host {lease.host} had the fleet's lease last, and rotates nothing now; this one has no key of RAM user {user} that it "
        "could go on from, for RAM shows a secret only to whoever makes the key",
        f"start keyturn on {lease.host}; if that host is gone for good, put the key that is in use into the files and: keyturn "
        f"adopt {name}; or, to begin anew with a key of this host's own: keyturn fleet leave --host {lease.host}, and delete that "
        "host's key in the RAM console once nobody uses it",
        again,
    )
