"""The server of credentials.sock: anybody may connect, and the kernel's word about the peer decides what they get.

A client sends one line, `{"credential": "uploader", "format": "external"}`, and reads one answer until the end:

    {"length": 180}                                    and then so many bytes: the document
    {"error": "one sentence", "exit_code": 77}

So a client that was cut off knows it, and prints nothing. The line may name the `config` that is meant: a daemon that
serves another one says so (`other_config`). It is an interface between two halves of one version.

All connections are served by one thread, which sleeps until one of them is ready: one that says nothing costs a descriptor
for `REQUEST_S` seconds and nothing else. When all places are taken, the user who has the most of them loses their oldest,
so whoever floods the socket shuts out themselves. Nothing here waits: no look-up of names, no file but /proc. What was
rejected: docs/adr/0019.
"""

from __future__ import annotations

import json
import selectors
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agent.core.errors import EXIT_FAILED, EXIT_USAGE, KeyturnError, UsageError
from agent.logs.log import log
from agent.logs.seldom import Seldom
from agent.serving.asking import CredentialService
from agent.serving.document import WINDOWS_S, Format
from agent.serving.peer import peer_of
from agent.system.socket_peer import peer_ids

SOCKET_NAME = "credentials.sock"
BACKLOG = 1024
"""Connections that wait in the kernel to be accepted; they cost no descriptor of the daemon's."""
MAX_CONNECTIONS = 256
REQUEST_S = 5.0
"""Seconds for the whole of a connection, however slowly it speaks or listens."""
MAX_REQUEST = 8192
"""A name has 64 letters, and a path at most 4096."""
ACCEPTED_AT_ONCE = 64
BREATHE_S = 0.05
"""Seconds until the next try after a failed accept(2): it fails at once while no descriptor is left."""


@dataclass(eq=False, slots=True)
class _Connection:
    channel: socket.socket
    uid: int
    ends: float
    heard: bytes = b""
    to_say: memoryview = field(default_factory=lambda: memoryview(b""))
    awaits: int = 0  # the event for which it is registered; 0: it is not


