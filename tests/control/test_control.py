"""The control socket: who may, what strangers and broken clients get, and that nobody's absence stops the work."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.control import client, protocol, server
from agent.control.client import RemoteError
from agent.control.runtime_directory import RuntimeDirectory
from agent.control.server import ControlServer, Send, peer
from agent.core.errors import BusyError, DaemonUnreachableError, KeyturnError, NotPermittedError
from agent.core.events import Actor
from agent.system.waiting import BEGUN
from tests.support.fakes import PATIENCE_S
from tests.support.station import Station

Handler = Callable[[dict[str, Any], Actor, Send], tuple[dict[str, Any], int]]
MakeServer = Callable[..., ControlServer]


def echo(request: dict[str, Any], actor: Actor, send: Send) -> tuple[dict[str, Any], int]:
    send({"name": "heard"})
    return {"request": request, "actor": actor.as_json()}, 0


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[MakeServer]:
    """Makes servers that end with the test."""
    made: list[ControlServer] = []

    def make(handle: Handler = echo, directory: Path = tmp_path, group: str = "no-such-group") -> ControlServer:
        made.append(ControlServer(RuntimeDirectory(directory), group, handle))
        return made[-1]

    yield make
    for one in made:
        one.close()


def connected(to: ControlServer) -> socket.socket:
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    channel.settimeout(PATIENCE_S)
    with protocol.reachable(to.path) as name:
        channel.connect(name)
    return channel


def answer(channel: socket.socket) -> dict[str, Any] | None:
    return next(protocol.lines(channel), None)


# -- who may ------------------------------------------------------------------------------------------


def test_the_actor_is_who_the_kernel_says(serve: MakeServer) -> None:
    """uid, user and pid of the other end, whatever the request claims."""
    seen: list[dict[str, Any]] = []
    result, code = client.ask(serve().path.parent, {"command": "x", "actor": {"uid": 0}}, seen.append)
    assert (code, seen) == (0, [{"name": "heard"}])
    assert (result["actor"]["uid"], result["actor"]["pid"]) == (os.geteuid(), os.getpid())


def test_the_socket_is_closed_to_others_from_the_first_moment(serve: MakeServer) -> None:
    """Without the group only root and the agent's user: mode 0600."""
    assert serve().path.stat().st_mode & 0o777 == 0o600


def test_the_groups_of_the_other_end_are_known() -> None:
    """The supplementary ones too, by the kernel's word."""
    here, there = socket.socketpair(socket.AF_UNIX)
    with here, there:
        actor, groups = peer(here)
    assert actor.pid == os.getpid()
    assert groups >= {os.getegid(), *os.getgroups()}


def asked_by(directory: Path, uid: int, *groups: int) -> str:
    """What a process of that user and these groups gets: a child of ours, since the user may not start our Python."""
    hear, say = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups(groups)
            os.setgid(uid)
            os.setuid(uid)
            result, _code = client.ask(directory, {"command": "status"})
            os.write(say, json.dumps(result["actor"]).encode())
        except KeyturnError as error:
            os.write(say, f"{type(error).__name__} {error.exit_code} {error}".encode())
        finally:
            os._exit(0)
    os.close(say)
    with os.fdopen(hear) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: another user is played")
def test_a_member_of_the_group_may_and_a_stranger_may_not(serve: MakeServer, public_path: Path) -> None:
    """By a supplementary group too; the stranger is refused by the mode, and by the server where a mode was opened."""
    control = serve(directory=public_path, group="daemon")
    member = json.loads(asked_by(public_path, 65534, 1))
    assert member["uid"] == 65534
    assert asked_by(public_path, 65534).startswith("NotPermittedError 77")
    control.path.chmod(0o666)
    assert "may not use" in asked_by(public_path, 65534)


# -- broken clients -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [b"GET / HTTP/1.1\r\n\r\n", b"[1]\n", b"\xff\xfe\n", b"[" * 60_000 + b"\n", b'{"a": "' + b"x" * 70_000, b"\0\n"],
    ids=["http", "not an object", "not utf-8", "nested", "oversized", "nul"],
)
def test_garbage_is_refused_in_a_sentence_and_harms_nobody(serve: MakeServer, line: bytes) -> None:
    """Not one word of it reaches the handler; the next client is served."""
    heard: list[Any] = []
    control = serve(lambda request, actor, send: (heard.append(request) or {}, 0))
    with connected(control) as channel:
        channel.sendall(line)
        refusal = answer(channel)
    assert refusal is not None
    assert "not a request of keyturn's" in refusal["error"]
    assert heard == []
    assert client.ask(control.path.parent, {"command": "x"}) == ({}, 0)


def test_clients_that_say_nothing_hold_up_nobody(serve: MakeServer) -> None:
    """Forty silent ones, and a talking one is served at once."""
    control = serve()
    silent = [connected(control) for _ in range(40)]
    assert client.ask(control.path.parent, {"command": "x"})[1] == 0
    for channel in silent:
        channel.close()


