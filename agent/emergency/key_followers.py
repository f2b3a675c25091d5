"""Everything on this host that holds the key moves with it: refreshed, published and told before the old key ends."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from functools import partial

from agent.core.errors import KeyturnError
from agent.core.retry import Retry
from agent.emergency.left_behind import LeftBehind, find
from agent.emergency.report import Patience, StepOutcome, Steps
from agent.engine.held_credential import HeldCredential
from agent.engine.key_holders import Holder
from agent.notifiers.interface import Pickup

LOOK_AGAIN_S = 0.2


class KeyFollowers:
    """The credentials of this config that hold the key, and their dependents. For a thread that is not the loop's."""

    def __init__(self, held: HeldCredential, steps: Steps, patience: Patience) -> None:
        self._held, self._steps, self._patience = held, steps, patience
        self._errors: dict[str, KeyturnError | None] = {}  # why a credential could not be refreshed last

    def move_everybody(self, old_id: str) -> tuple[LeftBehind, ...]:
        """Refresh whoever else holds the key, tell every dependent, show what came of it; return who is left behind.

        Raises:
            CancelledError: the agent is stopping, or did not answer.
        """
        if self._others(old_id):
            self._steps.show("others", lambda: self._refresh_others(old_id))
        self._steps.do("notify", lambda: self._tell(old_id))
        left = self.left_behind(old_id)
        self._show_pickup(old_id, left)
        return left

    def left_behind(self, old_id: str) -> tuple[LeftBehind, ...]:
        """Return who is known to be still on the old key."""
        return find(self._held.holders(old_id, reads_files=True), old_id, self._errors)

    # -- its steps ----------------------------------------------------------------------------------

    def _refresh_others(self, old_id: str) -> tuple[StepOutcome, str]:
        self._refresh_until_moved(old_id)
        others = self._others(old_id)
        moved = [f"{one.name} (generation {one.seen.published.generation})" for one in others if one.has_moved]
        behind = [one.name for one in others if not one.has_moved]
        told = [f"{what}: {', '.join(names)}" for what, names in (("moved", moved), ("left behind", behind)) if names]
        return StepOutcome.FAILED if behind else StepOutcome.DONE, "; ".join(told)

    def _tell(self, old_id: str) -> list[str]:
        """Tell every dependent of those that moved; return who was not told."""
        names = [one.name for one in self._held.holders(old_id) if one.has_moved]
        self._steps.activity.begin("the dependents to be told")
        with self._asking(old_id):
            self._held.look_again(names, self._patience.told_s)
            self._held.tell_now(names, self._patience.told_s)
        dependents = (who for one in self._held.holders(old_id) for who in one.seen.dependents if who.untold)
        return list(dict.fromkeys(f"{who.type_name} {who.target}" for who in dependents))

    def _show_pickup(self, old_id: str, left: Sequence[LeftBehind]) -> None:
        """Show of each dependent what is known, once: no pickup is assumed of one that was not told."""
        began = self._held.clock.boottime()
        seen = {
            f"{who.type_name} {who.target}": "not told" if who.untold else who.pickup or str(Pickup.ASSUMED)
            for one in self._held.holders(old_id)
            if one.has_moved
            for who in one.seen.dependents
        }
        seen |= {one.dependent: f"left behind ({one.why}; to move it: {one.move})" for one in left if one.dependent}
        if seen:
            outcome = StepOutcome.WARNING if any(one.dependent for one in left) else StepOutcome.DONE
            self._steps.note("pickup", outcome, began, "; ".join(f"{whom}: {what}" for whom, what in seen.items()))

    def _asking(self, old_id: str) -> AbstractContextManager[None]:
        return self._steps.activity.asking(partial(self._held.under_way, old_id))

    # -- refreshing ---------------------------------------------------------------------------------

    def _others(self, old_id: str) -> list[Holder]:
        return [one for one in self._held.holders(old_id) if one.name != self._held.name]

    def _refresh_until_moved(self, old_id: str) -> None:
        """Refresh them until each has left the old key behind, as far as it can.

        Those that hold the key itself come first, then what is built on them, which the engine renews by itself.
        """
        self._steps.activity.begin("the other credentials that hold the key")
        pause, monotonic = self._steps.activity.pausing(self._held.pause), self._held.clock.boottime
        retry = Retry(1.0, 4.0, self._patience.others_s, chance=random.random, pause=pause, monotonic=monotonic)
        hopeless: set[str] = set()
        before: set[str] | None = None
        while todo := self._todo(old_id, hopeless):
            names = {one.name for one in todo}
            if names == before and not retry.again():
                return
            before = names
            now = [one for one in todo if one.holds_old] or todo
            with self._asking(old_id):
                answers = self._held.refresh_others([one.name for one in now], self._patience.follow_s)
            self._steps.activity.failed("; ".join(error.problem for error in answers.values() if error is not None))
            self._errors |= answers
            hopeless |= {one.name for one in now if _is_hopeless(one, answers[one.name])}

    def _todo(self, old_id: str, hopeless: Collection[str]) -> Sequence[Holder]:
        """Whoever has not moved, once no refresh is under way that may move them."""
        ends = self._held.clock.boottime() + self._patience.others_s
        while True:
            others = self._others(old_id)
            if not any(one.is_refreshing for one in others) or self._held.clock.boottime() >= ends:
                return [one for one in others if not one.has_moved and one.name not in hopeless]
            with self._asking(old_id):
                self._held.pause(LOOK_AGAIN_S)


def _is_hopeless(holder: Holder, error: KeyturnError | None) -> bool:
    """Whether another try would end as this one did: a refusal, or a source that does not follow the rotation."""
    if error is not None:
        return not error.retryable
    return holder.holds_old and not holder.follows
