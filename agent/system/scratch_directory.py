"""A directory for one run: private, locked while it is in use, and removed at its end; one that a dead run left is removed too.

The lock is flock(2) on the directory itself, which the kernel drops however the process ends: so a run that was killed is told
from one that goes on, without a pid that somebody else could have by now.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from agent.core.errors import KeyturnError
from agent.system import files
from agent.system.oserrors import explain

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class ScratchDirectory:
    """The directory, while it is in use."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def can_give(self, uid: int, gid: int) -> bool:
        """Return whether this process may give a file to that user and group: it tries it with an empty file of its own."""
        directory = os.open(self.path, _DIRECTORY)
        try:
            name = files.temp_name("owner")
            os.close(files.create(name, 0o600, directory, (uid, gid)))
            os.unlink(name, dir_fd=directory)
        except OSError:
            return False
        finally:
            os.close(directory)
        return True


@contextlib.contextmanager
def scratch_directory(prefix: str) -> Iterator[ScratchDirectory]:
    """Make a directory with mode 0700 in the temporary directory, and remove it with everything in it at the end.

    What earlier runs of this user with the same prefix left there is removed before.

    Raises:
        KeyturnError: it cannot be made.
    """
    parent = tempfile.gettempdir()
    try:
        _remove_dead(Path(parent), prefix)
        path, lock = _made(prefix, parent)
    except OSError as error:
        why = explain(error, parent)
        raise KeyturnError(f"{parent}: no directory can be made there: {why.text}", why.remedy) from error
    try:
        yield ScratchDirectory(path)
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


def _made(prefix: str, parent: str) -> tuple[Path, int]:
    """Return a new directory and the descriptor that locks it."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        lock = os.open(path, _DIRECTORY)
        if _locked(lock) and _leads_to(path, lock):
            return path, lock
        os.close(lock)  # another run saw it before it was locked, and took it for a dead one


def _remove_dead(parent: Path, prefix: str) -> None:
    """Remove the directories of this user that no living process holds."""
    for path in parent.glob(f"{prefix}*"):
        with contextlib.suppress(OSError):  # somebody else's, or gone already
            fd = os.open(path, _DIRECTORY)
            try:
                if os.fstat(fd).st_uid == os.geteuid() and _locked(fd) and _leads_to(path, fd):
                    shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(fd)


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _leads_to(path: Path, fd: int) -> bool:
    try:
        return os.path.samestat(os.lstat(path), os.fstat(fd))
    except FileNotFoundError:
        return False