class CredentialServer:
    """The listener on credentials.sock, and the thread that serves it."""

    def __init__(self, listener: socket.socket, service: CredentialService, config: str) -> None:
        """Begin to serve.

        Args:
            listener: listens already; closed by `close`.
            service: answers.
            config: the resolved path of the config that is served here.
        """
        self._listener, self._service, self._config = listener, service, config
        listener.setblocking(False)
        self._wake, self._woken = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._connections: OrderedDict[socket.socket, _Connection] = OrderedDict()  # the oldest first
        self._faults, self._refused = Seldom(), Seldom()
        self._closing = False
        self._thread = threading.Thread(target=self._serve, name="credentials", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving; the listener is closed when this returns."""
        self._closing = True
        self._wake.close()
        self._thread.join()

    def _serve(self) -> None:
        while not self._closing:
            try:
                self._turn()
            except Exception:  # nobody starts this thread again
                if (left_out := self._faults.due()) is not None:
                    log.error("a fault of keyturn itself; please report it", exc_info=True, **left_out)
                time.sleep(BREATHE_S)
        for connection in list(self._connections.values()):
            self._end(connection)
        self._selector.close()
        self._listener.close()
        self._woken.close()

    def _turn(self) -> None:
        for key, _events in self._selector.select(self._patience_s()):
            if key.fileobj is self._listener:
                self._accept()
            elif isinstance(key.data, _Connection) and key.data.channel in self._connections:
                self._go_on(key.data)
        now = time.monotonic()
        while self._connections and (oldest := next(iter(self._connections.values()))).ends <= now:
            self._end(oldest)

    def _patience_s(self) -> float | None:
        """Return the seconds until the oldest connection has had its time; None where there is no connection."""
        oldest = next(iter(self._connections.values()), None)
        return None if oldest is None else max(0.0, oldest.ends - time.monotonic())

    # -- connections --------------------------------------------------------------------------------

    def _accept(self) -> None:
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                channel, _address = self._listener.accept()
            except BlockingIOError:
                return
            except OSError:  # no descriptor left, or the peer went away
                self._make_room()
                time.sleep(BREATHE_S)
                return
            try:
                self._take(channel)
            except OSError:
                channel.close()

    def _take(self, channel: socket.socket) -> None:
        channel.setblocking(False)
        connection = _Connection(channel, peer_ids(channel)[1], time.monotonic() + REQUEST_S)
        if len(self._connections) >= MAX_CONNECTIONS:
            self._make_room()
        self._connections[channel] = connection
        self._go_on(connection)  # most have sent their line already, and are answered at once

    def _make_room(self) -> None:
        """End the oldest connection of the user who has the most."""
        places: dict[int, int] = {}
        for one in self._connections.values():
            places[one.uid] = places.get(one.uid, 0) + 1
        if places:
            greediest = max(places, key=lambda uid: places[uid])
            self._end(next(one for one in self._connections.values() if one.uid == greediest))

    def _end(self, connection: _Connection) -> None:
        if self._connections.pop(connection.channel, None) is not None and connection.awaits:
            self._selector.unregister(connection.channel)
        connection.channel.close()

    # -- one question -------------------------------------------------------------------------------

    def _go_on(self, connection: _Connection) -> None:
        """Read or write as much as goes without waiting."""
        try:
            ended = self._write(connection) if connection.to_say else self._read(connection)
        except BlockingIOError:
            ended = False
        except OSError:  # the peer went away: its loss
            ended = True
        if ended:
            self._end(connection)
        else:
            self._wait(connection, selectors.EVENT_WRITE if connection.to_say else selectors.EVENT_READ)

    def _wait(self, connection: _Connection, event: int) -> None:
        """Go on when it can be read, or written."""
        if not connection.awaits:
            self._selector.register(connection.channel, event, connection)
        elif connection.awaits != event:
            self._selector.modify(connection.channel, event, connection)
        connection.awaits = event

    def _read(self, connection: _Connection) -> bool:
        """Read the line; return whether the connection has ended."""
        got = connection.channel.recv(MAX_REQUEST + 1)
        connection.heard += got
        line, newline, _rest = connection.heard.partition(b"\n")
        if newline or len(connection.heard) > MAX_REQUEST:
            connection.to_say = memoryview(self._answer(connection.channel, line if newline else b""))
            return self._write(connection)
        return not got

    def _write(self, connection: _Connection) -> bool:
        """Send what is left; return whether that was all."""
        connection.to_say = connection.to_say[connection.channel.send(connection.to_say) :]
        return not connection.to_say

    def _answer(self, channel: socket.socket, line: bytes) -> bytes:
        try:
            if self._is_for_others(line):
                return _line({"error": "another config is served here", "exit_code": EXIT_USAGE, "other_config": True})
            document = self._ask(channel, line)
            return json.dumps({"length": len(document)}).encode() + b"\n" + document
        except KeyturnError as error:
            return _line({"error": str(error), "exit_code": error.exit_code})
        except Exception:
            if (left_out := self._faults.due()) is not None:
                log.error("a fault of keyturn itself; please report it", exc_info=True, **left_out)
            return _line({"error": "the daemon failed at this; see its log", "exit_code": EXIT_FAILED})

    def _is_for_others(self, line: bytes) -> bool:
        """Return whether a daemon of another config is meant: the command goes on looking for it."""
        return bool(_request(line).get("config", self._config) != self._config)

    def _ask(self, channel: socket.socket, line: bytes) -> bytes:
        """Return the document that a line asks for.

        Raises:
            KeyturnError: there is none for this peer.
        """
        request = _request(line)
        form = _form(request.get("format"))
        peer = peer_of(channel)
        try:
            return self._service.answer(str(request.get("credential", "")), form, WINDOWS_S[form], peer)
        except KeyturnError as error:
            if (left_out := self._refused.due()) is not None:
                log.warning("a credential was not handed out", uid=peer.uid, pid=peer.pid, error=str(error), **left_out)
            raise


def _request(line: bytes) -> Mapping[str, Any]:
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):
        request = None
    if not isinstance(request, dict):
        raise UsageError("not a request of keyturn's", "use the keyturn command of the same version")
    return request


def _form(named: object) -> Format:
    try:
        return Format(str(named))
    except ValueError:
        raise UsageError(
            "the daemon does not know this format", "restart it: it may be older than this keyturn"
        ) from None


def _line(answer: Mapping[str, Any]) -> bytes:
    return json.dumps(answer).encode() + b"\n"
