"""Directories that nobody else can exchange during a publish: each step of the path is checked, then the end held open.

A root daemon that writes into directories of other users must not be led elsewhere. So each component of the path
is opened relative to the one before, without following links, and every later operation is relative to the
descriptor of the last one. These are refused:

* a parent directory that everyone can write, sticky or not: anybody can plant the target or take its name;
* an ancestor that everyone can write and that is not sticky: anybody can rename the branch below it away;
* a symbolic link on the way that neither root nor the agent's own user owns: its owner chooses where we write.
  Links of root (`/var/run`) are followed.

Rejected: `os.path.realpath` followed by checks, because the check and the use are then two look-ups of the
same names; openat2(RESOLVE_NO_SYMLINKS), because it would refuse `/var/run` too and Python has no binding.
"""

from __future__ import annotations

import errno
import os
import shlex
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath

from agent.core.errors import NotPermittedError, SinkError
from agent.system.accounts import user_name
from agent.system.mounts import mount_id
from agent.system.oserrors import explain, is_permission
from agent.system.trusted_path import Judge, open_judged

_LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PASS = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class PathRefusedError(SinkError):
    """The directory of a file is missing or cannot be trusted."""


class PathMissingError(PathRefusedError):
    """The directory of a file is not there."""


class PathNotPermittedError(PathRefusedError, NotPermittedError):
    """The agent's user may not enter or read the directory of a file."""


@dataclass(frozen=True, slots=True)
class Directory:
    """A checked directory, held open. Names given to its methods are single components.

    Attributes:
        fd: an open descriptor, for `dir_fd=`.
        path: the path as the operator wrote it, for messages.
        identity: its device and inode.
        uid: its owner.
        mode: its permission bits.
    """

    fd: int
    path: str
    identity: tuple[int, int]
    uid: int
    mode: int

    def __enter__(self) -> Directory:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.fd)

    @classmethod
    def of(cls, fd: int, path: str) -> Directory:
        """Describe an open directory."""
        found = os.fstat(fd)
        return cls(fd, path, (found.st_dev, found.st_ino), found.st_uid, stat.S_IMODE(found.st_mode))

    def open_below(self, name: str) -> Directory:
        """Open a directory in this one, following no link. Who may write it is for the caller to judge.

        Raises:
            OSError: as the kernel says; ENOTDIR for a link too.
        """
        return Directory.of(os.open(name, _LIST, dir_fd=self.fd), self.join(name))

    def join(self, name: str) -> str:
        """Return the full path of a name, for messages."""
        return f"{self.path.rstrip('/')}/{name}"

    def stat(self, name: str) -> os.stat_result | None:
        """Look at a name without following a link; None where there is nothing."""
        try:
            return os.stat(name, dir_fd=self.fd, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def mounted_over(self, fd: int) -> bool:
        """Return whether an open file of this directory is a mount point, which no rename can replace.

        The kernel's mount ids tell (proc(5), fdinfo). The device number does not: a bind mount from the same file
        system has that of its directory, and files on overlayfs have another one than theirs. Where /proc is not
        mounted the answer is no, and the rename fails with EBUSY.
        """
        here, there = mount_id(self.fd), mount_id(fd)
        return here is not None and there is not None and here != there

    def remove(self, name: str) -> None:
        """Remove a name, if it is there."""
        try:
            os.unlink(name, dir_fd=self.fd)
        except FileNotFoundError:
            return

    def sync(self) -> None:
        """Make the names in this directory durable."""
        os.fsync(self.fd)

    @property
    def shared_with(self) -> int:
        """The group-write bit; non-zero where a group may replace the files in it."""
        return self.mode & stat.S_IWGRP


def open_directory(
    path: str, make_with: Callable[[], str] = lambda: "install -d -m 0750", *, only_to_read: bool = False
) -> Directory:
    """Open a directory, checking every step of its path.

    Args:
        path: absolute.
        make_with: returns the command that the remedy of a missing directory names. Asked for only then: to find out
            who runs keyturn takes longer than to open the directory, and each poll opens it.
        only_to_read: a file in it that is judged by its own owner and mode. Then the directory may be a sticky one
            that everyone can write, such as /tmp: who plants a file there owns it, and nobody can take the name of
            another's. And it need not be listed, so the right to pass through it is enough.

    Raises:
        PathMissingError: it is missing.
        PathRefusedError: it is no directory, or somebody else could lead the path elsewhere.
    """
    try:
        fd = open_judged(path, _PASS if only_to_read else _LIST, _judge_for(path))
    except OSError as error:
        raise _refusal(error, path, make_with) from error
    try:
        found = os.fstat(fd)
        sticky = only_to_read and found.st_mode & stat.S_ISVTX
        if found.st_mode & stat.S_IWOTH and not sticky:
            raise PathRefusedError(
                f"{path}: everyone can write this directory, so anybody could replace the file in it",
                f"take that right away (`chmod o-w {shlex.quote(path)}`) or choose another directory",
            )
        return Directory.of(fd, path)
    except BaseException:
        os.close(fd)
        raise


def reopen_directory(path: str, identity: tuple[int, int]) -> Directory | None:
    """Open a directory again that was checked a moment ago; None where it is not the same one any more.

    Its device and inode prove that, whichever way the path leads now, so the steps need no second check.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    found = os.fstat(fd)
    if (found.st_dev, found.st_ino) != identity or found.st_mode & stat.S_IWOTH:
        os.close(fd)
        return None
    return Directory.of(fd, path)


def _judge_for(path: str) -> Judge:
    def judge(_shown: str, found: os.stat_result, is_last: bool) -> None:
        if stat.S_ISLNK(found.st_mode):
            _refuse_foreign_link(found, path)
        elif not is_last:  # the last one is judged by `open_directory`, which knows what it is for
            _refuse_open(found, path)

    return judge


@lru_cache(maxsize=1024)
def split(path: str) -> tuple[str, str]:
    """Return (parent, name) of a path. Cached, because each poll asks about the same few paths."""
    whole = PurePosixPath(path)
    return str(whole.parent), whole.name


def _refuse_foreign_link(found: os.stat_result, path: str) -> None:
    if found.st_uid not in (0, os.geteuid()):
        raise PathRefusedError(
            f"{path}: user {user_name(found.st_uid)} owns a symbolic link on the way and decides where it leads",
            "name the real directory in the config, or let root own the link",
        )


def _refuse_open(found: os.stat_result, path: str) -> None:
    if found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
        raise PathRefusedError(
            f"{path}: everyone can write a directory above it, so anybody could put another one in its place",
            f"find it with `namei -l {shlex.quote(path)}` and take that right away (`chmod o-w`)",
        )


def _refusal(error: OSError, path: str, make_with: Callable[[], str]) -> PathRefusedError:
    if is_permission(error):
        return PathNotPermittedError.of(explain(error, path).at(f"{path}: cannot open this directory"))
    if isinstance(error, FileNotFoundError):
        return PathMissingError(f"{path}: this directory is missing", f"make it: `{make_with()} {shlex.quote(path)}`")
    if isinstance(error, NotADirectoryError):
        return PathRefusedError(f"{path}: this is not a directory", "correct the path in the config")
    if error.errno == errno.ELOOP:
        return PathRefusedError(f"{path}: there are too many symbolic links on the way", "name the real directory")
    return PathRefusedError.of(explain(error, path).at(f"{path}: cannot open this directory"))


def names(directory: Directory) -> Iterator[str]:
    """Yield the names in a directory."""
    return iter(os.listdir(directory.fd))
