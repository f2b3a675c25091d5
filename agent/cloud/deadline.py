"""A deadline for a whole call: name look-up, connection, TLS, request and reply together.

The timeouts of `socket`, urllib3 and requests limit single reads, so a server that sends one byte every
few seconds holds a caller for ever. Here a timer shuts the connection's socket down, which ends whatever
read or write is under way. Rejected: lowering the timeout before each read (http.client reads the headers
through its own buffered file, out of reach) and running the call on a thread that is left behind (it keeps
its socket). The one thing that no deadline can interrupt is the look-up of a name (getaddrinfo); whoever
cannot wait for that runs the call on a thread.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from types import TracebackType

from agent.core.errors import SourceUnavailableError


class Deadline:
    """A time limit for everything that is done over the connections made by `connect`.

    Attributes:
        seconds: the total.
        expired: whether the time was up and the connections were shut down.
        connected: whether a TCP connection was made; tells a host that is away from one that is silent.
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
        self._timer = threading.Timer(seconds, self._expire)
        self._timer.daemon = True

    def __enter__(self) -> Deadline:
        """Start the time.

        Raises:
            SourceUnavailableError: the timer gets no thread; nothing was sent.
        """
        self._ends = time.monotonic() + self.seconds
        try:
            self._timer.start()
        except (RuntimeError, MemoryError):  # the limit of processes, or of memory
            raise SourceUnavailableError(
                "no thread can be started for this call: there are too many, or there is no memory",
                "raise TasksMax= or MemoryMax= of keyturn's unit, or end other processes",
            ) from None
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._timer.cancel()
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

    def _open(self, sock: socket.socket, address: tuple[object, ...]) -> None:
        sock.settimeout(min(self.connect_s, self.left()) or self.connect_s)
        sock.connect(address)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._watch(sock)
        self.connected = True

    def _watch(self, sock: socket.socket) -> None:
        # A duplicate, because wrapping in TLS takes the descriptor away from the socket that was made here.
        handle = sock.dup()
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
