"""The door to time: the wall clock, CLOCK_BOOTTIME, and an alarm that neither suspend nor a clock step delays.

CLOCK_MONOTONIC, on which Python's waits run, stands still while the machine is suspended, so a wait of a
minute begun before a night's sleep ends a minute after it. The alarm is a timerfd on CLOCK_BOOTTIME
(timerfd_create(2), Linux >= 3.15), which fires at once after a resume and costs no wake-up before it is
due. Python has timerfd since 3.13; for older ones the three calls go through ctypes.
"""

from __future__ import annotations

import ctypes
import os
import time
from datetime import UTC, datetime, timedelta

CLOCK_BOOTTIME = time.CLOCK_BOOTTIME


class Clock:
    """What the agent knows of time. Tests bring their own."""

    def now(self) -> datetime:
        """The wall clock, UTC-aware, whatever it has been stepped to."""
        return datetime.now(UTC)

    def boottime(self) -> float:
        """Seconds since boot, suspend included; never steps."""
        return time.clock_gettime(CLOCK_BOOTTIME)

    def at(self, boottime: float) -> datetime:
        """The wall clock's reading when `boottime` comes, as far as can be said now."""
        return self.now() + timedelta(seconds=boottime - self.boottime())


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


_TFD_NONBLOCK = os.O_NONBLOCK
_TFD_CLOEXEC = os.O_CLOEXEC
_TFD_TIMER_ABSTIME = 1


class Alarm:
    """A file descriptor that becomes readable when a boottime instant comes."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        fd = self._libc.timerfd_create(CLOCK_BOOTTIME, _TFD_NONBLOCK | _TFD_CLOEXEC)
        if fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._fd: int = fd

    def fileno(self) -> int:
        """For select, poll and epoll."""
        return self._fd

    def set(self, boottime: float | None) -> None:
        """Ring at `boottime` seconds since boot (at once if that is past); None: never."""
        instant = 0.0 if boottime is None else max(boottime, 1e-6)
        whole = int(instant)
        value = _Timespec(whole, int((instant - whole) * 1e9))
        spec = _Itimerspec(_Timespec(0, 0), value)
        if self._libc.timerfd_settime(self._fd, _TFD_TIMER_ABSTIME, ctypes.byref(spec), None) != 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def clear(self) -> None:
        """Take note that it rang."""
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            pass

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._fd)
