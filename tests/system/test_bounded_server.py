"""The accept loop that the control socket and the metrics share."""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from agent.system.bounded_server import BoundedServer, Refusal

PATIENCE_S = 10.0


class Listener(socket.socket):
    """Fails to accept as often as it is told, as accept(2) does while no descriptor is left."""

    failures = 0

    def accept(self) -> tuple[socket.socket, Any]:
        if self.failures:
            self.failures -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        return super().accept()


class World:
    """A server whose clients are served until `let_go`."""

    def __init__(self, limit: int = 1) -> None:
        self.listener = Listener()
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen()
        self.address = self.listener.getsockname()
        self.let_go, self.refusals = threading.Event(), list[Refusal]()
        self.server = BoundedServer(self.listener, limit, self._serve, self._turn_away, "test")
        self.thread = threading.Thread(target=self.server.accept_all, daemon=True)

    def start(self) -> World:
        self.thread.start()
        return self

    def _serve(self, channel: socket.socket) -> None:
        channel.sendall(b"served")
        self.let_go.wait(PATIENCE_S)
        raise BrokenPipeError

    def _turn_away(self, channel: socket.socket, why: Refusal) -> None:
        self.refusals.append(why)
        channel.sendall(b"refused")

    def connected(self) -> socket.socket:
        return socket.create_connection(self.address, PATIENCE_S)

    def heard(self) -> bytes:
        with self.connected() as channel:
            return channel.recv(16)


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.let_go.set()
    made.server.close()


def test_exhausted_descriptors_end_nothing(world: World) -> None:
    """The client that waits in the backlog is served as soon as one is free again."""
    world.listener.failures = 2
    assert world.start().heard() == b"served"
    assert world.listener.failures == 0


def test_one_more_than_the_limit_is_turned_away_and_the_place_comes_free(world: World) -> None:
    """Also after a client that went away in the middle."""
    world.start()
    with world.connected() as first:
        assert first.recv(16) == b"served"
        assert world.heard() == b"refused"
        world.let_go.set()
        assert first.recv(16) == b"", "the connection ends with the service"
    assert world.refusals == [Refusal.FULL]
    answers = {world.heard() for _ in range(50)}
    assert b"served" in answers


def test_a_thread_that_cannot_be_started_costs_no_place(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the limit of processes the client is turned away; the next one is served."""
    world.start()

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert world.heard() == b"refused"
    monkeypatch.undo()
    assert world.refusals == [Refusal.NO_THREAD]
    assert world.heard() == b"served"


def test_close_ends_the_loop_and_frees_the_address(world: World) -> None:
    """Although it waits in accept(2)."""
    world.start()
    world.server.close()
    world.thread.join(PATIENCE_S)
    assert not world.thread.is_alive()
    with pytest.raises(ConnectionRefusedError):
        world.connected()
