"""One keyturn at a time on one state directory: flock(2), which the kernel lets go of whatever happens to us."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

from agent.core.errors import BusyError, NotPermittedError, StateError


class StateLock:
    """An exclusive lock on a state directory, held as long as this object is not released."""

    def __init__(self, directory: Path) -> None:
        """Take the lock, without waiting.

        Raises:
            BusyError: another keyturn holds it; the text names its pid where that is known.
            NotPermittedError, StateError: the directory cannot be used.
        """
        self._path = directory / "lock"
        try:
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except PermissionError as err:
            raise NotPermittedError(
                f"{directory}: the state directory cannot be written by uid {os.geteuid()}",
                "run keyturn as root or as the user of the service",
            ) from err
        except OSError as err:
            raise StateError(f"{self._path}: {err.strerror}", "mend the state directory") from err
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as err:
            holder = self._holder()
            os.close(self._fd)
            if err.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise StateError(f"{self._path}: {err.strerror}", "put the state on a local file system") from err
            raise BusyError(
                f"{directory}: another keyturn{holder} works on this state directory",
                "ask it through `keyturn status`, or stop it first",
            ) from err
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def _holder(self) -> str:
        pid = os.pread(self._fd, 32, 0).decode(errors="replace").strip()
        return f" (pid {pid})" if pid.isdigit() else ""

    def release(self) -> None:
        """Let the next one in."""
        os.close(self._fd)
