"""The connection to Redis or Tair, by the official client (redis-py): over keyturn's own TLS, with deadlines, tried once.

An answer has a deadline as a whole, and a largest size: redis-py bounds one read only, so that a server that gives a byte a
second would hold an emergency up for ever, and whoever writes half a gigabyte to the board would end every agent.

Imported only where a config has `[fleet]`: redis-py 8.1 costs 6 MB and 50 ms.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.connection import Connection, ConnectionPool
from redis.retry import Retry

from agent.cloud.tls import context_for
from agent.core.settings import FleetSettings
from agent.fleet.board import Board
from agent.system.files import read_private

CONNECT_S, ANSWER_S = 5.0, 5.0
PASSWORD_BYTES = 4096
MAX_ANSWER_BYTES = 32 * 1024 * 1024
"""As much as the states of `MAX_HOSTS` hosts at their longest, and more."""


class _Bounded:
    """A socket whose answer to each request ends in time, and is not too long."""

    def __init__(self, plain: socket.socket, answer_s: float) -> None:
        self._socket, self._answer_s, self._timeout = plain, answer_s, plain.gettimeout()
        self._left, self._ends_at = 0, 0.0

    def sendall(self, data: bytes) -> None:
        """Send a request, or a part of one: the answer begins behind it."""
        self._left, self._ends_at = MAX_ANSWER_BYTES, time.monotonic() + self._answer_s
        self._socket.settimeout(self._answer_s)
        self._socket.sendall(data)

    def recv(self, size: int) -> bytes:
        """Return some of the answer."""
        rest_s = self._ends_at - time.monotonic()
        if self._timeout == 0:
            self._socket.settimeout(0)
        elif rest_s <= 0:
            raise TimeoutError("the answer did not end in time")
        elif self._left <= 0:
            raise OSError(f"an answer is longer than {MAX_ANSWER_BYTES} bytes")
        else:
            self._socket.settimeout(rest_s if self._timeout is None else min(rest_s, self._timeout))
        data = self._socket.recv(size)
        self._left -= len(data)
        return data

    def settimeout(self, seconds: float | None) -> None:
        """Note how long one read may take."""
        self._timeout = seconds

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)


class _Connection(Connection):
    """A connection with bounded answers."""

    def __init__(self, *, answer_s: float, **options: Any) -> None:
        super().__init__(**options)  # type: ignore[no-untyped-call]
        self._answer_s = answer_s

    def _connect(self) -> Any:
        return _Bounded(self._socket(), self._answer_s)

    def _socket(self) -> socket.socket:
        plain: socket.socket = super()._connect()  # type: ignore[no-untyped-call]
        return plain


class _TlsConnection(_Connection):
    """A connection over the trust store that every other call of keyturn has (agent/cloud/tls.py)."""

    def __init__(self, *, ca_files: tuple[str, ...], **options: Any) -> None:
        super().__init__(**options)
        self._ca_files = ca_files

    def _socket(self) -> socket.socket:
        plain = super()._socket()
        try:
            return context_for(self._ca_files).wrap_socket(plain, server_hostname=self.host)
        except BaseException:
            plain.close()
            raise


def opened(settings: FleetSettings, environ: Mapping[str, str] = os.environ, wait_s: float = 0.0) -> Board:
    """Return the board of this config. Nothing is sent before its first use; its password is read now.

    Args:
        settings: `[fleet]`.
        environ: for systemd's credentials.
        wait_s: how long a command of it may wait at the server for something to come.

    Raises:
        KeyturnError: the password or the CA file cannot be used.
    """
    address = urlsplit(settings.url)
    options: dict[str, Any] = {"connection_class": _Connection}
    if address.scheme == "rediss":
        ca_files = trust_of(settings)
        options = {"connection_class": _TlsConnection, "ca_files": ca_files}
    if settings.password_from_file_path:
        options["password"] = password_of(settings, environ)
    pool = ConnectionPool(
        host=address.hostname,
        port=address.port or 6379,
        db=int(address.path.strip("/") or 0),
        username=settings.username,
        socket_connect_timeout=CONNECT_S,
        socket_timeout=wait_s + ANSWER_S,
        answer_s=wait_s + ANSWER_S,
        socket_keepalive=True,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
        driver_info=None,
        **options,
    )
    return Board(redis.Redis(connection_pool=pool), settings.name)


def password_of(settings: FleetSettings, environ: Mapping[str, str]) -> str:
    """Return the password that the config names.

    Raises:
        KeyturnError: the file cannot be read, or others may read or replace it.
    """
    return read_private(str(settings.password_from_file_path), PASSWORD_BYTES, environ).decode().rstrip("\n")


def trust_of(settings: FleetSettings) -> tuple[str, ...]:
    """Return the files of CAs that are trusted besides the system's.

    Raises:
        KeyturnError: they cannot be used.
    """
    ca_files = (str(settings.ca_file),) if settings.ca_file else ()
    context_for(ca_files)
    return ca_files
