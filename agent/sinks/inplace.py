"""`write = "in_place"`: new content in the same inode, for a bind-mounted single file.

A rename cannot reach such a mount: it is another inode that the container holds. The price, which only this way
of writing has: a reader in the middle of the one write can see a mixture, and whoever holds the file open already
reads the new value too, since owner and mode are asked for at open(2) only. The staged file stays beside the target
until the write is flushed, so a crash in the middle is finished.
"""

from __future__ import annotations

import contextlib
import errno
import os

from agent.sinks.target import Attributes
from agent.system import files
from agent.system.safepath import Directory

_WRITE = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def overwrite(directory: Directory, name: str, inode: int, content: bytes, wanted: Attributes, mtime_ns: int) -> None:
    """Put content into an existing file, attributes first.

    Whoever is shut out by them can no longer open the file when the new value comes. Who has it open since before
    reads the new value all the same.

    One write of everything and then a cut, rather than a cut and then a write: a reader never sees it empty.

    Args:
        directory: that of the target, pinned.
        name: of the target in it.
        content: what it shall hold.
        wanted: owner and mode.
        inode: of the file that was checked; another one that took its name since is not written.
        mtime_ns: that of the staged file, given to the target last: recovery knows by it that this is done.

    Raises:
        OSError: the target may be half written; the staged file still holds everything.
    """
    fd = files.open_regular(name, directory.fd, _WRITE)
    try:
        found = os.fstat(fd)
        if found.st_ino != inode or found.st_nlink > 1:
            raise OSError(errno.ESTALE, "not the file that was checked", name)
        files.give(fd, wanted.mode, (wanted.uid, wanted.gid))
        files.write_all(fd, content)
        os.ftruncate(fd, len(content))
        with contextlib.suppress(PermissionError):  # a file of another user's: then recovery writes it again
            os.utime(fd, ns=(mtime_ns, mtime_ns))
        os.fsync(fd)
    finally:
        os.close(fd)
