"""The commands' end of the control socket."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.control import protocol
from agent.core.errors import DaemonUnreachableError, KeyturnError, NotPermittedError

CONNECT_S = 5.0
ANSWER_S = 1800.0


class ConnectionLostError(DaemonUnreachableError):
    """The error that the daemon took the request and went away without an answer: the command must not do it itself then."""


class RemoteError(KeyturnError):
    """The refusal of the daemon, with its sentence and its exit code."""

    def __init__(self, sentence: str, exit_code: int) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code


def ask(
    runtime_directory: Path,
    request: dict[str, Any],
    show: Callable[[dict[str, Any]], None] = lambda _step: None,
    patience_s: float = ANSWER_S,
) -> tuple[dict[str, Any], int]:
    """Have the daemon do something; return the result and the exit code.

    Raises:
        DaemonUnreachableError: no daemon answers.
        NotPermittedError: this user may not use the socket.
        RemoteError: the daemon could not do it.
    """
    path = runtime_directory / protocol.SOCKET_NAME
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as channel:
        channel.settimeout(CONNECT_S)
        connected = False
        try:
            with protocol.reachable(path) as name:
                channel.connect(name)
            connected = True
            channel.settimeout(patience_s)
            try:
                protocol.send(channel, request)
            except (BrokenPipeError, ConnectionResetError):
                pass  # turned away before we spoke: the reason can still be read
            return _outcome(channel, show)
        except PermissionError as err:
            raise NotPermittedError(
                f"{path}: the daemon's socket may not be used by this user", "become root, or join the control group"
            ) from err
        except (OSError, ValueError) as err:
            if connected:
                raise _lost() from err
            raise DaemonUnreachableError(
                f"{path}: the daemon does not answer", "start it (systemctl start keyturn), or look at its log"
            ) from err


def _outcome(channel: socket.socket, show: Callable[[dict[str, Any]], None]) -> tuple[dict[str, Any], int]:
    for message in protocol.lines(channel):
        if "step" in message:
            try:
                show(message["step"])
            except Exception:
                pass  # our own output failed; what the daemon does goes on, and so does the waiting for its outcome
        elif "error" in message:
            raise RemoteError(str(message["error"]), int(message["exit_code"]))
        elif "result" in message:
            return message["result"], int(message["exit_code"])
    raise _lost()


def _lost() -> ConnectionLostError:
    return ConnectionLostError(
        "the daemon closed the connection before it had answered",
        "look at its log and at `keyturn status`; running the same command again is safe",
    )
