"""The connections to the board: since when they are up or down, and whoever waits for that is told."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agent.app import status
from agent.core.settings import FleetSettings
from agent.engine.snapshot import EngineSnapshot
from agent.fleet.board import Board
from agent.fleet.client import opened
from agent.fleet.errors import FleetError
from agent.fleet.link import Link
from tests.support.processes import eventually
from tests.support.redis_server import RedisServer


class Clock:
    """A boottime that the test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def nobody(*_heard: Any) -> None:
    """Hear nothing."""


def test_since_when_the_board_is_away(tmp_path: Path) -> None:
    """From the beginning, and again from when it went; while it is there, since when it is."""
    clock, turns, server = Clock(), list[None](), RedisServer(tmp_path)

    def open_board(wait_s: float) -> Board:
        if server._process is None:
            raise FleetError("fleet: the board cannot be reached (test)", "see that it runs")
        return opened(FleetSettings(url=server.url), wait_s=wait_s)

    link = Link("web-1", open_board, nobody, nobody, clock, lambda: turns.append(None))
    link.follow(["uploader"])
    link.start()
    try:
        eventually(lambda: link.health.error)
        clock.now = 500.0
        assert (link.health.up_since, link.health.down_since) == (None, 100.0)
        with server:
            eventually(lambda: link.health.up_since is not None)
            assert (link.health.up_since, link.health.down_since) == (500.0, None)
            clock.now = 900.0
        eventually(lambda: link.health.down_since is not None)
        assert link.health.down_since == 900.0
        eventually(lambda: len(turns) == 3)
    finally:
        link.end()


def test_the_line_of_the_service_manager_says_it() -> None:
    """Before the credentials, which are well."""
    seen = EngineSnapshot(datetime.now(UTC), passed=True, credentials=())
    assert status.summary(seen, "", "the fleet's board is away").startswith("the fleet's board is away; 0 of 0")
