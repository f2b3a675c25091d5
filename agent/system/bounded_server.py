"""Accepting connections, each served on a thread of its own, and never more at once than a limit."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from enum import Enum, auto

BREATHE_S = 0.1
"""Seconds until the next try after a failed accept(2): it fails at once while no descriptor is left."""


ROOM_S = 0.5
"""Seconds within which a connection that gave way has ended; its thread has nothing to do but to notice."""


class Refusal(Enum):
    """Why a connection is not served."""

    FULL = auto()
    """As many as the limit allows are being served."""
    NO_THREAD = auto()
    """No thread can be started for it: the limit of processes, or of memory. The exception is being handled."""


class BoundedServer:
    """Serves a listening socket. What goes wrong with one connection keeps no other from being served."""

    def __init__(
        self,
        listener: socket.socket,
        limit: int,
        serve: Callable[[socket.socket], None],
        turn_away: Callable[[socket.socket, Refusal], None],
        thread_name: str,
        make_room: Callable[[], bool] = lambda: False,
    ) -> None:
        """Keep what every connection needs; `accept_all` begins.

        Args:
            listener: listens already; closed by `close`.
            limit: of connections at once.
            serve: called on a thread of its own. The connection is closed after it, and an OSError of it is the
                client's loss.
            turn_away: called on the accepting thread, so it must not wait. The connection is closed after it.
            thread_name: of the threads that serve.
            make_room: called on the accepting thread where the limit is reached; it has one connection end and returns
                True, or False where none may.
        """
        self._listener = listener
        self._slots = threading.BoundedSemaphore(limit)
        self._serve_one, self._turn_away, self._thread_name = serve, turn_away, thread_name
        self._make_room = make_room
        self._closing = threading.Event()

    def accept_all(self) -> None:
        """Accept until `close`. Nobody starts this again, so nothing but that ends it."""
        while not self._closing.is_set():
            try:
                channel, _address = self._listener.accept()
            except Exception:
                self._closing.wait(BREATHE_S)
                continue
            try:
                self._begin(channel)
            except Exception:
                channel.close()

    def close(self) -> None:
        """Stop listening; the address is free when this returns. Connections that are being served go on."""
        self._closing.set()
        try:
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread in accept(2), which a mere close does not
        except OSError:
            pass
        self._listener.close()

    def _begin(self, channel: socket.socket) -> None:
        if not self._slots.acquire(blocking=False) and not (self._make_room() and self._slots.acquire(timeout=ROOM_S)):
            self._refuse(channel, Refusal.FULL)
            return
        try:
            threading.Thread(target=self._serve, args=(channel,), name=self._thread_name, daemon=True).start()
        except Exception:
            self._slots.release()
            self._refuse(channel, Refusal.NO_THREAD)

    def _refuse(self, channel: socket.socket, why: Refusal) -> None:
        with channel:
            self._turn_away(channel, why)

    def _serve(self, channel: socket.socket) -> None:
        try:
            with channel:
                self._serve_one(channel)
        except OSError:
            pass  # the client went away or was too slow: its loss
        finally:
            self._slots.release()
