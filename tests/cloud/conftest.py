"""A loopback server that misbehaves on order, and a search for canaries in everything that could be printed."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.cloud.transport import Transport
from providers.emulator.pki import server_context

Act = Callable[[socket.socket, "Loopback"], None]


class Loopback:
    """Does to each connection on 127.0.0.1 what `act` says, after the TLS handshake if there is a context."""

    def __init__(self, act: Act, context: ssl.SSLContext | None) -> None:
        self._act, self._context = act, context
        self.over = threading.Event()  # what hangs, hangs until the test is over
        self.gave_up = threading.Event()  # set by an act that hung until its patience was at an end
        self.requests: list[bytes] = []
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.endpoint = f"127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._open.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            if self._context is not None:
                connection = self._context.wrap_socket(connection, server_side=True)
                self._open.append(connection)
                self.requests.append(read_head(connection))
            self._act(connection, self)
            connection.close()

    def stop(self) -> None:
        self.over.set()
        self._listener.close()
        for connection in self._open:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(connection, socket.SHUT_RDWR)


def read_head(connection: socket.socket) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head:
        piece = connection.recv(65536)
        if not piece:
            break
        head += piece
    return head


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, Path]:
    """A server's context for 127.0.0.1 and localhost, and the CA file that signed it."""
    directory = tmp_path_factory.mktemp("tls") / "pki"
    return server_context(directory), directory / "ca.pem"


@pytest.fixture
def serve(tls: tuple[ssl.SSLContext, Path]) -> Iterator[Callable[..., Loopback]]:
    """Start servers; all are stopped when the test is over."""
    started: list[Loopback] = []

    def start(act: Act, *, encrypted: bool = True, context: ssl.SSLContext = tls[0]) -> Loopback:
        started.append(Loopback(act, context if encrypted else None))
        return started[-1]

    yield start
    for each in started:
        each.stop()


@pytest.fixture
def transport(tls: tuple[ssl.SSLContext, Path]) -> Transport:
    """A transport that trusts the loopback servers."""
    return Transport(str(tls[1]), proxies=False)
