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
    """Yield the directories in which a new name needs a flush of its own to survive a power cut."""
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
    covered = set[int]()
    for one in dict.fromkeys(newest_first):
        device = os.fstat(one.fd).st_dev
        if device in covered:
            continue
        if _mounts.type_of(one.fd, device) in NAMES_IN_ORDER:
            covered.add(device)
        yield one


def _not_on(known: frozenset[str], directories: Iterable[T]) -> Iterator[T]:
    return (one for one in directories if _mounts.type_of(one.fd, os.fstat(one.fd).st_dev) not in known)


class _Mounts:
    """The table of mounts, read again when the kernel says that it changed (proc_pid_mountinfo(5): POLLPRI)."""

    def __init__(self) -> None:
        self._fd = -1
        self._changed = select.poll()
        self._by_device: dict[int, str] = {}
        self._by_mount: dict[int | None, str] = {}

    def type_of(self, fd: int, device: int) -> str | None:
        """Return the type of the file system of an open directory; None where /proc is not mounted.

        Its device number tells it, or, where that is in no table, as those of btrfs are not, its mount.
        """
        try:
            self._refresh()
        except OSError:
            return None
        return self._by_device.get(device) or self._by_mount.get(mount_id(fd))

    def _refresh(self) -> None:
        if self._fd < 0:
            self._fd = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
            self._changed.register(self._fd, select.POLLPRI)
        elif not self._changed.poll(0):
            return
        mounts = [_mount(line) for line in self._read().splitlines()]
        self._by_device = {device: kind for _mount_id, device, kind in mounts}
        self._by_mount = {mount_id: kind for mount_id, _device, kind in mounts}

    def _read(self) -> str:
        os.lseek(self._fd, 0, os.SEEK_SET)
        return b"".join(iter(lambda: os.read(self._fd, 65536), b"")).decode("utf-8", "replace")


_mounts = _Mounts()


def _mount(line: str) -> tuple[int, int, str]:
    """Return id, device and type in a line of mountinfo: the first and third word, and the first one after the lone dash."""
    before, _dash, behind = line.partition(" - ")
    number, _parent, device, _rest = before.split(" ", 3)
    major, minor = map(int, device.split(":"))
    return int(number), os.makedev(major, minor), behind.split(" ", 1)[0]
