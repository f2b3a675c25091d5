"""A handle on one process that can never come to mean another: pidfd_open(2), Linux >= 5.3.

A pid is reused; a descriptor is not. The order makes it safe: open first, then read from /proc what the
process is, then see that it still lives. If it does, all that was read is about it, and a signal will reach it.
A zombie is not alive here.
"""

from __future__ import annotations

import errno
import os
import select
import signal
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from agent.system.procfs import PROC, read_stat, read_uid, wall_time_s

DELETED = " (deleted)"
"""The suffix that /proc/PID/exe gets when the file was removed, as in an upgrade."""

T = TypeVar("T")


class Process:
    """One process, held by a pidfd."""

    def __init__(self, pid: int) -> None:
        """Open the process.

        Raises:
            ProcessLookupError: there is no such process.
            OSError: with ENOSYS where the kernel, or this Python, has no pidfd.
        """
        self.pid = pid
        try:
            self._fd = os.pidfd_open(pid)
        except AttributeError as err:
            raise OSError(errno.ENOSYS, "this Python was built without pidfd_open") from err
        except OSError as err:
            if err.errno == errno.EINVAL:  # the number of a thread, or no number at all
                raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH)) from err
            raise

    @classmethod
    def held(cls, pid: int, fd: int | None) -> Process:
        """Return the process that a pidfd holds, which is closed with it; without one, the process that has the pid now.

        Raises:
            OSError: as `Process`.
        """
        if fd is None:
            return cls(pid)
        process = cls.__new__(cls)
        process.pid, process._fd = pid, fd
        return process

    def __enter__(self) -> Process:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._fd)

    def alive(self) -> bool:
        """Return whether the process still runs; poll(2) reports a pidfd as readable once it has ended."""
        poller = select.poll()
        poller.register(self._fd, select.POLLIN)
        return not poller.poll(0)

    def uid(self) -> int:
        """Return the effective uid.

        Raises:
            ProcessLookupError: it has ended.
            PermissionError: this user may not see it.
        """
        return self._read(lambda: read_uid(self.pid))

    def started_s(self) -> float:
        """Return when the process started, in seconds since the epoch by the present wall clock, floored to 10 ms.

        Raises:
            ProcessLookupError: it has ended.
            PermissionError: this user may not see it.
        """
        return wall_time_s(self.started_boot_s())

    def started_boot_s(self) -> float:
        """Return when it started, in seconds since boot: together with the pid this identifies a process for good.

        Raises:
            ProcessLookupError: it has ended.
            PermissionError: this user may not see it.
        """
        return self._read(lambda: read_stat(self.pid)).started_boot_s

    def program(self) -> bytes:
        """Return the name that the program gives itself.

        Raises:
            ProcessLookupError: it has ended.
            PermissionError: this user may not see it.
        """
        return self._read(lambda: read_stat(self.pid)).program

    def runs(self, exe: str) -> bool:
        """Return whether the process runs `exe`: the same file, or a removed one of the same path.

        The path alone would not do: in a container another file may lie at the same path.

        Raises:
            ProcessLookupError: it has ended.
            PermissionError: this user may not ask (ptrace(2), PTRACE_MODE_READ_FSCREDS).
        """
        return self._read(lambda: _is_executable(PROC / str(self.pid) / "exe", exe))

    def send(self, number: int) -> None:
        """Send a signal.

        Raises:
            ProcessLookupError: it has ended.
            PermissionError: this user may not.
        """
        if not self.alive():
            raise _gone()
        signal.pidfd_send_signal(self._fd, number)

    def _read(self, ask: Callable[[], T]) -> T:
        try:
            answer = ask()
        except FileNotFoundError as err:
            if self.alive():  # then it is hidden from us (hidepid, ProtectProc=invisible)
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES)) from err
            raise _gone() from err
        if not self.alive():
            raise _gone()
        return answer


def _gone() -> ProcessLookupError:
    return ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))


def _is_executable(link: Path, exe: str) -> bool:
    try:
        path = str(link.readlink())
    except FileNotFoundError:  # a kernel thread has none
        return False
    if path.endswith(DELETED):
        return path.removesuffix(DELETED) in (exe, str(Path(exe).resolve()))
    try:
        return link.samefile(exe)
    except FileNotFoundError:  # nothing at `exe`
        return False
