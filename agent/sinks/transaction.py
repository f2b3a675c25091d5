"""All sinks of a credential switched to one generation as one.

    survey = transaction.survey(sinks, credential, generation)
    with survey.stage() as staged:      # whole and flushed beside every target, nothing switched yet
        ...                             # write staged.journal and the debts to the state, and flush
        staged.commit()                 # switch all, flush the directories

The order, and why it is safe to die between any two steps:

1. `stage` writes a temporary file beside every target that is out of sync, with its final owner and mode before
   any content, and flushes it. Until here every target is as it was; leaving the block removes what was staged.
2. The caller writes the journal and what is owed to whom, and flushes: the point of no return. The journal holds
   names and inode numbers, never content: a secret lives in sinks and in the staged files beside them.
3. `commit` looks once more whether somebody touched a target since it was read, switches all of them, and flushes
   each directory once.
4. After a crash, or an error of `commit`, `recover` finishes or undoes what the journal says. Where it cannot
   finish, `withdraw` gives the publish up, provided that no target was switched.

Decisions. Attribute drift alone is also mended by replacing the file: chmod or chown of what stands at a path
would be done to a hard link that another user put there. All files are written before the first is flushed, so
that one journal commit of the file system can serve them all. The directory is not flushed after staging: ext4,
xfs and btrfs make a new file's name durable with its fsync. Extended attributes and ACLs of a replaced file are
not copied: the new file gets its directory's default ACL and label, as any file made there.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from agent.core.credential import Credential
from agent.core.errors import SinkError
from agent.sinks.inplace import overwrite
from agent.sinks.interface import FileSink
from agent.sinks.plan import Directories, FilePlan, SinkReport, plan, stand
from agent.sinks.recovery import Recovery, recover, sweep, withdraw
from agent.sinks.target import Identity, refusal
from agent.system import files
from agent.system.safepath import Directory

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


class TargetChangedError(SinkError):
    """Somebody wrote a target between survey and commit. Nothing was switched: begin anew."""

    retryable = True


class CommitInterruptedError(SinkError):
    """The switch failed half way. The journal still says how to finish: `recover` it."""

    retryable = True


@dataclass(frozen=True, slots=True)
class Survey:
    """The outcome of a look at all sinks of a credential. Holds nothing open."""

    sinks: tuple[SinkReport, ...]
    files: tuple[FilePlan, ...]

    @property
    def in_sync(self) -> bool:
        """True when every file is as it shall be."""
        return all(file.in_sync for file in self.files)

    @property
    def out_of_sync(self) -> tuple[str, ...]:
        """The targets that differ."""
        return tuple(sink.target for sink in self.sinks if not sink.in_sync)

    def stage(self) -> Staged:
        """Write and flush a temporary file beside every target that is out of sync.

        Raises:
            TargetChangedError: a directory is not the one that was surveyed.
            SinkError: every target is as it was, and nothing is left beside it.
        """
        return Staged([file for file in self.files if not file.in_sync])


def survey(sinks: Sequence[FileSink], credential: Credential, generation: int) -> Survey:
    """Compare all sinks of a credential with a value. Reads, writes nothing.

    Raises:
        SinkError: a file cannot be read, may not be written, or does not fit its format.
    """
    return Survey(*plan(sinks, credential, generation))


@dataclass(frozen=True, slots=True)
class _StagedFile:
    """A target and the temporary file that shall take its place; `fd` holds the lock on it."""

    plan: FilePlan
    directory: Directory
    temp: str
    fd: int
    identity: Identity

    def entry(self) -> dict[str, Any]:
        """What recovery needs to know of this file."""
        before = self.plan.present.identity
        return {
            "directory": self.directory.path,
            "temp": self.temp,
            "target": self.plan.name,
            "write": "in_place" if self.plan.in_place else "replace",
            "inode": self.identity.inode,
            "size": self.identity.size,
            "mtime_ns": self.identity.mtime_ns,
            "before": None if before is None else [before.inode, before.size, before.mtime_ns],
        }

    def failed(self, error: OSError, doing: str) -> SinkError:
        return refusal(error, self.directory, self.plan.name, doing)


class Staged:
    """Files ready to be switched. A context manager: what was not committed is removed on the way out."""

    def __init__(self, plans: Sequence[FilePlan]) -> None:
        """Stage; see `Survey.stage`."""
        self._files: list[_StagedFile] = []
        self._directories = Directories()
        self._switching = False
        try:
            for one in plans:
                self._files.append(_write(one, self._directories.of(one.settings, one.parent)))
            _flush_all(self._files)
        except BaseException:
            self.abort()
            raise

    def __enter__(self) -> Staged:
        return self

    def __exit__(self, *_: object) -> None:
        self.abort()

    @property
    def journal(self) -> list[dict[str, Any]]:
        """JSON-able entries for `recover`, without secrets, of the files that will be written."""
        return [file.entry() for file in self._files]

    def commit(self) -> None:
        """Switch every target and make that durable.

        Raises:
            TargetChangedError: somebody touched a target or a staged file; nothing was switched.
            CommitInterruptedError: the switch began and failed; `recover` the journal.
        """
        for file in self._files:
            _refuse_changed(file)
        self._switching = True
        for file in self._files:
            _switch(file)
        for directory in self._directories:
            _sync(directory)
        self._let_go()

    def abort(self) -> None:
        """Remove what was staged; every target is as it was. Once the switch began, only let go."""
        if not self._switching:
            for file in self._files:
                with contextlib.suppress(OSError):
                    file.directory.remove(file.temp)
        self._let_go()

    def _let_go(self) -> None:
        held, self._files = self._files, []
        for file in held:
            os.close(file.fd)
        self._directories.close()


def _write(one: FilePlan, directory: Directory) -> _StagedFile:
    if directory.identity != one.parent:
        raise TargetChangedError(f"{one.path}: somebody replaced its directory during the publish", "it is tried again")
    temp, wanted = files.temp_name(one.name), one.wanted
    try:
        fd = files.create(temp, wanted.mode, directory.fd, (wanted.uid, wanted.gid))
    except OSError as error:
        raise refusal(error, directory, one.name, "cannot write") from error
    try:
        files.write_all(fd, one.content)
        return _StagedFile(one, directory, temp, fd, Identity.of(os.fstat(fd)))
    except BaseException as error:
        os.close(fd)
        with contextlib.suppress(OSError):
            directory.remove(temp)
        if isinstance(error, OSError):
            raise refusal(error, directory, one.name, "cannot write") from error
        raise


def _flush_all(staged: Sequence[_StagedFile]) -> None:
    for file in staged:
        files.begin_flush(file.fd)
    for file in staged:
        try:
            os.fsync(file.fd)
        except OSError as error:
            raise file.failed(error, "cannot flush") from error


def _refuse_changed(file: _StagedFile) -> None:
    try:
        target, temp = file.directory.stat(file.plan.name), file.directory.stat(file.temp)
    except OSError as error:
        raise file.failed(error, "cannot look at") from error
    path = file.plan.path
    if (Identity.of(target) if target else None) != file.plan.present.identity:
        raise TargetChangedError(f"{path}: somebody changed this file during the publish", "it is tried again")
    if temp is None or Identity.of(temp) != Identity.of(os.fstat(file.fd)):
        raise TargetChangedError(f"{path}: somebody replaced the staged file beside it", "it is tried again")


def _switch(file: _StagedFile) -> None:
    directory, one = file.directory, file.plan
    try:
        if one.in_place and one.present.identity is not None:
            overwrite(directory, one.name, one.present.identity.inode, one.content, one.wanted, file.identity.mtime_ns)
            directory.remove(file.temp)
        else:
            os.rename(file.temp, one.name, src_dir_fd=directory.fd, dst_dir_fd=directory.fd)
    except OSError as error:
        raise _interrupted(file.failed(error, "cannot switch")) from error


def _sync(directory: Directory) -> None:
    try:
        directory.sync()
    except OSError as error:
        raise _interrupted(refusal(error, directory, "", "cannot flush")) from error


def _interrupted(cause: SinkError) -> CommitInterruptedError:
    return CommitInterruptedError(cause.problem, cause.remedy)
