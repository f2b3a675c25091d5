"""What `check` says of an address in the config."""

from __future__ import annotations

import errno
import socket

from agent.core.finding import Finding
from agent.http import listener

ASK_S = 2.0


def address_finding(place: str, address: str) -> Finding:
    """Return whether something can listen on an address, or the keyturn that runs does so already.

    Args:
        place: the key in the config.
        address: its value, "host:port".
    """
    try:
        listener.bind(address).close()
    except OSError as error:
        if error.errno == errno.EADDRINUSE and _is_keyturn(address):
            return Finding("ok", place, f"{address} is served by the keyturn that runs")
        return Finding.of("error", place, listener.bind_problem(error, address))
    return Finding("ok", place, f"{address} is free")


def _is_keyturn(address: str) -> bool:
    """Return whether the one that listens there says that it is a keyturn."""
    host, port = listener.split(address)
    try:
        with socket.create_connection((host, port), ASK_S) as channel:
            channel.settimeout(ASK_S)
            channel.sendall(b"HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            return b"\r\nServer: keyturn/" in channel.recv(1024)
    except OSError:
        return False
