"""Connections that are kept for a few seconds, so that a thousand credentials need not make one for each call.

What is kept, for how long, and why a kept connection never costs a refresh: docs/adr/0018.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from urllib3.connection import HTTPConnection, HTTPSConnection

from agent.cloud.deadline import Deadline
from agent.cloud.http_library import requests
from agent.cloud.network import FAILURES, went_away
from agent.system.clock import Clock

IDLE_S = 10.0
"""The longest pause before a connection is used again: shorter than after what load balancers close one (15 s and more)."""

AGE_S = 60.0
"""The longest life of a connection: that late is a change in DNS noticed."""

MAX_IDLE = 32
"""The most connections that lie idle, of all hosts together: as many descriptors, and some 40 KB each."""

REQUEST_TIMEOUT = 408
"""By which a server may say that it has given up waiting for a request on an idle connection (RFC 9110, 15.5.9)."""


_CLOCK = Clock()


@dataclass(frozen=True, slots=True)
class Route:
    """The way to a server: calls with equal routes may use each other's connections.

    Attributes:
        origin: scheme, host and port.
        context: who is trusted; None for plain http. A CA file that changes makes another one (agent/cloud/tls.py).
        proxy_url: may hold a password.
    """

    origin: str
    context: ssl.SSLContext | None
    proxy_url: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: a body that is longer than the limit by one byte was not read to its end."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


class Connection:
    """A connection along one route, opened by its first call. One call at a time."""

    def __init__(self, route: Route, made_at_s: float) -> None:
        """Keep the route; no I/O.

        Args:
            made_at_s: boottime.
        """
        self.route, self.made_at_s = route, made_at_s
        self._adapter = _Adapter(self, route.context)
        self._deadline: Deadline | None = None
        self._link: _Plain | None = None
        self._is_kept = False  # whether the call under way goes over what an earlier one opened
        self._whole = False  # whether the last answer was read to its end

    def exchange(
        self, request: requests.PreparedRequest, deadline: Deadline, read_s: float, limit_bytes: int
    ) -> Answer:
        """Send one request and read its answer, within a deadline that has begun.

        A connection from an earlier call may be one that the server is about to close, or whose server is gone. Where it ends
        before anything has come back, the same request is sent once more, over a new one. That is no second call: a signed
        request has a nonce, which the service takes once.

        Raises:
            those of `FAILURES`: no whole answer.
        """
        self._is_kept = self.is_open()
        self._deadline, self._whole = deadline, False
        response = self._over_the_kept(request, read_s) if self._is_kept else None
        if response is None:
            deadline.connected = False
            response = self._sent(request, read_s)
        body = _read(response.raw, limit_bytes)
        deadline.check()
        self._whole = len(body) <= limit_bytes
        return Answer(response.status_code, {name.lower(): value for name, value in response.headers.items()}, body)

    def is_open(self) -> bool:
        """Return whether another call may use it.

        That is where the last answer was read to its end, and neither side has closed the connection since: not the server,
        and not the deadline that was over at the last moment.
        """
        return self._whole and self._link is not None and self._link.is_connected

    def close(self) -> None:
        """Close it."""
        self._adapter.close()

    def open_link(self, link: _Plain) -> socket.socket:
        """Open the socket of a link, which is the connection's from now on."""
        assert self._deadline is not None
        self._link, self._is_kept = link, False
        return self._deadline.connect(link.host_to_look_up, int(link.port))

    def _over_the_kept(self, request: requests.PreparedRequest, read_s: float) -> requests.Response | None:
        """Send over the connection of an earlier call; return None where it turned out to be of no use any more."""
        assert self._deadline is not None and self._link is not None
        self._deadline.adopt(self._link.sock)
        try:
            response = self._sent(request, read_s)
        except FAILURES as error:
            if not self._is_kept or self._deadline.expired or not went_away(error):
                raise
            return None
        if response.status_code != REQUEST_TIMEOUT:
            return response
        response.close()
        return None

    def _sent(self, request: requests.PreparedRequest, read_s: float) -> requests.Response:
        assert self._deadline is not None
        return self._adapter.send(
            request,
            stream=True,
            timeout=(self._deadline.connect_s, read_s),
            verify=True,
            proxies={"https": self.route.proxy_url} if self.route.proxy_url else {},
        )


