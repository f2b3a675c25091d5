"""Those who fetched the old key from keyturn itself, and are waited for before it ends.

Decisions:
* Each was told until when its answer is good. The old key is disabled when each has fetched the new one, is gone, or that
  time has passed; while an emergency runs, answers are good for seconds beyond the client's own window, so the wait is
  bounded by what was told before it.
* `--force` does not wait: they are then among those who are left behind.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from agent.core.text import first_few
from agent.core.timestamps import rfc3339
from agent.emergency.left_behind import LeftBehind, Reason
from agent.emergency.report import StepOutcome, Steps
from agent.engine.held_credential import HeldCredential

LOOK_AGAIN_S = 0.2


class Fetched(Protocol):
    """A process that fetched an older generation than the newest and may still use it."""

    @property
    def who(self) -> str:
        """Its name, for people."""

    @property
    def until(self) -> datetime:
        """When it does not use it any more, at the latest."""

    @property
    def hold(self) -> timedelta:
        """How long it keeps an answer while it is in use."""


WhoFetched = Callable[[str, int], Sequence[Fetched]]
"""Returns, for a credential and its newest generation, who may still use an older one, the longest first."""


def nobody(_credential: str, _generation: int) -> Sequence[Fetched]:
    """Return nobody: for a run without a daemon, from whom nobody could fetch."""
    return ()


class Fetchers:
    """The wait for them. For a thread that is not the loop's."""

    def __init__(self, held: HeldCredential, steps: Steps, who_fetched: WhoFetched) -> None:
        self._held, self._steps, self._who_fetched = held, steps, who_fetched

    def wait(self, old_id: str, *, force: bool) -> tuple[LeftBehind, ...]:
        """Wait until nobody may use an answer with the old key any more; show it as a step where there was anybody.

        Returns:
            with `force`, which does not wait: who may still use one.

        Raises:
            CancelledError: the agent is stopping.
        """
        found = self._now(old_id)
        if found and not force:
            self._steps.show("fetched", lambda: self._wait(old_id))
            return ()
        # One that fetched several generations is named once for each credential, by its latest answer.
        found.sort(key=lambda pair: pair[1].until, reverse=True)
        latest = {(name, one.who): one for name, one in reversed(found)}
        return tuple(_left_behind(name, one) for name, one in found if latest[name, one.who] is one)

    def _wait(self, old_id: str) -> tuple[StepOutcome, str]:
        seen: dict[str, None] = {}
        while found := self._now(old_id):
            seen.update((one.who, None) for _name, one in found)
            hold_s = max(one.hold for _name, one in found).total_seconds()
            latest = max(one.until for _name, one in found)
            self._steps.activity.begin(
                f"{_few([one.who for _name, one in found])} to fetch the new key, usually within {hold_s:g} s, "
                f"until {rfc3339(latest)} at the latest"
            )
            self._held.pause(LOOK_AGAIN_S)
        return StepOutcome.DONE, f"on the new key, or past their expiry: {_few(list(seen))}"

    def _now(self, old_id: str) -> list[tuple[str, Fetched]]:
        """Return who fetched which credential whose key is the one that is replaced."""
        return [
            (holder.name, one)
            for holder in self._held.holders(old_id)
            if holder.name == self._held.name or holder.follows
            for one in self._who_fetched(holder.name, holder.seen.published.generation)
        ]


def _left_behind(name: str, one: Fetched) -> LeftBehind:
    why = f"it fetched an older key, and was told that it is good until {rfc3339(one.until)}"
    return LeftBehind(name, one.who, Reason.FETCHED, why, "nothing: it asks again by itself")


def _few(who: Sequence[str]) -> str:
    return ", ".join(first_few(list(dict.fromkeys(who))))
