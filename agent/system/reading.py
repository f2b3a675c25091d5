"""Bounded reads of regular files, and of files that decide what is run: no link is followed by chance, no FIFO waited for.

By itself, and without what writes files, because every command begins by reading one (agent/config/outline.py).
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable

from agent.system.trusted_path import open_trusted, refuse_foreign_writers

READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class NotRegularError(OSError):
    """The name is taken by something that is not a regular file."""


class TooLargeError(OSError):
    """The file holds more than the reader is ready to take."""


def open_regular(path: os.PathLike[str] | str, dir_fd: int | None = None, flags: int = READ) -> int:
    """Open a regular file, following no link and waiting for no FIFO.

    Raises:
        NotRegularError: it is a link, a directory, a FIFO, a socket or a device.
        OSError: as the kernel says.
    """
    return _regular(lambda: os.open(path, flags, dir_fd=dir_fd), path)


def _regular(open_it: Callable[[], int], path: os.PathLike[str] | str) -> int:
    try:
        fd = open_it()
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR):
            raise NotRegularError(error.errno, "not a regular file", str(path)) from error
        raise
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise NotRegularError(errno.EINVAL, "not a regular file", str(path))
    return fd


def read_fd(fd: int, limit: int, path: os.PathLike[str] | str) -> bytes:
    """Read an open file to its end.

    Raises:
        TooLargeError: it holds more than `limit` bytes.
    """
    chunks: list[bytes] = []
    left = limit + 1
    while left > 0 and (chunk := os.read(fd, min(left, 1 << 16))):
        chunks.append(chunk)
        left -= len(chunk)
    if left <= 0:
        raise TooLargeError(errno.EFBIG, f"larger than {limit} bytes", str(path))
    return b"".join(chunks)


def read_regular(path: os.PathLike[str] | str, limit: int, dir_fd: int | None = None) -> bytes | None:
    """Return the content of a regular file, None where there is none.

    Raises:
        NotRegularError: the name is taken by something else.
        TooLargeError: it holds more than `limit` bytes.
        OSError: as the kernel says.
    """
    try:
        fd = open_regular(path, dir_fd)
    except FileNotFoundError:
        return None
    try:
        return read_fd(fd, limit, path)
    finally:
        os.close(fd)


def read_trusted(path: os.PathLike[str] | str, limit: int) -> bytes:
    """Return the content of a file that holds no secret, but decides what is run or where a key is sent.

    Links are followed; what counts is the file at their end, and every directory and link on the way.

    Raises:
        CredentialFileError: somebody besides root and the agent's user can write it, or put another in its place.
        NotRegularError: it is something else than a file.
        TooLargeError: it holds more than `limit` bytes.
        OSError: as the kernel says.
    """
    fd = _regular(lambda: open_trusted(path, READ), path)
    try:
        refuse_foreign_writers(os.fstat(fd), str(path))
        return read_fd(fd, limit, path)
    finally:
        os.close(fd)
