"""The transaction: all sinks of a credential are switched to one generation as one.

    survey = transaction.survey(sinks, credential, generation)
    with survey.stage() as staged:      # whole and flushed beside every target, nothing switched yet
        ...                             # write staged.journal and the debts to the state, and flush
        staged.commit()                 # switch all, flush the directories

The order, and why it is safe to die between any two steps:

1. `stage` writes a temporary file beside every target that is out of sync, with its final owner and mode before
   any content, and flushes it (for a directory: a whole new one). Until here every target is as it was; leaving the
   block removes what was staged.
2. The caller writes the journal and what is owed to whom, and flushes: the point of no return. The journal holds
   names and inode numbers, never content: a secret lives in sinks and in the staged files beside them.
3. `commit` checks once more that nobody touched a target since it was read, switches all of them, and flushes their
   directories: each once, or on ext4 and xfs the one that was switched last, which takes the others with it.
4. After a crash, or an error of `commit`, `recover` finishes or undoes what the journal says. Where it cannot
   finish, `withdraw` gives the publish up, provided that no target was switched.

Each kind of target is staged, switched and recovered in its own way, behind the interface in change.py.

Why all files are written before the first is flushed, and directories only where they must be: docs/adr/0006.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from agent.core.credential import Credential
from agent.core.errors import SinkError
from agent.sinks.interface import Sink
from agent.sinks.transaction.change import Change, Plan, SinkReport, TargetChangedError
from agent.sinks.transaction.plan import Directories, plan, stand
from agent.sinks.transaction.recovery import Recovery, recover, sweep, withdraw
from agent.sinks.transaction.target import refusal
from agent.system.mounts import enough, forgetful
from agent.system.trusted_directory import Directory

__all__ = [
    "CommitInterruptedError",
    "Recovery",
    "SinkReport",
    "Staged",
    "Survey",
    "TargetChangedError",
    "recover",
    "stand",
    "survey",
    "sweep",
    "withdraw",
]


class CommitInterruptedError(SinkError):
    """The switch failed half-way. The journal still says how to finish it: call `recover`."""

    retryable = True


@dataclass(frozen=True, slots=True)
class Survey:
    """The comparison of all sinks of a credential with a value. Holds nothing open."""

    sinks: tuple[SinkReport, ...]
    plans: tuple[Plan, ...]

    @property
    def in_sync(self) -> bool:
        """Whether every target is up to date."""
        return all(one.in_sync for one in self.plans)

    @property
    def out_of_sync(self) -> tuple[str, ...]:
        """The targets that differ."""
        return tuple(sink.target for sink in self.sinks if not sink.in_sync)

    @property
    def only_written_back(self) -> bool:
        """Whether all that differs is what known readers wrote into their files; see `FileSink.only_written_back`."""
        return not self.in_sync and all(sink.in_sync or sink.differs == "written back" for sink in self.sinks)

    def stage(self) -> Staged:
        """Write the new content beside every target that is out of sync, and flush it.

        Raises:
            TargetChangedError: a directory is not the one that was surveyed.
            SinkError: every target is as it was, and nothing is left beside it.
        """
        return Staged([one for one in self.plans if not one.in_sync])


def survey(sinks: Sequence[Sink], credential: Credential, generation: int) -> Survey:
    """Compare all sinks of a credential with a value. Reads only.

    Raises:
        SinkError: a file cannot be read, may not be written, or does not fit its format.
    """
    return Survey(*plan(sinks, credential, generation))


class Staged:
    """Targets that are ready to be switched. A context manager: what was not committed is removed on the way out."""

    def __init__(self, plans: Sequence[Plan]) -> None:
        """Stage; see `Survey.stage`."""
        self._changes: list[Change] = []
        self._directories = Directories()
        self._switching = False
        try:
            for one in plans:
                self._changes.append(one.stage(self._directories.of(one.settings, one.parent)))
            _flush_all(self._changes)
            _flush_names(self._directories)
        except BaseException:
            self.abort()
            raise

    def __enter__(self) -> Staged:
        return self

    def __exit__(self, *_: object) -> None:
        self.abort()

    @property
    def journal(self) -> list[dict[str, Any]]:
        """The entries for `recover`, fit for JSON and without secrets, of the targets that will be switched."""
        return [change.entry() for change in self._changes]

    def commit(self) -> None:
        """Switch every target and make that durable.

        Raises:
            TargetChangedError: somebody touched a target or what was staged; nothing was switched.
            CommitInterruptedError: the switch began and failed; `recover` the journal.
        """
        for change in self._changes:
            _refuse_changed(change)
        # From here on the journal says how to go on: what is staged must survive an error.
        self._switching = True
        for change in self._changes:
            _switch(change)
        for directory in enough(change.directory for change in reversed(self._changes)):
            _sync(directory)
        # Only now: until the renames are durable, a power cut can bring the old state back.
        for change in self._changes:
            change.tidy()
        self._let_go()

    def abort(self) -> None:
        """Remove what was staged, with every target as it was. Once the switch has begun, only close what is open."""
        if not self._switching:
            for change in self._changes:
                change.discard()
        self._let_go()

    def _let_go(self) -> None:
        held, self._changes = self._changes, []
        for change in held:
            change.close()
        self._directories.close()


def _flush_all(staged: Sequence[Change]) -> None:
    for change in staged:
        change.begin_flush()
    for change in staged:
        try:
            change.flush()
        except OSError as error:
            raise change.failed(error, "cannot flush") from error


def _flush_names(directories: Directories) -> None:
    """Make the staged names durable where the flush of the files has not done that."""
    for directory in forgetful(directories):
        try:
            directory.sync()
        except OSError as error:
            raise refusal(error, directory, "", "cannot flush") from error


def _refuse_changed(change: Change) -> None:
    try:
        change.refuse_changed()
    except OSError as error:
        raise change.failed(error, "cannot look at") from error


def _switch(change: Change) -> None:
    try:
        change.switch()
    except OSError as error:
        raise _interrupted(change.failed(error, "cannot switch")) from error


def _sync(directory: Directory) -> None:
    try:
        directory.sync()
    except OSError as error:
        raise _interrupted(refusal(error, directory, "", "cannot flush")) from error


def _interrupted(cause: SinkError) -> CommitInterruptedError:
    return CommitInterruptedError.of(cause.as_problem())
