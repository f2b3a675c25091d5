"""What the run before this one left: read, put right, and swept up, before anything else is done."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from agent.core.errors import KeyturnError
from agent.logs.log import log
from agent.refresh.managed_credential import ManagedCredential
from agent.refresh.recorder import Recorder
from agent.sinks.transaction import transaction
from agent.system.clock import Clock


def _nothing(_managed: ManagedCredential) -> None:
    pass


class CrashRecovery:
    """The recovery from a crash, at a start and before each refresh. Belongs to the loop's thread."""

    def __init__(self, recorder: Recorder, clock: Clock) -> None:
        self._recorder, self._clock = recorder, clock

    def recall(self, managed: ManagedCredential) -> None:
        """Read what is remembered of a credential.

        Raises:
            KeyturnError: it cannot be read.
        """
        self._recorder.recall(managed)

    def mend(
        self, managed: ManagedCredential, *, then: Callable[[ManagedCredential], None] = _nothing
    ) -> KeyturnError | None:
        """Finish or undo an interrupted publish; what cannot be done now is tried again before the next refresh.

        Args:
            managed: the credential.
            then: called where there was one, for its dependents are owed the news anew; also where only the record of it
                cannot be written.

        Returns:
            why it cannot be put right now; None where it is, or nothing was to be done.
        """
        error: KeyturnError | None = None
        try:
            mended = self._recorder.recover(managed, self._clock.now())
        except KeyturnError as failure:
            log.error("an interrupted publish cannot be put right yet", credential=managed.name, error=str(failure))
            mended, error = managed.state.journal.is_switched, failure
        if mended:
            managed.look_for_sinks()
            then(managed)
        return error

    def sweep(self, credentials: Iterable[ManagedCredential], everyone: Iterable[ManagedCredential]) -> None:
        """Remove staged files that lie beside the sinks of `credentials`, but for those that a journal of anyone still needs."""
        needed = [entry for managed in everyone for entry in managed.state.journal.staged]
        found = transaction.sweep([sink for managed in credentials for sink in managed.sinks], needed)
        if found:
            log.warning("staged files of an earlier run were removed", files=found)