class Connections:
    """The connections that lie idle. May be used by several threads."""

    def __init__(self, boottime: Callable[[], float] = _CLOCK.boottime) -> None:
        self._boottime = boottime
        self._lock = threading.Lock()
        self._idle: list[tuple[float, Connection]] = []  # since when; the newest last

    @contextmanager
    def lend(self, route: Route) -> Iterator[Connection]:
        """Hand out a connection for one call: an idle one, or else a new one. It is kept afterwards if it is whole."""
        connection = self._take(route) or Connection(route, self._boottime())
        try:
            yield connection
        finally:
            if connection.is_open():
                self._keep(connection)
            else:
                connection.close()

    def idle(self) -> int:
        """Return how many lie idle."""
        with self._lock:
            return len(self._idle)

    def _take(self, route: Route) -> Connection | None:
        with self._lock:
            dropped = self._outdated()
            fitting = [place for place, (_since, each) in enumerate(self._idle) if each.route == route]
            found = self._idle.pop(fitting[-1])[1] if fitting else None
        _close(dropped)
        return found

    def _keep(self, connection: Connection) -> None:
        with self._lock:
            self._idle.append((self._boottime(), connection))
            dropped = self._outdated()
        _close(dropped)

    def _outdated(self) -> list[Connection]:
        """Take out what lies idle for too long, is too old, or is one too many; boottime counts a suspend too."""
        now = self._boottime()
        fresh = [(since, each) for since, each in self._idle if now - since < IDLE_S and now - each.made_at_s < AGE_S]
        kept = fresh[-MAX_IDLE:]
        dropped = [entry[1] for entry in self._idle if entry not in kept]
        self._idle = kept
        return dropped


SHARED = Connections()
"""The idle connections of this process."""


def _close(connections: list[Connection]) -> None:
    for connection in connections:
        connection.close()


def _read(raw: Any, limit_bytes: int) -> bytes:
    """Read to the end, or to one byte past the limit, by which the caller sees that the reply is too long."""
    pieces = bytearray()
    while len(pieces) <= limit_bytes:
        piece = raw.read(min(65536, limit_bytes + 1 - len(pieces)), decode_content=False)
        if not piece:
            break
        pieces += piece
    raw.close()
    return bytes(pieces)


class _Plain(HTTPConnection):
    """A connection whose socket the deadline can shut down."""

    debuglevel = 0  # http.client would print whole requests where somebody sets it on the class

    def __init__(self, *args: Any, owner: Connection, **kwargs: Any) -> None:
        self._owner = owner
        super().__init__(*args, **kwargs)

    @property
    def host_to_look_up(self) -> str:
        """The host, with the dot at its end where there was one."""
        return self._dns_host

    def _new_conn(self) -> socket.socket:
        return self._owner.open_link(self)


class _Secure(_Plain, HTTPSConnection):
    """The same with TLS. The order of the bases makes urllib3's connect() open the socket by `_new_conn` above."""


class _Adapter(requests.adapters.HTTPAdapter):
    """A connection's adapter: our context (None for plain http), our connections, one at a time, no retries."""

    def __init__(self, owner: Connection, context: ssl.SSLContext | None) -> None:
        self._owner, self._context = owner, context
        super().__init__(pool_connections=1, pool_maxsize=1, max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs, ssl_context=self._context)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        return super().proxy_manager_for(proxy, **kwargs, ssl_context=self._context, proxy_ssl_context=self._context)

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Add no roots, since the context has them. The inherited method would load certifi's."""
        conn.cert_reqs = "CERT_REQUIRED"

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        pool.ConnectionCls = partial(_Secure if self._context else _Plain, owner=self._owner)
        return pool
