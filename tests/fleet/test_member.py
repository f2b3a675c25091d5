"""This host in its fleet, on the engine's own loop: what it says of a board that is away."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from agent.core.settings import AgentSettings, FleetSettings
from agent.fleet.board import Board
from agent.fleet.errors import FleetError
from agent.fleet.member import LONG_S, Member
from tests.support.processes import eventually


def away(_wait_s: float) -> Board:
    raise FleetError("fleet: the board cannot be reached (test)", "see that it runs")


def test_a_board_that_is_away_for_long_is_said_without_anything_else_happening(bench: Any) -> None:
    """The loop turns by itself when the time has come, for whoever looks at the end of each turn."""
    seen: list[bool] = []
    member = Member(bench.engine, "web-1", "m1")
    bench.engine.after_turns(lambda: seen.append(member.away_for_long))
    settings: Any = SimpleNamespace(
        fleet=FleetSettings(url="redis://127.0.0.1:1/0"), credentials={}, agent=AgentSettings()
    )
    member.follow(settings, away)
    try:
        eventually(lambda: member.health is not None and member.health.error)
        assert not member.away_for_long
        bench.move(LONG_S / 2)
        assert True not in seen
        bench.move(LONG_S / 2 + 2)
        assert seen[-1] is True
        settings.fleet = None
        member.follow(settings, away)
        assert not member.away_for_long and member.health is None
    finally:
        member.close()
