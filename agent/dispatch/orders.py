"""Which dependents of a credential are told before which others: `order`."""

from __future__ import annotations

from collections.abc import Sequence

from agent.notifiers.interface import Notifier
from agent.state.notification_ledger import NotificationLedger


class Orders:
    """The orders of one credential's notifiers, looked up for each delivery of thousands."""

    def __init__(self, notifiers: Sequence[Notifier]) -> None:
        self._before = {
            order: tuple({one.identity for one in notifiers if one.settings.order < order})
            for order in {notifier.settings.order for notifier in notifiers}
        }

    def waits(self, notifier: Notifier, ledger: NotificationLedger) -> bool:
        """Return whether somebody with a lower order is owed news and was not tried yet."""
        debts = map(ledger.debt_to, self._before[notifier.settings.order])
        return any(debt is not None and debt.attempts == 0 for debt in debts)
