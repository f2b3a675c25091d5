"""One dependent: which credentials name it, what it is owed, and how telling it goes."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping

from agent.notifiers.interface import Notifier
from agent.refresh.managed_credential import ManagedCredential
from agent.runtime.scheduler import Job, JobKind
from agent.state.records import Debt

Owed = tuple[ManagedCredential, Notifier, Debt]


class Dependent:
    """One dependent: all notifiers of the config with one identity. Changed by its own methods alone, on the loop's thread."""

    def __init__(self, identity: tuple[str, ...]) -> None:
        self.identity = identity
        self.job = Job(JobKind.TELL, identity)
        self._members: tuple[tuple[ManagedCredential, Notifier], ...] = ()
        self._telling: Mapping[str, Debt] | None = None  # what it is being told of now
        self._overtaken = threading.Event()
        self._rang_meanwhile = False
        self._waits_for_its_turn = False
        self._patient_until: float | None = None
        self._began = 0.0  # boottime of the present try
        # For each credential its debt, and the boottime of the first try of it in this process: `retry_for` counts from
        # there, whatever the wall clock.
        self._first_try: dict[str, tuple[Debt, float]] = {}
        self._last_error = ""
        self._last_doubt: dict[str, str] = {}

    # -- who names it -------------------------------------------------------------------------------

    def leave(self) -> None:
        """Forget the credentials that name it, before those of a new config are added."""
        self._members = ()

    def join(self, managed: ManagedCredential, notifier: Notifier) -> None:
        """Add a credential that names it; one that names it twice counts with the lower order."""
        mine = [(one, other) for one, other in self._members if one is managed]
        if not mine or notifier.settings.order < mine[0][1].settings.order:
            self._members = (*(entry for entry in self._members if entry not in mine), (managed, notifier))

    def owed(self) -> Iterator[Owed]:
        """Yield what is owed to it now."""
        for managed, notifier in self._members:
            if managed.state.journal.is_half_switched or managed.astray:
                continue  # its files do not agree yet, or are not there: recovery or a refresh comes first
            debt = managed.state.ledger.debt_to(self.identity)
            if debt is not None:
                yield managed, notifier, debt

    # -- when it is told ----------------------------------------------------------------------------

    @property
    def in_flight(self) -> bool:
        """Whether it is being told now."""
        return self._telling is not None

    @property
    def rang_meanwhile(self) -> bool:
        """Whether it was due while it was being told."""
        return self._rang_meanwhile

    @property
    def waits(self) -> bool:
        """Whether it was due before its turn had come, or waits so that it is told of several credentials at once."""
        return self._waits_for_its_turn or self._patient_until is not None

    def rang(self, *, waits_for_its_turn: bool) -> None:
        """Note that it was due to be told."""
        self._rang_meanwhile, self._waits_for_its_turn = self.in_flight, waits_for_its_turn

    def patient_until(self, otherwise: float) -> float:
        """Return the boottime until which it waits for other credentials' turns; set it to `otherwise` when the wait begins."""
        if self._patient_until is None:
            self._patient_until = otherwise
        return self._patient_until

    # -- telling ------------------------------------------------------------------------------------

    def begin(self, debts: Mapping[str, Debt], now: float) -> threading.Event:
        """Note that it is being told of these debts; return an event that is set when newer news comes meanwhile."""
        self._telling, self._began, self._patient_until = debts, now, None
        self._overtaken = threading.Event()
        return self._overtaken

    def news(self, credential: str, debt: Debt) -> None:
        """End the wait for the pickup of what it is being told of, unless that is this very debt."""
        if self._telling is None or self._telling.get(credential) is not debt:
            self._overtaken.set()

    def ended(self) -> None:
        """Note that the delivery has ended."""
        self._telling = None

    def failing(self, error: str) -> None:
        """Note why it could not be told; "" where it was."""
        self._last_error = error

    def is_new_error(self, error: str) -> bool:
        """Return whether the try before did not fail with the same words."""
        return error != self._last_error

    @property
    def began(self) -> float:
        """The boottime at which the present try began, or the last."""
        return self._began

    @property
    def last_error(self) -> str:
        """Why it could not be told last; "" where it was."""
        return self._last_error

    def tried_first(self, credential: str, debt: Debt) -> float:
        """Return the boottime of the first try of this very debt."""
        known, began = self._first_try.get(credential, (debt, self._began))
        if known is not debt:
            began = self._began
        self._first_try[credential] = (debt, began)
        return began

    def settled(self, credential: str) -> None:
        """Note that nothing is owed any more on account of this credential."""
        self._first_try.pop(credential, None)

    def new_doubt(self, credential: str, doubt: str) -> str:
        """Return why the news may have no effect, "" where that was said at the last telling."""
        before, self._last_doubt[credential] = self._last_doubt.get(credential, ""), doubt
        return doubt if doubt != before else ""
