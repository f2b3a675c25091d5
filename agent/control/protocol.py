"""The messages on the control socket: one JSON object a line.

A client sends one request, `{"command": "status"}`, and reads lines until one has a `result` or an
`error`: `{"step": {...}}` while something is under way, then `{"result": {...}, "exit_code": 0}` or
`{"error": "one sentence", "exit_code": 77}`. It is an interface between two halves of one version, not a
contract for third parties: those use the commands' `--json`.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SOCKET_NAME = "control.sock"
MAX_LINE = 4 * 1024 * 1024


MAX_SOCKET_PATH = 100  # sun_path holds 108 bytes (unix(7))


@contextmanager
def reachable(path: os.PathLike[str] | str) -> Iterator[str]:
    """Yield a name of the socket that connect and bind take, however long its path is.

    Raises:
        OSError: the directory cannot be opened.
    """
    if len(os.fsencode(path)) <= MAX_SOCKET_PATH:
        yield os.fspath(path)
        return
    parent, name = os.path.split(path)
    directory = os.open(parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{name}"
    finally:
        os.close(directory)


def served(config: str, state: os.PathLike[str] | str | None) -> dict[str, str]:
    """Return what a daemon works on, or what a command means: its config and its state directory, wherever links lead."""
    found = {"config": os.path.realpath(config)}
    return found if state is None else {**found, "state": os.path.realpath(state)}


def send(channel: socket.socket, message: dict[str, Any]) -> None:
    """Send one object as a line.

    Raises:
        OSError: the other side is gone.
    """
    channel.sendall(json.dumps(message, separators=(",", ":")).encode() + b"\n")


def lines(channel: socket.socket, limit: int = MAX_LINE, timeout_s: float | None = None) -> Iterator[dict[str, Any]]:
    """Yield objects until the other side closes.

    Args:
        channel: its own timeout is changed where `timeout_s` is given.
        limit: of bytes, for a line.
        timeout_s: for all of it, however slowly it comes in; None: the channel's own timeout, for each piece.

    Raises:
        OSError: the other side is gone, or took too long.
        ValueError: it does not speak this protocol.
    """
    pending, ends = b"", time.monotonic() + (timeout_s or 0.0)
    while True:
        head, newline, rest = pending.partition(b"\n")
        if newline:
            pending = rest
            yield _object(head)
            continue
        if len(pending) > limit:
            raise ValueError("a line is too long")
        if timeout_s is not None:
            channel.settimeout(max(0.001, ends - time.monotonic()))
        got = channel.recv(65536)
        if not got:
            return
        pending += got


def _object(line: bytes) -> dict[str, Any]:
    try:
        message = json.loads(line)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(message, dict):
        raise ValueError("not an object")
    return message
