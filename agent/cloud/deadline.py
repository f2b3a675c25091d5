"""A deadline for a whole call: name look-up, connection, TLS, request and reply together.

The timeouts of `socket`, urllib3 and requests limit single reads, so a server that sends one byte every
few seconds holds a caller for ever. Here a timer shuts the connection's socket down, which ends whatever
read or write is under way. Rejected: lowering the timeout before each read (http.client reads the headers
through its own buffered file, out of reach) and running the call on a thread that is left behind (it keeps
its socket). The one thing that no deadline can interrupt is the look-up of a name (getaddrinfo); whoever
cannot wait for that runs the call on a thread.

One thread keeps the time of all calls under way, and ends when there is none. A timer for each call would be a second
thread beside each worker's, and starting one is 70 us of processor time and two waits for the interpreter's lock
(docs/adr/0018).
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType

from agent.core.errors import SourceUnavailableError


class Timekeeper:
    """The thread that calls what has run out of time. What it calls must not block, and must not raise."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._ends: dict[Callable[[], None], float] = {}  # what to call -> when, on the monotonic clock
        self._wakes_at = 0.0
        self._at_work = False

    def begin(self, act: Callable[[], None], at: float) -> None:
        """Have `act` called at a monotonic time, unless `end` comes first.

        Raises:
            RuntimeError, MemoryError: the thread cannot be started; `act` will not be called.
        """
        with self._changed:
            if not self._at_work:
                threading.Thread(target=self._work, name="deadlines", daemon=True).start()
                self._at_work, self._wakes_at = True, at
            self._ends[act] = at
            if at < self._wakes_at:
                self._changed.notify()

    def end(self, act: Callable[[], None]) -> None:
        """Forget `act`; it may just be called nevertheless."""
        with self._changed:
            self._ends.pop(act, None)

    def _work(self) -> None:
        try:
            while (due := self._next_due()) is not None:
                for act in due:
                    act()
        except BaseException:
            # No memory, most likely: the next call starts another thread, which takes over what is left.
            with self._changed:
                self._at_work = False
            raise

    def _next_due(self) -> list[Callable[[], None]] | None:
        """Sleep until something may be due, and take it out; None where there is nothing left to wait for."""
        with self._changed:
            now = time.monotonic()
            due = [act for act, at in self._ends.items() if at <= now]
            for act in due:
                del self._ends[act]
            if due:
                return due
            if not self._ends:
                self._at_work = False  # under the same lock, so that a call which begins now starts another thread
                return None
            self._wakes_at = min(self._ends.values())
            self._changed.wait(self._wakes_at - now)
            return []


_timekeeper = Timekeeper()


class Deadline:
    """A time limit for everything that is done over the connections made by `connect`, or handed to `adopt`.

    Attributes:
        seconds: the total.
        expired: whether the time was up and the connections were shut down.
        connected: whether there is a TCP connection; tells a host that is away from one that is silent.
    """

    def __init__(self, seconds: float, connect_s: float) -> None:
        """Keep the limits; the time starts at `with`. `connect_s` is the limit for each address that is tried."""
        self.seconds = seconds
        self.connect_s = connect_s
        self.expired = False
        self.connected = False
        self._ends = 0.0
        self._lock = threading.Lock()
        self._handles: list[socket.socket] = []

    def __enter__(self) -> Deadline:
        """Start the time.

        Raises:
            SourceUnavailableError: the time gets no thread that keeps it; nothing was sent.
        """
        self._ends = time.monotonic() + self.seconds
        try:
            _timekeeper.begin(self._expire, self._ends)
        except (RuntimeError, MemoryError):  # the limit of processes, or of memory
            raise SourceUnavailableError(
                "no thread can be started for this call: there are too many, or there is no memory",
                "raise TasksMax= or MemoryMax= of keyturn's unit, or end other processes",
            ) from None
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        _timekeeper.end(self._expire)
        with self._lock:
            for handle in self._handles:
                handle.close()
            self._handles.clear()

    def left(self) -> float:
        """Return the seconds that remain, 0.0 when there are none."""
        return 0.0 if self.expired else max(0.0, self._ends - time.monotonic())

    def check(self) -> None:
        """Raise TimeoutError once the time is up: a reply that was cut off can look like a short one."""
        if self.left() <= 0.0:
            raise TimeoutError

    def connect(self, host: str, port: int) -> socket.socket:
        """Connect to the first address of `host` that answers.

        Raises:
            OSError: none did; the error of the last one. TimeoutError when the time is up.
        """
        failure: OSError = TimeoutError()
        for family, kind, protocol, _, address in socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM):
            self.check()
            sock = socket.socket(family, kind, protocol)
            try:
                self._open(sock, address)
            except OSError as error:
                sock.close()
                failure = error
            else:
                return sock
        raise failure

    def adopt(self, sock: socket.socket) -> None:
        """Limit a connection from an earlier call as well.

        Its host may be gone without a word, or a suspended machine's connection forgotten on the way: what is sent has to be
        acknowledged by the host's kernel within `connect_s`, as for a new connection (TCP_USER_TIMEOUT, tcp(7)).
        """
        handle = socket.socket(fileno=os.dup(sock.fileno()))
        self._hold(handle)
        handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, max(1, int(self.connect_s * 1000)))
        self.connected = True

    def _open(self, sock: socket.socket, address: tuple[object, ...]) -> None:
        sock.settimeout(min(self.connect_s, self.left()) or self.connect_s)
        sock.connect(address)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A duplicate, because wrapping in TLS takes the descriptor away from the socket that was made here.
        self._hold(sock.dup())
        self.connected = True

    def _hold(self, handle: socket.socket) -> None:
        with self._lock:
            self._handles.append(handle)
            if self.expired:
                _shut(handle)

    def _expire(self) -> None:
        with self._lock:
            self.expired = True
            for handle in self._handles:
                _shut(handle)


def _shut(handle: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the other side may have been faster
        handle.shutdown(socket.SHUT_RDWR)
