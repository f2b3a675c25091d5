"""A listener: bounded connections, each with a deadline, on threads of their own.

An address that cannot be had (in use, no such interface, a port below 1024) is one error in the log and is tried again
every few seconds, so a port that comes free is taken, and a config that names a wrong one stops no agent.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus

from agent.core.problem import Problem
from agent.http import message
from agent.http.message import RefusedError, Reply, Request
from agent.logs.log import log
from agent.logs.seldom import Seldom
from agent.system.bounded_server import BoundedServer, Refusal

MAX_CONNECTIONS = 16
BACKLOG = 1024
"""Connections that wait in the kernel to be accepted: one that finds no place there tries again a second later."""
SEND_S = 10.0
RETRY_S = 5.0
LINGER_S = 0.5
"""Seconds for what a refused client still sends: to close on unread bytes is a reset, which would take the refusal away."""

Answer = Callable[[Request, socket.socket], Reply]
"""Answers one request; the connection is there to be asked who is on its other end."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How a listener serves.

    Attributes:
        name: of what is served, for the log and the threads: "metrics".
        connections: how many are served at once.
        refusal: what a client gets instead of a reply that says what was wrong.
    """

    name: str
    connections: int = MAX_CONNECTIONS
    refusal: Callable[[Reply], Reply] = lambda reply: reply


def split(address: str) -> tuple[str, int]:
    """Return the host, without brackets, and the port of "host:port"."""
    host, _colon, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def bind(address: str) -> socket.socket:
    """Return a socket that is bound to `address` and does not listen yet; a name's IPv4 address comes first.

    Raises:
        OSError: it cannot be had.
    """
    host, port = split(address)
    found = sorted(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE))
    family, kind, protocol, _name, place = found[0]
    bound = socket.socket(family, kind | socket.SOCK_CLOEXEC, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a restart does not wait for TIME_WAIT
        bound.bind(place)
    except BaseException:
        bound.close()
        raise
    return bound


def bind_problem(error: OSError, address: str) -> Problem:
    """Return why an address cannot be had."""
    return _why(error, address).at(f"nothing can listen on {address}")


def _why(error: OSError, address: str) -> Problem:
    _host, port = split(address)
    if isinstance(error, socket.gaierror):
        return Problem("this host name has no address", "name an address of this machine, such as 127.0.0.1")
    if error.errno == errno.EADDRINUSE:
        return Problem("the address is in use", f"see who holds it (ss -ltnp 'sport = :{port}'), or name another port")
    if error.errno == errno.EADDRNOTAVAIL:
        return Problem("no interface of this machine has that address", "name one that `ip address` shows")
    if error.errno in (errno.EACCES, errno.EPERM):
        return Problem("this user may not", "name a port from 1024 on, or see SocketBindDeny= of keyturn's unit")
    if error.errno == errno.EAFNOSUPPORT:
        return Problem("this family of addresses is not allowed", "see RestrictAddressFamilies= of keyturn's unit")
    return Problem(os.strerror(error.errno or 0).lower(), "name another address")


class Listener:
    """The server of one address, until it is closed."""

    def __init__(self, address: str, prepare: Callable[[], Answer], manner: Manner) -> None:
        """Begin to serve on a thread of its own.

        Args:
            address: "host:port".
            prepare: makes what answers requests; called on the listener's thread, since it may take a while.
            manner: how it serves.
        """
        self.address, self._manner = address, manner
        self._host = split(address)[0]
        self._prepare = prepare
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._server: BoundedServer | None = None
        self._is_loopback = True
        self._clients = _Clients()
        self._faults, self._rebound = Seldom(), Seldom()
        threading.Thread(target=self._run, name=self._manner.name, daemon=True).start()

    def close(self) -> None:
        """Stop listening; the address is free when this returns."""
        with self._lock:
            self._closed.set()
            server, self._server = self._server, None
        if server is not None:
            server.close()

    def _run(self) -> None:
        try:
            answer = self._prepare()
        except Exception:
            log.error(f"{self._manner.name} cannot be served", exc_info=True)
            return
        server = self._listening(partial(self._answer_one, answer=partial(self._judged, answer)))
        if server is not None:
            log.info(f"{self._manner.name}: served", address=self.address)
            server.accept_all()

    def _listening(self, serve: Callable[[socket.socket], None]) -> BoundedServer | None:
        """Try until the address is had; return the server that listens, or None where it was closed meanwhile."""
        told: Problem | None = None
        while not self._closed.is_set():
            try:
                return self._listen(bind(self.address), serve)
            except OSError as error:
                problem = bind_problem(error, self.address)
                if problem != told:
                    log.error(f"{self._manner.name}: not served, and it is tried again", error=str(problem))
                told = problem
                self._closed.wait(RETRY_S)
        return None

    def _listen(self, bound: socket.socket, serve: Callable[[socket.socket], None]) -> BoundedServer | None:
        """Listen and keep the server for `close` in one step: whoever can connect can also be cut off."""
        try:
            self._is_loopback = ipaddress.ip_address(bound.getsockname()[0].partition("%")[0]).is_loopback
            with self._lock:
                if not self._closed.is_set():
                    limit, name = self._manner.connections, f"{self._manner.name} client"
                    bound.listen(BACKLOG)
                    self._server = BoundedServer(bound, limit, serve, _turn_away, name, self._clients.oldest_gives_way)
                    return self._server
        except BaseException:
            bound.close()
            raise
        bound.close()
        return None

    def _judged(self, answer: Answer, request: Request, channel: socket.socket) -> Reply:
        if self._is_loopback:
            try:
                message.refuse_rebound(request, self._host)
            except RefusedError as refused:
                if (left_out := self._rebound.due()) is not None:
                    log.warning(f"{self._manner.name}: a request was refused", why=str(refused), **left_out)
                raise
        return answer(request, channel)

    def _answer_one(self, channel: socket.socket, answer: Answer) -> None:
        with self._clients.served(channel):
            request, reply = self._reply_to(channel, answer)
            if reply is None:
                return
            channel.settimeout(SEND_S)
            channel.sendall(reply.as_bytes(head_only=request is not None and request.method == "HEAD"))
            if reply.status is not HTTPStatus.OK:
                _hear_out(channel)

    def _reply_to(self, channel: socket.socket, answer: Answer) -> tuple[Request | None, Reply | None]:
        """Return the request and the reply; no reply where the client went away without a word."""
        request = None
        try:
            request = message.read(channel)
            if request is None:
                return None, None
            with self._clients.busy(channel):
                return request, answer(request, channel)
        except RefusedError as refused:
            return request, self._manner.refusal(refused.reply)
        except OSError:
            raise
        except Exception:
            if (left_out := self._faults.due()) is not None:
                log.error("a fault of keyturn itself; please report it", exc_info=True, **left_out)
            failed = message.sentence_reply(HTTPStatus.INTERNAL_SERVER_ERROR, "keyturn failed at this; see its log")
            return request, self._manner.refusal(failed)


class _Clients:
    """The connections that are being served. Where there is no place left, the oldest that waits for its client ends."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[socket.socket, bool] = {}
        """Whether a connection waits for its client, oldest first."""

    @contextmanager
    def served(self, channel: socket.socket) -> Iterator[None]:
        with self._lock:
            self._waiting[channel] = True
        try:
            yield
        finally:
            with self._lock:
                del self._waiting[channel]

    @contextmanager
    def busy(self, channel: socket.socket) -> Iterator[None]:
        """For as long as the client waits for keyturn, and not the other way round."""
        with self._lock:
            self._waiting[channel] = False
        try:
            yield
        finally:
            with self._lock:
                self._waiting[channel] = True

    def oldest_gives_way(self) -> bool:
        with self._lock:
            oldest = next((channel for channel, waits in self._waiting.items() if waits), None)
            if oldest is None:
                return False
            self._waiting[oldest] = False
            with suppress(OSError):
                oldest.shutdown(socket.SHUT_RDWR)  # its thread wakes up, and finds that the client is gone
            return True


def _turn_away(channel: socket.socket, why: Refusal) -> None:
    """Close without a word: a scraper comes again by itself."""


def _hear_out(channel: socket.socket) -> None:
    channel.shutdown(socket.SHUT_WR)
    channel.settimeout(LINGER_S)
    for _ in range(16):
        if not channel.recv(8192):
            return
