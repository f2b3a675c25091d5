"""The commands' end of the control socket."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

from agent.control import protocol
from agent.core.errors import BusyError, DaemonUnreachableError, KeyturnError, NotPermittedError
from agent.core.retry import Retry
from agent.system.accounts import user_name
from agent.system.socket_peer import peer_ids

CONNECT_S = 5.0
ANSWER_S = 1800.0
PLACE_S = 60.0
"""Seconds that a command tries to get a place, where it is asked to be that patient."""
SAID_AFTER = 4
"""The number of tries after which it says so: about a second."""


class ConnectionLostError(DaemonUnreachableError):
    """The error that the daemon took the request and went away without an answer: the command must not do it itself then."""


class RemoteError(KeyturnError):
    """The refusal of the daemon, with its sentence and its exit code."""

    def __init__(self, sentence: str, exit_code: int) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code


class UntrustedDaemonError(NotPermittedError):
    """What answers on the socket is run by somebody who is not trusted: its word would be worth nothing."""


class _NoPlaceError(Exception):
    """The daemon is there, and takes nobody more just now."""


def ask(
    runtime_directory: os.PathLike[str] | str,
    request: dict[str, Any],
    show: Callable[[dict[str, Any]], None] = lambda _step: None,
    patience_s: float = ANSWER_S,
    *,
    agents: Collection[int] = (),
    wait: Callable[[str], None] = lambda _text: None,
) -> tuple[dict[str, Any], int]:
    """Have the daemon do something; return the result and the exit code.

    Args:
        runtime_directory: where its socket is.
        request: for it.
        show: called with each step.
        patience_s: for each piece of the answer.
        agents: the uids that it may run as, besides root and this user.
        wait: called once, with a sentence, where it takes long until the daemon has a place for this command.

    Raises:
        DaemonUnreachableError: no daemon answers.
        UntrustedDaemonError: somebody else answers in its place; nothing was sent.
        NotPermittedError: this user may not use the socket.
        BusyError: the daemon is there, and had no place in time.
        RemoteError: the daemon could not do it.
    """
    path = os.path.join(runtime_directory, protocol.SOCKET_NAME)
    limit_s = min(patience_s, PLACE_S)
    retry = Retry(0.2, 1.0, limit_s, chance=_chance, pause=time.sleep, monotonic=time.monotonic)
    say = partial(wait, f"{path}: the daemon has no place for this command yet; it is tried again for {limit_s:.0f} s")
    while True:
        try:
            return _ask_once(path, request, show, patience_s, {0, os.geteuid(), *agents})
        except _NoPlaceError:
            if retry.attempts == SAID_AFTER:
                say()
            if not retry.again():
                raise BusyError(
                    f"{path}: the daemon is there, but had no place for this command in {limit_s:.0f} s",
                    "try again; where that does not help, look at its log for what it is busy with",
                ) from None


def _chance() -> float:
    """Return a number in [0, 1), without `random`, which would be a twentieth of the start of every command."""
    return os.urandom(1)[0] / 256


def _ask_once(
    path: str,
    request: dict[str, Any],
    show: Callable[[dict[str, Any]], None],
    patience_s: float,
    trusted: Collection[int],
) -> tuple[dict[str, Any], int]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as channel:
        channel.settimeout(CONNECT_S)
        connected = False
        try:
            with protocol.reachable(path) as name:
                channel.connect(name)
            connected = True
            _refuse_stranger(channel, path, trusted)
            channel.settimeout(patience_s)
            try:
                protocol.send(channel, request)
            except (BrokenPipeError, ConnectionResetError):
                pass  # turned away before we spoke: the reason can still be read
            return _outcome(channel, show)
        except PermissionError as err:
            raise NotPermittedError(
                f"{path}: the daemon's socket may not be used by this user",
                "become root, or join the group of `[agent] control_group`",
            ) from err
        except (OSError, ValueError) as err:
            if connected and isinstance(err, TimeoutError):
                raise ConnectionLostError(
                    f"the daemon has said nothing for {patience_s:g} s",
                    "look at its log and at `systemctl status keyturn`: it may be stopped; running the same command again is safe",
                ) from err
            if connected:
                raise _lost() from err
            if isinstance(err, BlockingIOError):  # unix(7): its queue of connections to be accepted is full
                raise _NoPlaceError from None
            raise DaemonUnreachableError(
                f"{path}: the daemon does not answer", "start it (systemctl start keyturn), or look at its log"
            ) from err


def _refuse_stranger(channel: socket.socket, path: str, trusted: Collection[int]) -> None:
    """See who listens, by the kernel's word: anybody can put a socket into a directory of theirs."""
    uid = peer_ids(channel)[1]
    if uid not in trusted:
        raise UntrustedDaemonError(
            f"{path}: what answers there is run by user {user_name(uid)}, who is neither root nor the user of keyturn; "
            "nothing was asked of it",
            f"see whose {os.path.dirname(path)} is, and name a directory "
            "of root's or of keyturn's user in `agent.runtime_directory`",
        )


def _outcome(channel: socket.socket, show: Callable[[dict[str, Any]], None]) -> tuple[dict[str, Any], int]:
    for message in protocol.lines(channel):
        if "step" in message:
            try:
                show(message["step"])
            except Exception:
                pass  # our own output failed; what the daemon does goes on, and so does the waiting for its outcome
        elif message.get("busy"):
            raise _NoPlaceError
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
