"""The mount through which a file was opened, and what its file system promises: proc(5), fdinfo and mountinfo."""

from __future__ import annotations

import os
import select
from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

NAMES_FOLLOW_FILES = frozenset({"ext3", "ext4", "xfs", "btrfs", "tmpfs", "ramfs"})
"""File systems on which the fsync of a new file makes its name durable too, or on which nothing is durable.

POSIX promises only the content, and wants an fsync of the directory. These file systems have one journal (btrfs: one log)
for names and files, in which the name comes first (docs/crash.md tells how this was proved). Not overlay, whose promise
is that of the file system below it, and not f2fs, ext2, NFS and the rest, which nobody here has tried."""

NAMES_IN_ORDER = NAMES_FOLLOW_FILES - {"btrfs"}
"""File systems on which of two new names, in whatever directories, the older one is durable first.

btrfs is not among them: it logs what is flushed, and not what was made before that elsewhere."""


class Opened(Protocol):
    """An object that holds a descriptor open."""

    @property
    def fd(self) -> int:
        """The descriptor."""


T = TypeVar("T", bound=Opened)


def mount_id(fd: int) -> int | None:
    """Return the id of the mount through which a file was opened; None where /proc is not mounted."""
    try:
        info = os.open(f"/proc/self/fdinfo/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        found = os.read(info, 4096).partition(b"mnt_id:")[2].split(None, 1)
    finally:
        os.close(info)
    return int(found[0]) if found else None


def forgetful(directories: Iterable[T]) -> Iterator[T]:
    """Yield the directories in which a new name needs a flush of its own to survive a power cut.

    They are told by their mounts, not by their device numbers: that of a btrfs is in no table.
    """
    return _not_on(NAMES_FOLLOW_FILES, directories)


def disordered(directories: Iterable[T]) -> Iterator[T]:
    """Yield the directories whose new names need a flush of their own to be durable before younger names elsewhere."""
    return _not_on(NAMES_IN_ORDER, directories)


def enough(newest_first: Iterable[T]) -> Iterator[T]:
    """Yield the directories whose flush makes the new names in all of them durable.

    Where names are durable in their order, the flush of the newest one takes all older ones of its file system with it.

    Args:
        newest_first: directories with new names, the one with the newest name first.
    """
    types, covered = _mounts.types(), set[int]()
    for one in dict.fromkeys(newest_first):
        device = os.fstat(one.fd).st_dev
        if device in covered:
            continue
        if types.get(mount_id(one.fd)) in NAMES_IN_ORDER:
            covered.add(device)
        yield one


def _not_on(known: frozenset[str], directories: Iterable[T]) -> Iterator[T]:
    types = _mounts.types()
    return (one for one in directories if types.get(mount_id(one.fd)) not in known)


class _Mounts:
    """The table of mounts, read again when the kernel says that it changed (proc_pid_mountinfo(5): POLLPRI)."""

    def __init__(self) -> None:
        self._fd = -1
        self._changed = select.poll()
        self._types: dict[int | None, str] = {}

    def types(self) -> dict[int | None, str]:
        """Return the type of every mounted file system by the mount's id; empty where /proc is not mounted."""
        try:
            if self._fd < 0:
                self._fd = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
                self._changed.register(self._fd, select.POLLPRI)
            elif not self._changed.poll(0):
                return self._types
            self._types = dict(map(_id_and_type, self._read().splitlines()))
        except OSError:
            return {}
        return self._types

    def _read(self) -> str:
        os.lseek(self._fd, 0, os.SEEK_SET)
        return b"".join(iter(lambda: os.read(self._fd, 65536), b"")).decode("utf-8", "replace")


_mounts = _Mounts()


def _id_and_type(line: str) -> tuple[int, str]:
    """Return the id and the type in a line of mountinfo: the first word, and the first one after the lone dash."""
    before, _dash, behind = line.partition(" - ")
    return int(before.split(" ", 1)[0]), behind.split(" ", 1)[0]
