"""The link on a real redis-server that is flooded, emptied and ended; and the board in front of what is no sound Redis."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis

from agent.core.settings import FleetSettings
from agent.fleet import board as boards
from agent.fleet import client as clients
from agent.fleet import link as links
from agent.fleet.client import opened
from agent.fleet.entries import Announcement, HostState, Why
from agent.fleet.errors import FleetError, FleetRefusedError
from agent.fleet.link import Link
from agent.logs.setup import set_up
from tests.support.processes import eventually
from tests.support.redis_server import RedisServer

NAME = "uploader"
STATE = HostState(version_id="v2", generation=7, access_key_id_tail="abcd", owed=0, machine="m1")


def news(version: str) -> Announcement:
    return Announcement("", version, "0" * 32, Why.ROTATION, time.time() + 900, "web-1")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path / "redis") as running:
        yield running


@pytest.fixture
def raw(server: RedisServer) -> Iterator[Any]:
    with redis.Redis(port=server.port) as client:
        yield client


class Heard:
    """A link, and what it heard."""

    def __init__(self, server: RedisServer, *, up: bool = True) -> None:
        self.news: list[str] = []
        open_board = partial(opened, FleetSettings(url=server.url), {})
        self.link = Link("web-1", open_board, self._hear, lambda _states: None, time.monotonic)
        self.link.follow([NAME])
        self.link.say({NAME: STATE})
        self.link.start()
        if up:
            eventually(lambda: self.link.health.up_since is not None, "both connections are up")

    def _hear(self, _name: str, one: Announcement) -> None:
        self.news.append(one.version_id)


@pytest.fixture
def heard(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Heard]:
    set_up("critical", "plain", {})
    monkeypatch.setattr(links, "BEAT_S", 0.2)
    monkeypatch.setattr(links, "LISTEN_S", 0.2)
    monkeypatch.setattr(links, "FLOOD_S", 0.2)
    made = Heard(server)
    yield made
    made.link.end()


def on_board(raw: Any) -> tuple[bool, bool, list[str]]:
    """Whether the host's state and sign of life are there, and which versions are announced."""
    prefix = f"keyturn:{{fleet}}:{NAME}:"
    said = [fields[b"version_id"].decode() for _entry, fields in raw.xrange(f"{prefix}announce")]
    return raw.hexists(f"{prefix}state", "web-1"), raw.zscore(f"{prefix}seen", "web-1") is not None, said


def test_a_server_that_forgot_everything_is_told_again(heard: Heard, raw: Any) -> None:
    """State, sign of life and the news, also where the connection lives on; then it is heard from its first entry on."""
    heard.link.announce(NAME, news("v2"))
    eventually(lambda: on_board(raw) == (True, True, ["v2"]))
    raw.flushall()
    raw.xadd(f"keyturn:{{fleet}}:{NAME}:announce", news("v3").fields(), id="5-0")  # a clock that went back to 1970
    eventually(lambda: on_board(raw) == (True, True, ["v3", "v2"]), "everything is said again")
    eventually(lambda: "v3" in heard.news, "what was announced under a lower id is heard")


def test_a_killed_server_without_memory_is_told_again(heard: Heard, server: RedisServer) -> None:
    """The news that a host made reach those who had not heard them, though the server lost them."""
    heard.link.announce(NAME, news("v2"))
    with redis.Redis(port=server.port) as raw:
        eventually(lambda: on_board(raw) == (True, True, ["v2"]))
    server.kill()
    eventually(lambda: heard.link.health.up_since is None, "it is seen to be away")
    assert heard.link.health.error
    server.start()
    with redis.Redis(port=server.port) as raw:
        eventually(lambda: on_board(raw) == (True, True, ["v2"]))
    eventually(lambda: heard.link.health.up_since is not None and not heard.link.health.error)


def test_news_that_somebody_announced_are_not_announced_twice(heard: Heard, raw: Any) -> None:
    raw.xadd(f"keyturn:{{fleet}}:{NAME}:announce", news("v2").fields())
    heard.link.announce(NAME, news("v2"))
    heard.link.announce(NAME, news("v3"))
    eventually(lambda: on_board(raw)[2] == ["v2", "v3"])


def test_a_flood_is_not_swallowed_whole(heard: Heard, raw: Any) -> None:
    """Of thousands of announcements a host reads some, and the newest for certain."""
    pipe = raw.pipeline(transaction=False)
    for number in range(20_000):
        pipe.xadd(f"keyturn:{{fleet}}:{NAME}:announce", news(f"made-up-{number}").fields())
    pipe.xadd(f"keyturn:{{fleet}}:{NAME}:announce", news("the newest").fields())
    pipe.execute()
    eventually(lambda: "the newest" in heard.news)
    assert len(heard.news) < 10_000