def test_a_client_that_drips_is_cut_off(serve: MakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time limit is for the whole request, not for each byte."""
    monkeypatch.setattr(server, "REQUEST_S", 0.3)
    control = serve()
    with connected(control) as channel, pytest.raises(OSError):
        while True:
            channel.sendall(b" ")
            threading.Event().wait(0.05)


def test_fifty_clients_at_once_are_all_served(serve: MakeServer) -> None:
    """Each gets the answer to its own request."""
    control = serve()
    answers: list[int] = []

    def one(number: int) -> None:
        answers.append(client.ask(control.path.parent, {"command": "x", "n": number})[0]["request"]["n"])

    threads = [threading.Thread(target=one, args=(number,)) for number in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert sorted(answers) == list(range(50))


def test_more_clients_than_it_can_serve_are_told_so(serve: MakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not left hanging, not cut off without a word: they try again while they have patience, and then say why."""
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 1)
    monkeypatch.setattr(server, "KEPT_PLACES", 0)
    control = serve()
    with connected(control), pytest.raises(BusyError):
        client.ask(control.path.parent, {"command": "x"}, patience_s=0.5)
    assert client.ask(control.path.parent, {"command": "x"})[1] == 0


def test_a_command_that_gets_no_thread_is_told_so_and_the_next_one_is_served(
    serve: MakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the limit of processes the client gets a sentence; no slot is lost, and the socket goes on listening."""
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 1)
    control = serve()
    refusals = iter([RuntimeError("can't start new thread"), MemoryError()])
    real = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        error = next(refusals, None)
        if error is not None:
            raise error
        real(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    for _ in range(2):
        with pytest.raises(RemoteError, match="no thread left"):
            client.ask(control.path.parent, {"command": "x"})
    assert client.ask(control.path.parent, {"command": "x"})[1] == 0


def test_no_fault_of_accepting_ends_the_socket(serve: MakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever goes wrong with one connection, the next one is served."""
    control = serve()

    def fail(_channel: socket.socket) -> None:
        raise ValueError("unforeseen")

    monkeypatch.setattr(control._server, "_begin", fail)
    with connected(control) as channel:
        assert answer(channel) is None
    monkeypatch.undo()
    assert client.ask(control.path.parent, {"command": "x"})[1] == 0


def test_an_error_of_the_handler_keeps_its_exit_code(serve: MakeServer) -> None:
    """The sentence and the code of ours; for a fault of the daemon a sentence without its inside."""

    def fail(request: dict[str, Any], _actor: Actor, _send: Send) -> tuple[dict[str, Any], int]:
        raise BusyError("busy", "wait") if request["command"] == "ours" else ValueError("canary-secret")

    control = serve(fail)
    with pytest.raises(RemoteError, match="busy; wait"):
        client.ask(control.path.parent, {"command": "ours"})
    with pytest.raises(RemoteError, match="the daemon failed at this") as caught:
        client.ask(control.path.parent, {"command": "theirs"})
    assert "canary" not in str(caught.value)


# -- the socket's file --------------------------------------------------------------------------------


def test_a_socket_that_a_dead_daemon_left_is_replaced(serve: MakeServer, tmp_path: Path) -> None:
    """A crash leaves the file; the next start must not stumble over it."""
    dead = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    dead.bind(str(tmp_path / protocol.SOCKET_NAME))
    dead.close()
    with pytest.raises(DaemonUnreachableError):
        client.ask(tmp_path, {"command": "x"})
    serve()
    assert client.ask(tmp_path, {"command": "x"})[1] == 0


def test_a_path_longer_than_a_socket_address_works(serve: MakeServer, tmp_path: Path) -> None:
    """sun_path holds 108 bytes; a state directory may lie deeper."""
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    serve(directory=deep)
    assert client.ask(deep, {"command": "x"})[1] == 0


def test_after_close_nobody_is_served_and_the_file_is_gone(serve: MakeServer, tmp_path: Path) -> None:
    """The next command sees that no daemon runs, and does the work itself."""
    control = serve()
    control.close()
    assert not control.path.exists()
    with pytest.raises(DaemonUnreachableError):
        client.ask(tmp_path, {"command": "x"})


@pytest.mark.skipif(os.geteuid() == 0, reason="root may use every socket")
def test_a_socket_that_may_not_be_used_says_so(serve: MakeServer, tmp_path: Path) -> None:
    """Exit 77 with the way in, not "no daemon"."""
    serve().path.chmod(0)
    with pytest.raises(NotPermittedError):
        client.ask(tmp_path, {"command": "x"})


# -- an operator who goes away ------------------------------------------------------------------------


def test_an_emergency_goes_on_when_its_client_goes_away(serve: MakeServer, station: Station) -> None:
    """The terminal closed after the first step: the old key is cut off all the same."""
    station.start()
    gone, results = threading.Event(), []

    def rotate(_request: dict[str, Any], _actor: Actor, send: Send) -> tuple[dict[str, Any], int]:
        def show(step: dict[str, Any]) -> None:
            send(step)
            assert gone.wait(PATIENCE_S)

        result = station.rotate(disable_old=True, show=show)
        results.append(result)
        ended.set()
        return result.as_json(), result.exit_code

    ended = threading.Event()
    control = serve(rotate)
    with connected(control) as channel:
        protocol.send(channel, {"command": "rotate"})
        first = answer(channel)
    gone.set()
    assert first is not None
    assert (first["step"]["outcome"], first["step"]["detail"]) == (BEGUN, "preflight")
    assert ended.wait(PATIENCE_S)
    assert results[0].safe
