"""The notification ledger: each dependent is owed once, and a debt is struck by itself alone."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from agent.core.events import Trigger
from agent.core.notify_outcome import NotifyOutcome, NotifyResult
from agent.state.credential_state import CredentialState
from agent.state.notification_ledger import NotificationLedger
from agent.state.records import Debt
from agent.state.store import StateStore

NOW = datetime(2026, 11, 22, 3, 4, 5, tzinfo=UTC)
TOLD = NotifyOutcome(NotifyResult.TOLD)


def debt(name: str, generation: int = 1) -> Debt:
    return Debt(("systemd", name), generation, NOW, Trigger.POLL)


def test_a_debt_that_was_owed_anew_meanwhile_is_not_struck() -> None:
    """A repair may owe the same generation while a dependent is being told of it: what was told is the old debt."""
    told, again = debt("a"), debt("a")
    ledger = NotificationLedger([told])
    ledger.replace([again])
    ledger.told(told, TOLD, "confirmed")
    assert (ledger.owes(told), ledger.owes(again), ledger.is_paid) == (False, True, False)
    ledger.told(again, TOLD, "confirmed")
    assert (ledger.debts, ledger.is_paid) == ((), True)


def test_debts_keep_their_order_and_nobody_is_owed_twice() -> None:
    """What is owed again stands behind what is owed already, whose tries go on being counted."""
    first, second = debt("a"), debt("b")
    ledger = NotificationLedger([first, second])
    ledger.tried(first)
    ledger.owe_untold([debt("a"), debt("c")])
    assert [(owed.identity[1], owed.attempts) for owed in ledger.debts] == [("a", 1), ("b", 0), ("c", 0)]
    assert ledger.debt_to(("systemd", "b")) is second


def test_five_thousand_dependents_are_remembered(tmp_path: Path) -> None:
    """A record has room for all of them, told and owed, with identities as long as an `exec` with arguments has."""
    owed = [
        Debt(("exec", "uploader", "/usr/local/lib/uploader/reload", f"--worker={number}"), 2, NOW, Trigger.POLL)
        for number in range(5000)
    ]
    ledger = NotificationLedger()
    for one in owed:
        ledger.told(one, TOLD, "assumed")
    ledger.replace(owed)
    store = StateStore(tmp_path)
    store.prepare()
    store.save("uploader", CredentialState(ledger=ledger))
    found, remark = store.load("uploader")
    assert (len(found.ledger.outcomes), len(found.debts), remark) == (5000, 5000, "")
