"""How many hosts are live, behind and absent, as metrics show it: counted seldom, and right."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from agent.core.settings import FleetSettings
from agent.fleet import census as censuses
from agent.fleet.board import Board
from agent.fleet.census import Census, Count
from agent.fleet.client import opened
from agent.fleet.entries import Announcement, HostState, Why
from tests.support.redis_server import RedisServer

NAME = "uploader"


class Clock:
    """A boottime that the test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture
def board(server: RedisServer) -> Board:
    board = opened(FleetSettings(url=server.url))
    raw: Any = board._client
    raw.flushall()
    return board


def say(board: Board, host: str, version_id: str = "v2", *, age_s: float = 0.0, **values: Any) -> None:
    state = {"version_id": version_id, "generation": 1, "access_key_id_tail": "abcd", "owed": 0, **values}
    board.post(host, {NAME: HostState(**state)})
    if age_s:
        raw: Any = board._client
        raw.zadd(board.key(NAME, "seen"), {host: time.time() - age_s})


def announce(board: Board, by: str, version_id: str = "v2") -> None:
    board.announce(NAME, Announcement("", version_id, "0" * 32, Why.ROTATION, time.time() + 60, by))


def test_each_host_is_counted_once(board: Board) -> None:
    """On the newest version that somebody has, on another, owing, unreadable, silent; a made-up version makes nobody late."""
    say(board, "web-1")
    say(board, "web-2", "v1")
    say(board, "web-3", owed=1)
    say(board, "web-4", "v1", age_s=3600)
    say(board, "gone", age_s=25 * 3600)
    announce(board, "web-1")
    announce(board, "a-stranger", "made up")
    census = Census("web-1", Clock())
    census.take(board, [NAME], 10)
    assert census.counts == {NAME: Count(live=1, behind=2, absent=1)}


def test_the_pause_grows_with_the_hosts(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    census = Census("web-1", clock)
    say(board, "web-1")
    census.take(board, [NAME], 10)
    assert 0.9 * censuses.PAUSE_S <= census.next_at <= 1.1 * censuses.PAUSE_S
    for number in range(300):
        say(board, f"web-{number}")
    census.take(board, [NAME], 10)
    assert 80 <= census.next_at <= 100
    census.hurry()
    assert census.next_at == clock.now


def test_who_announced_knows_how_long_it_took(board: Board) -> None:
    """Nobody else does, and an announcement of before a restart does not count."""
    clock = Clock()
    mine, others = Census("web-1", clock), Census("web-2", clock)
    say(board, "web-1")
    say(board, "web-2", "v1")
    announce(board, "web-1")
    for census in (mine, others):
        census.take(board, [NAME], 10)
    assert mine.converged_s == {} and mine.next_at < 2.0 < others.next_at
    say(board, "web-2")
    for census in (mine, others):
        census.take(board, [NAME], 10)
    assert 0 <= mine.converged_s[NAME] < 60 and others.converged_s == {}
    assert mine.next_at > 2.0
    raw: Any = board._client
    raw.delete(board.key(NAME, "announce"))
    news = Announcement("", "v2", "0" * 32, Why.ROTATION, time.time(), "web-1")
    raw.xadd(board.key(NAME, "announce"), news.fields(), id=f"{int((time.time() - 600) * 1000)}-0")
    again = Census("web-1", clock)
    again.take(board, [NAME], 10)
    assert again.converged_s == {} and again.next_at > 2.0


def test_what_nobody_follows_is_given_up(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    """The look at each half second ends, and the figure of the announcement before with it."""
    monkeypatch.setattr(censuses, "WAITED_S", -1.0)
    census = Census("web-1", Clock())
    census.converged_s = {NAME: 3.0}
    say(board, "web-1")
    say(board, "web-2", "v1")
    announce(board, "web-1")
    census.take(board, [NAME], 10)
    assert census.converged_s == {} and census.next_at > 2.0
