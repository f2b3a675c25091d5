"""The daemon's end of the control socket.

Who may: root, the agent's own user, and members of `control_group`, judged by the kernel's word about the
peer (SO_PEERCRED and SO_PEERGROUPS, Linux >= 4.13), not only by the socket's mode. A missing group leaves
root and the user. Each connection has a thread of its own, a time limit for its request, and a bound on
how many there are, so that a client that connects and says nothing holds up nobody. Some places are kept for
the emergency; whoever finds none is told so and tries again by itself (agent/control/client.py).
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from typing import Any

from agent.control import protocol
from agent.control.runtime_directory import RuntimeDirectory
from agent.core.errors import EXIT_FAILED, EXIT_NOT_PERMITTED, EXIT_USAGE, KeyturnError
from agent.core.events import Actor
from agent.logs.log import log
from agent.logs.seldom import Seldom
from agent.system.accounts import actor_name, find_group
from agent.system.bounded_server import BoundedServer, Refusal
from agent.system.socket_peer import groups_of, peer_ids

MAX_CONNECTIONS = 128
KEPT_PLACES = 16
"""For `EMERGENCY`, whatever else is under way."""
EMERGENCY = frozenset({"rotate"})
REQUEST_S = 5.0
"""Seconds for a whole request, however slowly it comes in."""
MAX_REQUEST = 64 * 1024

Send = Callable[[dict[str, Any]], None]
_FULL = {
    "error": f"{MAX_CONNECTIONS} commands are under way already; try again in a moment",
    "exit_code": EXIT_FAILED,
    "busy": True,  # the client tries again
}
Handler = Callable[[dict[str, Any], Actor, Send], tuple[dict[str, Any], int]]
"""Takes a request, who makes it, and a way to send steps; returns the result and the exit code."""


class ControlServer:
    """The listener on `control.sock` in the runtime directory."""

    def __init__(self, directory: RuntimeDirectory, group: str, handle: Handler) -> None:
        """Bind the socket, with its owner and mode right before anybody can connect.

        Args:
            directory: where the socket is made; closed with this.
            group: whose members may use it.
            handle: called for each request.

        Raises:
            StateError: the socket cannot be made.
        """
        self._handle, self._group = handle, group
        self._refused = Seldom()
        self._gid = find_group(group)
        self._directory, self.path = directory, directory.socket_path
        self._places = threading.BoundedSemaphore(MAX_CONNECTIONS)
        listener = directory.listen(self._gid, MAX_CONNECTIONS)
        self._server = BoundedServer(listener, MAX_CONNECTIONS + KEPT_PLACES, self._serve, _turn_away, "command")
        threading.Thread(target=self._server.accept_all, name="control", daemon=True).start()

    def close(self) -> None:
        """Stop listening and take the socket away."""
        self._server.close()
        self._directory.close()

    def _serve(self, channel: socket.socket) -> None:
        channel.settimeout(REQUEST_S)
        self._answer(channel)

    def _answer(self, channel: socket.socket) -> None:
        actor, groups = peer(channel)
        try:
            request = next(protocol.lines(channel, MAX_REQUEST, REQUEST_S), None)
        except ValueError as error:
            sentence = (
                f"not a request of keyturn's: {type(error).__name__}; use the keyturn command of the same version"
            )
            protocol.send(channel, {"error": sentence, "exit_code": EXIT_USAGE})
            return
        if request is None:
            return
        channel.settimeout(REQUEST_S)
        # Judged only now: to close on a request that nobody read would take the refusal away from its reader.
        if not self._may(actor, groups):
            if (left_out := self._refused.due()) is not None:
                log.warning(
                    "a control connection was refused", uid=actor.uid, user=actor.user, pid=actor.pid, **left_out
                )
            sentence = f"user {actor.user} may not use {self.path}; become root, or join the group {self._group}"
            protocol.send(channel, {"error": sentence, "exit_code": EXIT_NOT_PERMITTED})
            return
        in_line = str(request.get("command")) not in EMERGENCY
        if in_line and not self._places.acquire(blocking=False):
            protocol.send(channel, _FULL)
            return
        try:
            self._perform(channel, request, actor)
        finally:
            if in_line:
                self._places.release()

    def _perform(self, channel: socket.socket, request: dict[str, Any], actor: Actor) -> None:
        try:
            result, code = self._handle(request, actor, lambda step: _try_send(channel, {"step": step}))
            answer = {"result": result, "exit_code": code}
        except KeyturnError as error:
            answer = {"error": str(error), "exit_code": error.exit_code}
        except Exception:
            log.error("a fault of keyturn itself; please report it", exc_info=True)
            answer = {"error": "the daemon failed at this; see its log", "exit_code": EXIT_FAILED}
        protocol.send(channel, answer)

    def _may(self, actor: Actor, groups: set[int]) -> bool:
        return actor.uid in (0, os.geteuid()) or (self._gid is not None and self._gid in groups)


def peer(channel: socket.socket) -> tuple[Actor, set[int]]:
    """Return who is on the other end, and the groups that it is in, as the kernel says."""
    pid, uid, gid = peer_ids(channel)
    return Actor(uid, actor_name(uid), pid), {gid, *groups_of(channel)}


def _turn_away(channel: socket.socket, why: Refusal) -> None:
    refusal = _FULL
    if why is Refusal.NO_THREAD:
        sentence = "the daemon has no thread left for this command; raise TasksMax= of its unit"
        refusal = {"error": sentence, "exit_code": EXIT_FAILED}
        log.error("a command cannot be served", exc_info=True)
    channel.setblocking(False)
    _try_send(channel, refusal)


def _try_send(channel: socket.socket, message: dict[str, Any]) -> None:
    try:
        protocol.send(channel, message)
    except OSError:
        pass  # an operator's terminal that closed must not stop the emergency
