"""`write = "in_place"`: new content in the same inode, for a bind-mounted single file.

A rename would not reach the container, which holds the old inode. This way has a price that the others have not: a
reader in the middle of the one write can see a mixture, and whoever holds the file open already reads the new value
too, since owner and mode count at open(2) only. The staged file stays beside the target until the write is flushed, so
a write that a crash interrupted is finished.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass

from agent.sinks.transaction.change import Change, Stage
from agent.sinks.transaction.replace import FilePlan, FileRemains, StagedFile, is_whole
from agent.sinks.transaction.target import MAX_FILE_BYTES, Attributes
from agent.system import files
from agent.system.file_identity import FileIdentity
from agent.system.trusted_directory import Directory

_WRITE = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class InPlacePlan(FilePlan):
    """The plan of an existing file that keeps its inode. A missing one has none to keep, and is replaced."""

    def _stage(self, directory: Directory) -> Change:
        return StagedInPlace(self, directory)


class StagedInPlace(StagedFile):
    """A target and the temporary file that is to be copied into it."""

    __slots__ = ()
    way = "in_place"

    def switch(self) -> None:
        """Copy, and remove the temporary file; see `Change.switch`."""
        plan = self.plan
        overwrite(self.directory, plan.name, self._is_checked, plan.content, plan.wanted, self.identity.mtime_ns)
        self.directory.remove(self.temp)

    def _is_checked(self, found: os.stat_result) -> bool:
        """Compare more than the inode number: ext4 gives that of a removed file to the next new one."""
        return FileIdentity.of(found) == self.plan.present.identity


class InPlaceRemains(FileRemains):
    """A staged file after a crash, and the target that it was to be copied into."""

    __slots__ = ()

    def _moved(self, target: os.stat_result | None) -> Stage:
        """Return BEGUN if the target is still the same file; see `FileRemains._moved`."""
        before = self.record["before"]
        if target is None or before is None or not stat.S_ISREG(target.st_mode):
            return Stage.CHANGED
        return Stage.BEGUN if target.st_ino == before[0] else Stage.CHANGED

    @property
    def may_be_begun(self) -> bool:
        """True also for a ready target: the disk may have pages of an unfinished write under the old size and time."""
        return self.stage is Stage.READY or super().may_be_begun

    def _was_switched(self, target: os.stat_result) -> bool:
        return [target.st_size, target.st_mtime_ns] == [self.record["size"], self.record["mtime_ns"]]

    def finish(self) -> None:
        """Copy; see `Remains.finish`. The staged file stays until the copy is durable, since it may be needed again."""
        fd = files.open_regular(self.temp, self.directory.fd)
        try:
            staged = os.fstat(fd)
            if not is_whole(self.record, staged):  # somebody gave its name to another file since the look at it
                raise OSError(errno.ESTALE, "not the file that was staged", self.temp)
            content = files.read_fd(fd, MAX_FILE_BYTES, self.temp)
        finally:
            os.close(fd)
        overwrite(self.directory, self.target, self._is_same, content, Attributes.of(staged), staged.st_mtime_ns)

    def _is_same(self, found: os.stat_result) -> bool:
        return found.st_ino == self.inode


def overwrite(
    directory: Directory,
    name: str,
    is_checked: Callable[[os.stat_result], bool],
    content: bytes,
    wanted: Attributes,
    mtime_ns: int,
) -> None:
    """Write new content into an existing file, after its new attributes.

    Whoever the attributes shut out can no longer open the file when the new value comes. Whoever has it open already
    reads the new value all the same.

    Everything is written at once and the rest then cut off, rather than the other way round, so that no reader sees an
    empty file.

    Args:
        directory: that of the target, pinned.
        name: of the target in it.
        content: the new content.
        wanted: owner and mode.
        is_checked: whether an open file is the one that was checked; another one that took its name since is not
            written.
        mtime_ns: that of the staged file. The target gets it last, by which recovery knows that this was done.

    Raises:
        OSError: the target may be half written; the staged file still holds everything.
    """
    fd = files.open_regular(name, directory.fd, _WRITE)
    try:
        found = os.fstat(fd)
        if not is_checked(found) or found.st_nlink > 1:
            raise OSError(errno.ESTALE, "not the file that was checked", name)
        files.give(fd, wanted.mode, (wanted.uid, wanted.gid))
        files.write_all(fd, content)
        os.ftruncate(fd, len(content))
        with contextlib.suppress(PermissionError):  # a file of another user's: then recovery writes it again
            os.utime(fd, ns=(mtime_ns, mtime_ns))
        os.fsync(fd)
    finally:
        os.close(fd)
