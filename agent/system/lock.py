"""One keyturn at a time on one state directory: flock(2), which the kernel drops however the process ends.

Two things are locked: the directory itself, since nobody can remove it while it has content, and the file `lock` in
it, which shows the pid of the holder and is all that older versions lock. With the file alone, removing it beside a
running daemon would let a second one in. Rejected: comparing the file's inode with that of its name after locking,
because the second daemon finds a new file, and the two agree.
"""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

from agent.core.errors import BusyError, NotPermittedError, StateError
from agent.system.oserrors import explain

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC  # a link may lead to it: systemd's DynamicUser= makes one
_FILE = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


class StateLock:
    """An exclusive lock on a state directory, held until it is released."""

    def __init__(self, directory: Path) -> None:
        """Take the lock, without waiting.

        Raises:
            BusyError: another keyturn holds it; the text names its pid where that is known.
            NotPermittedError, StateError: the directory cannot be used.
        """
        self._directory = directory
        self._held: list[int] = []
        try:
            self._open(directory, _DIRECTORY)
            file = self._open(directory / "lock", _FILE)
            for fd in self._held:
                self._take(fd, file)
            self._note_pid(file)
        except BaseException:
            self.release()
            raise

    def _open(self, path: Path, flags: int) -> int:
        try:
            fd = os.open(path, flags, 0o600)
        except PermissionError as err:
            raise NotPermittedError(
                f"{self._directory}: the state directory cannot be written by uid {os.geteuid()}",
                "run keyturn as root or as the user of the service",
            ) from err
        except OSError as err:
            why = explain(err, str(path))
            raise StateError(f"{path}: {why.text}", why.remedy) from err
        self._held.append(fd)
        return fd

    def _note_pid(self, file: int) -> None:
        try:
            os.ftruncate(file, 0)
            os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
        except OSError as err:
            why = explain(err, f"{self._directory}/lock")
            raise StateError(
                f"{self._directory}: the state directory cannot be written: {why.text}", why.remedy
            ) from err

    def _take(self, fd: int, file: int) -> None:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as err:
            if err.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise StateError(
                    f"{self._directory}: it cannot be locked: {err.strerror}", "put the state on a local file system"
                ) from err
            holder = _pid_in(file)
            raise BusyError(
                f"{self._directory}: another keyturn{holder} works on this state directory",
                "a daemon does the same for `keyturn refresh`; a command ends by itself: then run this again"
                + ("" if holder else " (`lslocks` shows its pid)"),
            ) from err

    def release(self) -> None:
        """Release the lock."""
        while self._held:
            os.close(self._held.pop())


def _pid_in(file: int) -> str:
    pid = os.pread(file, 32, 0).decode(errors="replace").strip()
    return f" (pid {pid})" if pid.isdigit() else ""
