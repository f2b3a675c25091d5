"""Time: two clocks, an alarm that neither a suspend nor a clock step delays, and a watch for clock steps.

CLOCK_MONOTONIC, on which Python's waits run, stands still while the machine is suspended, so a wait of a
minute begun before a night's sleep ends a minute after it. The alarm is a timerfd on CLOCK_BOOTTIME
(timerfd_create(2), Linux >= 3.15), which fires at once after a resume and costs no wake-up before it is
due. Python has timerfd since 3.13; for older ones the three calls go through ctypes.
"""

from __future__ import annotations

import ctypes
import errno
import os
import time
from datetime import UTC, datetime, timedelta

CLOCK_BOOTTIME = time.CLOCK_BOOTTIME


class Clock:
    """The two clocks of the agent. Tests bring their own."""

    def now(self) -> datetime:
        """Return the wall clock's time, UTC-aware, whatever it has been set to."""
        return datetime.now(UTC)

    def boottime(self) -> float:
        """Return the seconds since boot, time in suspend included; this clock never steps."""
        return time.clock_gettime(CLOCK_BOOTTIME)

    def at(self, boottime: float) -> datetime:
        """Return the wall clock's time at a boottime instant, provided that nobody sets the clock in between."""
        return self.now() + timedelta(seconds=boottime - self.boottime())


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


_TFD_NONBLOCK = os.O_NONBLOCK
_TFD_CLOEXEC = os.O_CLOEXEC
_TFD_TIMER_ABSTIME = 1
_TFD_TIMER_CANCEL_ON_SET = 2


class _Timer:
    """A timerfd on one clock."""

    def __init__(self, clock: int) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        fd = self._libc.timerfd_create(clock, _TFD_NONBLOCK | _TFD_CLOEXEC)
        if fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._fd: int = fd

    def fileno(self) -> int:
        """Return the descriptor, for select, poll and epoll."""
        return self._fd

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._fd)

    def _arm(self, instant: float, flags: int) -> None:
        whole = int(instant)
        spec = _Itimerspec(_Timespec(0, 0), _Timespec(whole, int((instant - whole) * 1e9)))
        if self._libc.timerfd_settime(self._fd, flags, ctypes.byref(spec), None) != 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")


class Alarm(_Timer):
    """A file descriptor that becomes readable when a boottime instant comes."""

    def __init__(self) -> None:
        super().__init__(CLOCK_BOOTTIME)

    def set(self, boottime: float | None) -> None:
        """Ring at `boottime` seconds since boot, at once if that is past, never if it is None."""
        self._arm(0.0 if boottime is None else max(boottime, 1e-6), _TFD_TIMER_ABSTIME)

    def clear(self) -> None:
        """Acknowledge that it rang."""
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            pass


class StepWatch(_Timer):
    """A file descriptor that becomes readable when somebody sets the wall clock, and never wakes anybody else.

    A sleeper on CLOCK_BOOTTIME does not notice a step of CLOCK_REALTIME. A timer on that one, armed for the far
    future with TFD_TIMER_CANCEL_ON_SET, is cancelled by it (timerfd_create(2), Linux >= 3.0): its read fails with ECANCELED.
    """

    FAR_AWAY_S = 2.0**33  # the year 2242: within what a 64-bit clock of nanoseconds takes

    def __init__(self) -> None:
        super().__init__(time.CLOCK_REALTIME)
        self._watch()

    def clear(self) -> bool:
        """Return whether the clock was set since the last call, and go on watching."""
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno != errno.ECANCELED:
                raise
        self._watch()
        return True

    def _watch(self) -> None:
        self._arm(self.FAR_AWAY_S, _TFD_TIMER_ABSTIME | _TFD_TIMER_CANCEL_ON_SET)
