"""One dependent: who names it, and what it is owed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from agent.notifiers.interface import Notifier
from agent.refresh.managed_credential import ManagedCredential
from agent.state.records import Debt

JOB = "tell "
"""The prefix of the lines' names in the scheduler."""


@dataclass
class Dependent:
    """One dependent."""

    identity: tuple[str, ...]
    members: list[tuple[ManagedCredential, Notifier]] = field(default_factory=list)
    in_flight: bool = False
    overdue: bool = False  # its time came while it was in flight
    patient_until: float | None = None  # boottime until which it waits for those whose turn has not come
    waits: bool = False  # its time came before its turn
    telling: dict[str, Debt] = field(default_factory=dict)
    overtaken: threading.Event = field(default_factory=threading.Event)
    last_error: str = ""
    last_doubt: dict[str, str] = field(default_factory=dict)
    """For each credential what the log said last of why the news may not take effect: it is not said at each publish."""
    began: float = 0.0  # boottime of the present try
    first_try: dict[str, tuple[Debt, float]] = field(default_factory=dict)
    """For each credential its debt, and the boottime of the first try of it in this process: `retry_for` counts from there,
    whatever the wall clock."""

    @property
    def job(self) -> str:
        """Its name in the scheduler."""
        return JOB + "\0".join(self.identity)

    def join(self, managed: ManagedCredential, notifier: Notifier) -> None:
        """Add a credential that names it; one that names it twice counts with the lower order."""
        mine = [(one, other) for one, other in self.members if one is managed]
        if not mine or notifier.settings.order < mine[0][1].settings.order:
            self.members = [*(entry for entry in self.members if entry not in mine), (managed, notifier)]

    def owed(self) -> Iterator[tuple[ManagedCredential, Notifier, Debt]]:
        """What is owed to it now."""
        for managed, notifier in self.members:
            if managed.state.half_switched or managed.astray:
                continue  # its files do not agree yet, or are not there: recovery or a refresh comes first
            for debt in managed.state.debts:
                if debt.identity == self.identity:
                    yield managed, notifier, debt

    def tried_first(self, managed: ManagedCredential, debt: Debt) -> float:
        """Boottime of the first try of this very debt."""
        known, began = self.first_try.get(managed.name, (debt, self.began))
        if known is not debt:
            began = self.began
        self.first_try[managed.name] = (debt, began)
        return began
