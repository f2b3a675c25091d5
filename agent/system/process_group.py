"""A running command: its process group, its three pipes, and a way to end all of it.

Whatever is still running when the interpreter ends is killed then (`_kill_all`): the threads that hold a command to its limit
do not outlive it, and a hook or a provider's command would go on without anybody who knows of it.

The leader of the group is not reaped before the group has been ended: a zombie keeps its number, so that
killpg can never reach another group.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from enum import StrEnum

from agent.system.procfs import group_is_empty

GRACE_S = 2.0
"""Seconds from SIGTERM to SIGKILL."""

_LAST_WAIT_S = 5.0  # after SIGKILL: only a process stuck in the kernel takes longer, and nothing can be done then
_TICK_S = 0.1  # how late a cancel, or the exit of a command with an open pipe, may be noticed
_CHUNK = 64 * 1024  # a pipe's usual capacity: one read drains what a command wrote before it ended


class Ending(StrEnum):
    """The way in which a command ended."""

    EXITED = "exited"
    TIMED_OUT = "timed out"
    CANCELLED = "cancelled"


class Tail:
    """The last bytes of an output that may be endless."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept = bytearray()
        self.dropped = False

    def add(self, chunk: bytes) -> None:
        """Append output, and drop the oldest bytes beyond the limit."""
        self._kept += chunk
        excess = len(self._kept) - self._limit
        if excess > 0:
            self.dropped = True
            del self._kept[:excess]

    def kept(self) -> bytes:
        """Return the bytes that are kept."""
        return bytes(self._kept)


_running: set[ProcessGroup] = set()
os.register_at_fork(after_in_child=_running.clear)  # they are the parent's


@atexit.register
def _kill_all() -> None:
    for group in list(_running):
        group.kill()


class ProcessGroup:
    """A command that was started as the leader of its own session, with all three descriptors as pipes."""

    def __init__(self, leader: subprocess.Popen[bytes], stdin: bytes, output_limit: int) -> None:
        """Take charge of a command.

        Raises:
            OSError: there is no descriptor left to serve its pipes with; the command was killed and reaped.
        """
        self._leader = leader
        self._unsent = stdin
        self.stdout, self.stderr = Tail(output_limit), Tail(output_limit)
        _running.add(self)
        self._pause_s = 0.001  # the end of a command follows at once on the end of its output, as a rule
        try:
            self._pipes = selectors.DefaultSelector()
            self._register()
        except BaseException:
            self._abandon()
            raise

    def _register(self) -> None:
        leader = self._leader
        for pipe, into in ((leader.stdout, self.stdout), (leader.stderr, self.stderr), (leader.stdin, None)):
            if pipe is not None:
                os.set_blocking(pipe.fileno(), False)
                self._pipes.register(pipe, selectors.EVENT_READ if into else selectors.EVENT_WRITE, into)

    def _abandon(self) -> None:
        """Kill and reap a command whose pipes cannot be served, for nobody would hold it to its limits."""
        self.kill()
        _running.discard(self)
        self._close_pipes()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._leader.wait(_LAST_WAIT_S)

    def wait(self, deadline: float, cancel: threading.Event) -> Ending:
        """Serve the pipes until all is finished, the deadline (monotonic seconds) comes, or `cancel` is set."""
        while not self.finished():
            left_s = deadline - time.monotonic()
            if cancel.is_set() or left_s <= 0:
                why = Ending.CANCELLED if cancel.is_set() else Ending.TIMED_OUT
                return Ending.EXITED if self._exited() else why
            self._pump(min(left_s, _TICK_S))
        return Ending.EXITED

    def finished(self) -> bool:
        """Return whether the command ended and no process of its group still holds its output."""
        if not self._exited():
            return False
        self._pump(0)
        return self._drained() or self._is_empty()

    def end(self) -> None:
        """Send SIGTERM to the whole group, and SIGKILL to what is left of it after the grace."""
        self._signal(signal.SIGTERM)
        self._pump_until(GRACE_S, lambda: self._exited() and self._is_empty())
        self._kill()

    def kill(self) -> None:
        """Send SIGKILL to the whole group, and do not wait."""
        self._signal(signal.SIGKILL)

    def close(self) -> int:
        """Kill the command if it still runs, reap it, close its pipes, and return its status."""
        if not self._exited():
            self._kill()
        if self._pipes.get_map():
            self._pump(0)  # its last words: it may have ended since the pipes were last served
        self._pipes.close()
        self._close_pipes()
        _running.discard(self)  # once it is reaped, its number may be another's
        status = self._leader.poll()
        return -signal.SIGKILL if status is None else status

    def _close_pipes(self) -> None:
        for pipe in (self._leader.stdin, self._leader.stdout, self._leader.stderr):
            if pipe is not None:
                pipe.close()

    def _exited(self) -> bool:
        if self._leader.returncode is not None:
            return True
        # WNOWAIT leaves the zombie in place: its number stays ours.
        return os.waitid(os.P_PID, self._leader.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def _is_empty(self) -> bool:
        """Return whether no process is left; False when /proc cannot be read (EMFILE), so that the limit still holds."""
        try:
            return group_is_empty(self._leader.pid)
        except OSError:
            return False

    def _drained(self) -> bool:
        return not any(key.events == selectors.EVENT_READ for key in self._pipes.get_map().values())

    def _kill(self) -> None:
        self._signal(signal.SIGKILL)
        self._pump_until(_LAST_WAIT_S, self._exited)

    def _signal(self, number: int) -> None:
        # Not permitted: all that is left of the group became another user (sudo), which ends when its parent does.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._leader.pid, number)

    def _pump_until(self, limit_s: float, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + limit_s
        while not done() and (left_s := deadline - time.monotonic()) > 0:
            self._pump(min(left_s, _TICK_S))

    def _pump(self, limit_s: float) -> None:
        """Move bytes through the pipes for at most that long; without an open pipe, sleep."""
        if not self._pipes.get_map():
            self._pause_s = min(2 * self._pause_s, _TICK_S)
            time.sleep(min(limit_s, self._pause_s))
            return
        for key, _ in self._pipes.select(limit_s):
            moved = self._read(key.fd, key.data) if key.data else self._write(key.fd)
            if not moved:
                self._pipes.unregister(key.fileobj)
                key.fileobj.close()  # type: ignore[union-attr]  # only pipes were registered

    def _read(self, fd: int, into: Tail) -> bool:
        try:
            chunk = os.read(fd, _CHUNK)
        except BlockingIOError:
            return True
        into.add(chunk)
        return bool(chunk)

    def _write(self, fd: int) -> bool:
        """Write some of the standard input, and return False once all of it is written or nobody reads it."""
        try:
            sent = os.write(fd, self._unsent[:_CHUNK])
        except BlockingIOError:
            return True
        except BrokenPipeError:
            return False
        self._unsent = self._unsent[sent:]
        return bool(self._unsent)
