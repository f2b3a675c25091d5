"""The connection to Redis or Tair, by the official client (redis-py): over keyturn's own TLS, with deadlines, tried once.

Imported only where a config has `[fleet]`: redis-py 8.1 costs 6 MB and 50 ms.
"""

from __future__ import annotations

import os
import socket
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


class _TlsConnection(Connection):
    """A connection over the trust store that every other call of keyturn has (agent/cloud/tls.py)."""

    def __init__(self, *, ca_files: tuple[str, ...], **options: Any) -> None:
        super().__init__(**options)  # type: ignore[no-untyped-call]
        self._ca_files = ca_files

    def _connect(self) -> socket.socket:
        plain: socket.socket = super()._connect()  # type: ignore[no-untyped-call]
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
    options: dict[str, Any] = {}
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
