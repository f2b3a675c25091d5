"""Who is owed the news of one credential, how each dependent was told last, and what is known of its pickup."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime

from agent.core.notify_outcome import NotifyOutcome, NotifyResult
from agent.state.records import Debt, key

Identity = tuple[str, ...]


class NotificationLedger:
    """The ledger of one credential. Changed by its own methods alone, on the loop's thread."""

    def __init__(
        self,
        debts: Iterable[Debt] = (),
        outcomes: Mapping[str, NotifyOutcome] | None = None,
        pickups: Mapping[str, str] | None = None,
        untold: int = 0,
    ) -> None:
        self._debts = _by_identity(debts)
        self._outcomes, self._pickups = dict(outcomes or {}), dict(pickups or {})
        self._untold = untold

    @property
    def debts(self) -> tuple[Debt, ...]:
        """The dependents that are to be told, each once; a copy, so ask `is_paid` for whether there is one."""
        return tuple(self._debts.values())

    @property
    def is_paid(self) -> bool:
        """Whether nobody is owed anything."""
        return not self._debts

    @property
    def outcomes(self) -> Mapping[str, NotifyOutcome]:
        """How each dependent was told last, by `records.key(identity)`."""
        return self._outcomes

    @property
    def pickups(self) -> Mapping[str, str]:
        """What is known of each pickup of the newest generation, by `records.key(identity)`."""
        return self._pickups

    @property
    def untold(self) -> int:
        """The newest generation of which a dependent was not told that the config no longer names; 0 for none."""
        return self._untold

    @property
    def given_up(self) -> tuple[Identity, ...]:
        """The dependents that were given up on: they are not tried again of our own accord."""
        return tuple(tuple(name.split("\0")) for name, outcome in self._outcomes.items() if outcome.gave_up)

    def debt_to(self, identity: Identity) -> Debt | None:
        """Return what a dependent is owed; None where it is owed nothing."""
        return self._debts.get(identity)

    def owes(self, debt: Debt) -> bool:
        """Return whether this very debt is still open: a repair may have owed the same generation anew since."""
        return self._debts.get(debt.identity) is debt

    def outcome_of(self, identity: Identity) -> NotifyOutcome | None:
        """Return how a dependent was told last; None where it never was."""
        return self._outcomes.get(key(identity))

    def pickup_of(self, identity: Identity) -> str | None:
        """Return what is known of a dependent's pickup; None where nothing is."""
        return self._pickups.get(key(identity))

    # -- a publish ----------------------------------------------------------------------------------

    def replace(self, debts: Iterable[Debt]) -> None:
        """Owe these debts and no others: a newer generation supersedes an older one."""
        self._debts = _by_identity(debts)

    def date(self, since: datetime) -> None:
        """Date the debts to the instant of the switch: a process that started before may have read the old value."""
        for debt in self._debts.values():
            debt.since = since

    # -- telling ------------------------------------------------------------------------------------

    def forget_pickup(self, identity: Identity) -> None:
        """Forget what was seen of an earlier generation: it says nothing of this one."""
        self._pickups.pop(key(identity), None)

    def told(self, debt: Debt, outcome: NotifyOutcome, pickup: str) -> None:
        """Strike a debt whose dependent was told."""
        self._strike(debt)
        self._outcomes[key(debt.identity)] = outcome
        self._pickups[key(debt.identity)] = pickup

    def looked_at(self, identity: Identity, outcome: NotifyOutcome, pickup: str) -> bool:
        """Note what a later look at a dependent that was told found; return whether it counts: not with news on the way."""
        known = self.outcome_of(identity)
        if self.debt_to(identity) is not None or known is None or not known.told:
            return False
        self._outcomes[key(identity)], self._pickups[key(identity)] = outcome, pickup
        return True

    def failed(self, debt: Debt, text: str) -> None:
        """Note that a try failed, and that there will be another."""
        self._outcomes[key(debt.identity)] = NotifyOutcome(NotifyResult.FAILED, text)

    def gave_up(self, debt: Debt, text: str) -> None:
        """Strike a debt whose patience is used up."""
        self._strike(debt)
        self._outcomes[key(debt.identity)] = NotifyOutcome(NotifyResult.GAVE_UP, text)

    def tried(self, debt: Debt) -> None:
        """Count a try."""
        debt.attempts += 1

    def tried_by_nobody(self) -> None:
        """Have every debt count as new: an operator wants it told now."""
        for debt in self._debts.values():
            debt.attempts = 0

    # -- owing again --------------------------------------------------------------------------------

    def owe_untold(self, debts: Iterable[Debt]) -> None:
        """Owe anew to those of these dependents that were not told, also where it was given up."""
        outcomes = self._outcomes
        self._owe(debt for debt in debts if not (found := outcomes.get(key(debt.identity))) or not found.told)

    def owe_given_up(self, debts: Iterable[Debt]) -> bool:
        """Owe anew to those of these dependents that were given up; return whether there was one."""
        given_up = set(self.given_up)
        return self._owe(debt for debt in debts if debt.identity in given_up)

    def owe_new(self, debts: Iterable[Debt]) -> None:
        """Owe to those of these dependents that were never told of anything, nor tried."""
        self._owe(debt for debt in debts if key(debt.identity) not in self._outcomes)

    def _owe(self, debts: Iterable[Debt]) -> bool:
        before = len(self._debts)
        for debt in debts:
            self._debts.setdefault(debt.identity, debt)
        return len(self._debts) > before

    # -- the config ---------------------------------------------------------------------------------

    def drop_unnamed(self, named: Collection[Identity], generation: int) -> tuple[list[Debt], bool]:
        """Forget the dependents that the config no longer names.

        Returns:
            the debts to them, and whether one of them was not told; `untold` is `generation` then.
        """
        dropped = [debt for debt in self._debts.values() if debt.identity not in named]
        keys = {key(identity) for identity in named}
        gave_up = any(outcome.gave_up for name, outcome in self._outcomes.items() if name not in keys)
        if dropped or gave_up:
            self._untold = generation
        self._debts = {identity: debt for identity, debt in self._debts.items() if identity in named}
        self._outcomes = {name: outcome for name, outcome in self._outcomes.items() if name in keys}
        self._pickups = {name: pickup for name, pickup in self._pickups.items() if name in keys}
        return dropped, bool(dropped or gave_up)

    def _strike(self, debt: Debt) -> None:
        if self.owes(debt):
            del self._debts[debt.identity]


def _by_identity(debts: Iterable[Debt]) -> dict[Identity, Debt]:
    return {debt.identity: debt for debt in debts}
