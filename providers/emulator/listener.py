"""HTTP on loopback, with or without TLS, and the faults of connections.

The TLS handshake runs in the connection's own thread, so that a client which opens a connection and says nothing
delays nobody.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from abc import ABC, abstractmethod
from collections.abc import Collection
from email.utils import formatdate
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

from .cloud import Cloud
from .faults import Fault
from .hosts import PLAIN_ADDRESS
from .reception import Reply
from .signatures import Request

__all__ = ["Listener"]

_IDLE_S = 60.0
_MAX_BODY = 1024 * 1024
_PHRASES = {int(status): status.phrase for status in HTTPStatus}


class Listener(ABC):
    """A server on `127.0.0.1:PORT`, as a context manager or by `start()` and `stop()`.

    Attributes:
        drip_interval_s: the pause between two bytes of a dripping answer.
    """

    def __init__(
        self, cloud: Cloud, context: ssl.SSLContext | None, port: int, more_addresses: Collection[str] = ()
    ) -> None:
        """Bind the port (0: any free one), so that it is known; serve from `start()` on. No `context`: plain HTTP.

        Args:
            cloud: the account that is served.
            context: TLS.
            port: on every address.
            more_addresses: of loopback, besides 127.0.0.1.
        """
        self.cloud = cloud
        self.drip_interval_s = 0.2
        self.stopping = threading.Event()
        self._servers = self._bind(context, port, (PLAIN_ADDRESS, *more_addresses))
        self._threads: list[threading.Thread] = []

    def _bind(self, context: ssl.SSLContext | None, port: int, addresses: Collection[str]) -> list[_Server]:
        """Bind the same port on every address; any free one may be taken on another address, and is then tried anew."""
        for tries_left in reversed(range(20)):
            bound: list[_Server] = []
            try:
                for address in addresses:
                    bound.append(_Server(self, context, (address, bound[0].server_port if bound else port)))
                return bound
            except OSError:
                for server in bound:
                    server.server_close()
                if port or not bound or not tries_left:
                    raise
        raise AssertionError("not reached")

    @property
    def port(self) -> int:
        """The port that is bound."""
        return int(self._servers[0].server_address[1])

    @property
    def endpoint(self) -> str:
        """`127.0.0.1:PORT`, as Alibaba's SDKs take an endpoint."""
        return f"127.0.0.1:{self.port}"

    @abstractmethod
    def answer(self, request: Request) -> Reply:
        """Answer one request; must not raise."""

    def start(self) -> None:
        """Start to serve, in threads. Connections are accepted from the return on."""
        for server in self._servers:
            thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="emulator", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """Stop serving and break what is open, hanging answers too. Stopping twice is fine."""
        if self.stopping.is_set():
            return
        self.stopping.set()
        for server, thread in zip(self._servers, self._threads, strict=False):
            server.shutdown()
            thread.join()
        for server in self._servers:
            server.server_close()
            server.break_connections()

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1024
    """Enough for a daemon that opens hundreds of connections at once: one that finds no place is tried again after a second."""

    def __init__(self, owner: Listener, context: ssl.SSLContext | None, place: tuple[str, int]) -> None:
        self.owner = owner
        self._context = context
        self._open: set[socket.socket] = set()
        self._open_lock = threading.Lock()
        super().__init__(place, _Handler)

    def server_bind(self) -> None:
        """Bind without the reverse look-up of HTTPServer, which may ask a name server."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def finish_request(self, request: object, client_address: object) -> None:
        """Do the TLS handshake, if there is one, then serve requests until either side ends. Runs in the connection's thread."""
        assert isinstance(request, socket.socket)
        request.settimeout(_IDLE_S)
        request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = self._wrapped(request)
        with self._open_lock:
            self._open.add(connection)
        try:
            if self.owner.stopping.is_set():
                return
            if isinstance(connection, ssl.SSLSocket):
                connection.do_handshake()
            _Handler(connection, ("127.0.0.1", 0), self)
        finally:
            with self._open_lock:
                self._open.discard(connection)
            connection.close()

    def _wrapped(self, connection: socket.socket) -> socket.socket:
        if self._context is None:
            return connection
        return self._context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)

    def handle_error(self, request: object, client_address: object) -> None:
        """Print nothing: it is no error that a client leaves or does not trust us."""

    def break_connections(self) -> None:
        """Wake every thread that waits for its client. The plain shutdown leaves the TLS object to its thread."""
        with self._open_lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(connection, socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    connection: socket.socket

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing: the calls are recorded elsewhere."""

    def do_GET(self) -> None:
        """Answer."""
        self._serve()

    def do_POST(self) -> None:
        """Answer."""
        self._serve()

    def do_PUT(self) -> None:
        """Answer."""
        self._serve()

    def _serve(self) -> None:
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers or not length.isdecimal() or int(length) > _MAX_BODY:
            self.close_connection = True
            self._send(Reply(413, b'{"Code":"RequestTooLarge","Message":"want a small body with its length"}'))
            return
        names = [name.lower() for name in self.headers]
        if len(set(names)) != len(names):
            self.close_connection = True
            self._send(Reply(400, b'{"Code":"InvalidParameter","Message":"a header is there twice"}'))
            return
        path, _, query = self.path.partition("?")
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(length))
        self._send(self.server.owner.answer(Request(self.command, path, query, headers, body)))

    def _send(self, reply: Reply) -> None:
        if reply.fault is Fault.HANG:
            self._wait_for_the_client_to_leave()
        elif reply.fault in (Fault.RESET, Fault.LOSE_REPLY):
            self._reset()
        elif reply.fault is Fault.DRIP:
            self._drip(self._render(reply))
        else:
            self.wfile.write(self._render(reply))

    def _render(self, reply: Reply) -> bytes:
        """Return the whole answer in one piece, so that it can also be sent byte by byte."""
        phrase = _PHRASES.get(reply.status, "Unknown")
        headers = {
            "Date": formatdate(self.server.owner.cloud.now(), usegmt=True),
            "Content-Type": "application/json;charset=utf-8",
            "Content-Length": str(len(reply.body)),
            "Connection": "close" if self.close_connection else "keep-alive",
            **reply.headers,
        }
        head = f"HTTP/1.1 {reply.status} {phrase}\r\n" + "".join(f"{k}: {v}\r\n" for k, v in headers.items())
        return head.encode("latin-1") + b"\r\n" + reply.body

    def _drip(self, data: bytes) -> None:
        for position in range(len(data)):
            self.wfile.write(data[position : position + 1])
            if self.server.owner.stopping.wait(self.server.owner.drip_interval_s):
                self.close_connection = True
                return

    def _wait_for_the_client_to_leave(self) -> None:
        self.close_connection = True
        self.connection.settimeout(None)
        while self.connection.recv(4096) and not self.server.owner.stopping.is_set():
            pass

    def _reset(self) -> None:
        """Close the socket with a linger time of zero, so that RST is sent instead of FIN."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
