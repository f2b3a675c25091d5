"""The fleet's leases that this host has, or would like to have: each is renewed, or tried for, every third of its life.

The board is asked on workers; what it said is kept here for the schedule, `status` and metrics. An errand asks for itself before
it changes anything (tenure.py).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from agent.core.errors import KeyturnError
from agent.core.lease import Lease
from agent.engine.engine import Engine
from agent.logs.log import log
from agent.ram_rotation.tenure import RENEW_S, OpenLease, Terms, board_away, others, two_owners
from agent.ram_rotation.view import Rest
from agent.system.questions import Questions

LET_GO_S = 2.0
"""Seconds that the end of a daemon may take to let its leases go."""
GIVEN_UP_S = 600.0
"""Seconds for which a host that can do nothing with the lease leaves it to the others."""

Standing = Callable[[str], tuple[bool, int]]
"""Returns whether the key in use of a credential is this host's own, and the highest number that it has written down."""
Turned = Callable[[str, Rest | None], None]
"""Is called when the lease came to this host (None), or why it is not here."""


@dataclass
class _Followed:
    """What is known of one lease, in memory only."""

    terms: Terms
    lease: Lease = field(default_factory=Lease)
    until: float = float("-inf")  # boottime: it is ours until then, as far as the board said
    error: str = ""
    again_at: float = float("-inf")
    is_asking: bool = False


class Leases:
    """The leases of one agent. Belongs to the loop's thread, but for `let_go`."""

    def __init__(self, engine: Engine, standing: Standing, turned: Turned) -> None:
        """Keep what is needed; the board is not asked before `follow`."""
        self._engine, self._standing, self._turned = engine, standing, turned
        self._followed: dict[str, _Followed] = {}
        self._is_begun = False

    def follow(self, terms: Mapping[str, Terms]) -> None:
        """Have the leases that these terms ask for, and no others, from now on."""
        before, wanted = self._followed, {name: one for name, one in terms.items() if one.open_lease is not None}
        for name, gone in before.items():
            if name not in wanted and self.is_ours(name):
                self._engine.work(partial(_release, gone.terms), _ignore)
        self._followed = {name: before.get(name) or _Followed(one) for name, one in wanted.items()}
        for name, one in wanted.items():
            self._followed[name].terms = one
        if self._followed and not self._is_begun:
            self._is_begun = True
            self._engine.every(self._pause_s, self._ask_all)
        self._engine.after(0.0, self._ask_all)

    def is_ours(self, name: str) -> bool:
        """Return whether this host has it, as far as the board said; an owner needs none."""
        one = self._followed.get(name)
        if one is None:
            return False
        is_live = self._engine.clock.boottime() < one.until
        return (one.lease.is_ours and is_live) or (
            one.terms.plan.is_owner and (one.lease.is_ours or not one.lease.host)
        )

    def give_up(self, name: str) -> None:
        """Leave the lease to others for a while: this host can do nothing with it."""
        one = self._followed.get(name)
        if one is not None and one.lease.is_ours and not one.terms.plan.is_owner:
            one.lease, one.again_at = Lease(), self._engine.clock.boottime() + GIVEN_UP_S
            self._engine.work(partial(_release, one.terms), _ignore)

    def ask_again(self, name: str) -> None:
        """Ask soon, also where the lease was given up: somebody has changed what this host could do with it."""
        if (one := self._followed.get(name)) is not None:
            one.again_at = float("-inf")
            self._engine.after(0.0, self._ask_all)

    def let_go(self, names: Collection[str]) -> None:
        """Have others take these leases at once, where this host has them: it stops. Waits for `LET_GO_S` at most."""
        mine = [one.terms for name, one in self._followed.items() if name in names and one.lease.is_ours]
        questions = Questions(LET_GO_S)
        for asked in [questions.ask(partial(_release, terms)) for terms in mine if not terms.plan.is_owner]:
            try:
                questions.answer(asked)
            except KeyturnError as error:
                log.warning("the fleet's lease was not let go; it ends by itself", error=str(error))

    def as_json(self, name: str) -> dict[str, Any]:
        """Return the member `lease` of what `status --json` shows; nothing where there is no fleet."""
        one = self._followed.get(name)
        if one is None:
            return {}
        lease = one.lease
        return {
            "lease": {
                "host": lease.host or None,
                "ours": self.is_ours(name),
                "claimed": lease.is_claimed,
                "number": lease.number or None,
                "error": one.error or None,
            }
        }

    # -- how ----------------------------------------------------------------------------------------

    def _pause_s(self) -> float | None:
        if not self._followed:
            self._is_begun = False
            return None
        return RENEW_S * random.uniform(0.9, 1.0)

    def _ask_all(self) -> None:
        now = self._engine.clock.boottime()
        for name, one in self._followed.items():
            if not one.is_asking and one.again_at <= now:
                one.is_asking = True
                ask = partial(_asked, one.terms, *self._standing(name))
                self._engine.work(ask, partial(self._answered, name, one, now))

    def _answered(
        self, name: str, one: _Followed, asked_at: float, lease: Lease | None, error: BaseException | None
    ) -> None:
        one.is_asking = False
        if self._followed.get(name) is not one:
            return
        if lease is None:
            self._away(name, one, error)
            return
        was_ours, before, one.error = self.is_ours(name), one.lease.host, ""
        one.lease, one.until = lease, asked_at + lease.left_s if lease.is_ours else float("-inf")
        if lease.host != before:
            log.info(
                "the lease of a RAM user's rotation",
                credential=name,
                host=lease.host,
                ours=lease.is_ours,
                number=lease.number,
            )
        if lease.is_ours:
            if not was_ours or lease.host != before:
                self._turned(name, None)
            return
        plan, now = one.terms.plan, self._engine.clock.now()
        self._turned(name, two_owners(lease, plan.user) if plan.is_owner else others(lease, plan.user, name, now))

    def _away(self, name: str, one: _Followed, error: BaseException | None) -> None:
        if not isinstance(error, KeyturnError):
            log.error("a fault of keyturn itself; please report it", exc_info=error)
            error = KeyturnError("a fault of keyturn itself", "please report it with its log")
        if not one.error:
            log.warning("who has the lease of a RAM user's rotation is not known", credential=name, error=str(error))
        one.error = str(error)
        if not self.is_ours(name):
            self._turned(name, board_away(error, self._engine.clock.now()))


def _asked(terms: Terms, may_follow: bool, floor: int) -> Lease:
    with closing(_open(terms)()) as board:
        return board.claim() if terms.plan.is_owner else board.take(may_follow=may_follow, floor=floor)


def _release(terms: Terms) -> None:
    with closing(_open(terms)()) as board:
        board.release()


def _open(terms: Terms) -> OpenLease:
    assert terms.open_lease is not None
    return terms.open_lease


def _ignore(_nothing: None, error: BaseException | None) -> None:
    if error is not None:
        log.warning("the fleet's lease was not let go; it ends by itself", error=str(error))
