"""Through which mount a file was opened, and what its file system promises: proc(5), fdinfo and mountinfo."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

NAMES_FOLLOW_FILES = frozenset({"ext3", "ext4", "xfs", "btrfs", "tmpfs", "ramfs"})
"""Where the fsync of a new file makes its name durable too, or where nothing is.

POSIX promises only the content, and wants an fsync of the directory. These file systems have one journal (btrfs: one log)
for names and files, in which the name comes first (docs/crash.md tells how this was proved). Not overlay, whose promise
is that of the file system below it, and not f2fs, ext2, NFS and the rest, which nobody here has tried."""


class Opened(Protocol):
    """Something that holds a descriptor open."""

    @property
    def fd(self) -> int:
        """The descriptor."""


T = TypeVar("T", bound=Opened)


def mount_id(fd: int) -> int | None:
    """The id of the mount through which a file was opened; None where /proc is not mounted."""
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
    """Those of some directories in which a new name needs a flush of its own to survive a power cut.

    Asked of the mounts each time (some ten microseconds), and by mount rather than by device number: that of btrfs
    stands in no table.
    """
    types = _types()
    return (one for one in directories if types.get(mount_id(one.fd)) not in NAMES_FOLLOW_FILES)


def _types() -> dict[int | None, str]:
    """The type of every mounted file system by the mount's id; empty where /proc is not mounted."""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as table:
            return dict(map(_id_and_type, table))
    except OSError:
        return {}


def _id_and_type(line: str) -> tuple[int, str]:
    """The first word, and the first behind the lone dash that ends the optional ones."""
    before, _dash, behind = line.partition(" - ")
    return int(before.split(" ", 1)[0]), behind.split(" ", 1)[0]
