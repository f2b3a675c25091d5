"""`write = "replace"`: a whole new file beside the target takes its name in one rename.

A file whose owner or mode alone drifted is replaced too, and ACLs are not copied: docs/adr/0006.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agent.core.settings import FileSinkSettings
from agent.sinks.transaction.change import Change, Plan, Remains, Stage, changed
from agent.sinks.transaction.target import Attributes, Present
from agent.system import files
from agent.system.file_identity import FileIdentity
from agent.system.trusted_directory import Directory


@dataclass(frozen=True, slots=True)
class FilePlan(Plan):
    """The present and the new content of one file."""

    settings: FileSinkSettings
    parent: tuple[int, int]
    present: Present
    content: bytes = field(repr=False)
    wanted: Attributes

    @property
    def in_sync(self) -> bool:
        """True when nothing is to be done."""
        return self.content == self.present.content and self.wanted == self.present.attributes

    def _stage(self, directory: Directory) -> Change:
        return StagedFile(self, directory)


class StagedFile(Change):
    """A target and the temporary file that is to take its place; `fd` holds the lock on it."""

    __slots__ = ("directory", "fd", "identity", "plan", "temp")
    way = "replace"
    plan: FilePlan

    def __init__(self, plan: FilePlan, directory: Directory) -> None:
        """Write the temporary file, with its final owner and mode before any content.

        Raises:
            SinkError: it cannot be written; nothing is left behind.
        """
        self.plan, self.directory, self.temp = plan, directory, files.temp_name(plan.name)
        wanted = plan.wanted
        try:
            self.fd = files.create(self.temp, wanted.mode, directory.fd, (wanted.uid, wanted.gid))
        except OSError as error:
            raise self.failed(error, "cannot write") from error
        try:
            files.write_all(self.fd, plan.content)
            self.identity = FileIdentity.of(os.fstat(self.fd))
        except BaseException as error:
            self.discard()
            self.close()
            if isinstance(error, OSError):
                raise self.failed(error, "cannot write") from error
            raise

    def entry(self) -> dict[str, Any]:
        """Return the journal's entry; see `Change.entry`."""
        before = self.plan.present.identity
        return {
            "directory": self.directory.path,
            "temp": self.temp,
            "target": self.plan.name,
            "write": self.way,
            "inode": self.identity.inode,
            "size": self.identity.size,
            "mtime_ns": self.identity.mtime_ns,
            "before": None if before is None else [before.inode, before.size, before.mtime_ns],
        }

    def begin_flush(self) -> None:
        """Ask the kernel to start writing, so that one commit of the file system serves several files."""
        files.begin_flush(self.fd)

    def flush(self) -> None:
        """Make the content durable, and on ext4, xfs and btrfs the new name with it."""
        os.fsync(self.fd)

    def refuse_changed(self) -> None:
        """Look at the target and at the staged file; see `Change.refuse_changed`."""
        target, temp = self.directory.stat(self.plan.name), self.directory.stat(self.temp)
        if (FileIdentity.of(target) if target else None) != self.plan.present.identity:
            raise changed(self.plan.path, "changed this file during the publish")
        if temp is None or FileIdentity.of(temp) != FileIdentity.of(os.fstat(self.fd)):
            raise changed(self.plan.path, "replaced the staged file beside it")

    def switch(self) -> None:
        """Rename; see `Change.switch`."""
        os.rename(self.temp, self.plan.name, src_dir_fd=self.directory.fd, dst_dir_fd=self.directory.fd)

    def discard(self) -> None:
        """Remove the temporary file."""
        with contextlib.suppress(OSError):
            self.directory.remove(self.temp)

    def close(self) -> None:
        """Close the temporary file, and with it its lock."""
        os.close(self.fd)


class FileRemains(Remains):
    """A staged file after a crash, and its target. The device is not compared: it may change over a reboot."""

    __slots__ = ("inode",)
    inode: int
    """The target's inode number; 0 where there is none."""

    def _look(self) -> tuple[Stage, bool]:
        temp, target = self.directory.stat(self.temp), self.directory.stat(self.target)
        self.inode = target.st_ino if target else 0
        return self._judge(temp, target), _state_of(target) == self.record["before"]

    def _judge(self, temp: os.stat_result | None, target: os.stat_result | None) -> Stage:
        if temp is not None and is_whole(self.record, temp):
            return Stage.READY if _state_of(target) == self.record["before"] else self._moved(target)
        if target is None or temp is not None:
            return Stage.LOST
        return Stage.DONE if self._was_switched(target) else Stage.LOST

    def _moved(self, target: os.stat_result | None) -> Stage:
        """Return the stage of a target that is not as it was, while the staged file is still there."""
        return Stage.CHANGED

    def _was_switched(self, target: os.stat_result) -> bool:
        return is_whole(self.record, target)

    def finish(self) -> None:
        """Rename; see `Remains.finish`."""
        os.rename(self.temp, self.target, src_dir_fd=self.directory.fd, dst_dir_fd=self.directory.fd)


def is_whole(record: Mapping[str, Any], found: os.stat_result) -> bool:
    """Return whether a file is the one that was staged, with all of its content."""
    whole = found.st_ino == record["inode"] and found.st_size == record["size"]
    return bool(whole) and stat.S_ISREG(found.st_mode)


def _state_of(found: os.stat_result | None) -> Sequence[int] | None:
    return None if found is None else [found.st_ino, found.st_size, found.st_mtime_ns]