def test_an_entry_of_many_megabytes_does_not_come_in(
    heard: Heard, server: RedisServer, raw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes the channel away until it is gone from the stream, and no memory."""
    monkeypatch.setattr(clients, "MAX_ANSWER_BYTES", 100_000)
    entry = raw.xadd(f"keyturn:{{fleet}}:{NAME}:announce", {"x": b"y" * 5_000_000})
    late = Heard(server, up=False)
    eventually(lambda: "longer than" in late.link.health.error)
    raw.xdel(f"keyturn:{{fleet}}:{NAME}:announce", entry)
    eventually(lambda: late.link.health.up_since is not None, "it is there again")
    late.link.end()


def test_both_threads_end(heard: Heard) -> None:
    heard.link.end()
    names = {"fleet-hear", "fleet-say"}
    eventually(lambda: not any(thread.name in names for thread in threading.enumerate()))


def test_hosts_of_yesterday_are_swept_away(server: RedisServer, raw: Any) -> None:
    """Where VMs come and go, the board does not fill up with them."""
    board = opened(FleetSettings(url=server.url))
    for number in range(5):
        board.post(f"gone-{number}", {NAME: STATE})
        raw.zadd(board.key(NAME, "seen"), {f"gone-{number}": time.time() - boards.ABSENT_S - 60})
    board.post("web-1", {NAME: STATE})
    board.sweep([NAME])
    assert (raw.hkeys(board.key(NAME, "state")), raw.zrange(board.key(NAME, "seen"), 0, -1)) == ([b"web-1"], [b"web-1"])


def test_crowds_of_strangers_hide_nobody(server: RedisServer, raw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """More signs of life than any fleet has are an error, not a list without those who are there."""
    monkeypatch.setattr(boards, "MAX_HOSTS", 20)
    board = opened(FleetSettings(url=server.url))
    board.post("web-1", {NAME: STATE})
    raw.zadd(board.key(NAME, "seen"), {f"|{number}": time.time() - 3600 for number in range(30)})
    with pytest.raises(FleetError):
        board.hosts(NAME)


def test_since_when_the_server_is_known(server: RedisServer, raw: Any) -> None:
    """From the first word on, anew after a silence, a step of its clock, and a loss of memory."""
    board = opened(FleetSettings(url=server.url))
    key, now = board.key(NAME, "kept"), time.time()
    assert board.kept_for_s(NAME) == 0.0
    for begun, until, expected in (
        (now - 500, now - 10, True), (now - 500, now - 100, False), (now - 500, now + 100, False), (now + 5, now, False),
    ):  # fmt: skip
        raw.zadd(key, {"from": begun, "until": until})
        assert (board.kept_for_s(NAME) > 400) is expected, (begun - now, until - now)
    raw.flushall()
    board.beat("web-1", [NAME])
    assert board.kept_for_s(NAME) < 400


# -- what is no sound Redis -------------------------------------------------------------------------


class Peer:
    """A server that does as `act` says with each connection."""

    def __init__(self, act: Callable[[socket.socket], None]) -> None:
        self._act, self._socket = act, socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._socket.getsockname()[1]}/0"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                channel, _address = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._one, args=(channel,), daemon=True).start()

    def _one(self, channel: socket.socket) -> None:
        with channel:
            try:
                self._act(channel)
            except OSError:
                pass

    def close(self) -> None:
        self._socket.close()


def answers(text: bytes) -> Callable[[socket.socket], None]:
    def act(channel: socket.socket) -> None:
        while commands := channel.recv(65536):
            channel.sendall(text * (commands.count(b"\r\n*") + 1))

    return act


def drips(channel: socket.socket) -> None:
    channel.recv(65536)
    while True:
        channel.sendall(b"*1\r\n" * 1)
        time.sleep(0.05)


def pours(channel: socket.socket) -> None:
    channel.recv(65536)
    channel.sendall(b"$536870912\r\n")
    while True:
        channel.sendall(b"x" * 65536)


UNSOUND: dict[str, tuple[Callable[[socket.socket], None], type[Exception]]] = {
    "accepts and is silent": (lambda channel: time.sleep(3), FleetError),
    "hangs up": (lambda channel: None, FleetError),
    "hangs up in the middle": (lambda channel: channel.sendall(b"*2\r\n$5\r\nab"), FleetError),
    "gives a byte now and then": (drips, FleetError),
    "never ends": (pours, FleetError),
    "is a web server": (answers(b"HTTP/1.1 400 Bad Request\r\n\r\n"), FleetError),
    "answers a number that is none": (answers(b":x\r\n"), FleetError),
    "answers a length that is none": (answers(b"*x\r\n"), FleetError),
    "answers something else": (answers(b":1\r\n"), FleetError),
    "answers nothing where something is": (answers(b"$-1\r\n"), FleetError),
    "is loading": (answers(b"-LOADING Redis is loading the dataset in memory\r\n"), FleetError),
    "is a replica": (answers(b"-READONLY You can't write against a read only replica.\r\n"), FleetError),
    "is another node of a cluster": (answers(b"-MOVED 3999 127.0.0.1:6381\r\n"), FleetError),
    "is full": (answers(b"-OOM command not allowed when used memory > 'maxmemory'.\r\n"), FleetError),
    "wants a password": (answers(b"-NOAUTH Authentication required.\r\n"), FleetRefusedError),
    "does not permit it": (answers(b"-NOPERM this user has no permissions\r\n"), FleetRefusedError),
}


@pytest.mark.parametrize(("act", "error"), UNSOUND.values(), ids=UNSOUND.keys())
def test_an_unsound_server_is_an_error_of_the_board(
    act: Callable[[socket.socket], None], error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it does, in time, and never a fault of keyturn's own."""
    monkeypatch.setattr(clients, "ANSWER_S", 0.3)
    monkeypatch.setattr(clients, "MAX_ANSWER_BYTES", 1_000_000)
    peer = Peer(act)
    board = opened(FleetSettings(url=peer.url))
    began, raised = time.monotonic(), []
    for method in (
        lambda: board.hosts(NAME), lambda: board.recent([NAME], 1), lambda: board.announce(NAME, news("v2")),
        lambda: board.hear({NAME: "0-0"}, 0.1), lambda: board.beat("web-1", [NAME]), lambda: board.post("web-1", {NAME: STATE}),
        lambda: board.kept_for_s(NAME), lambda: board.sweep([NAME]), lambda: board.forget("web-1", [NAME]),
    ):  # fmt: skip
        try:
            method()
        except Exception as one:
            raised.append(one)
    assert raised and {type(one) for one in raised} == {error}, raised
    assert time.monotonic() - began < 60
    peer.close()
