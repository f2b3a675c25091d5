"""This host in its fleet, on the engine's own loop: what it says of a board that is away."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from agent.core.settings import AgentSettings, FleetSettings
from agent.engine.version_held import VersionHeld
from agent.fleet.board import Board
from agent.fleet.entries import Announcement, Why
from agent.fleet.errors import FleetError
from agent.fleet.member import LONG_S, TRIES, Member
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


class Engine:
    """As much of an engine as a member asks: it notes what it is to do later, and which refreshes were asked for."""

    def __init__(self) -> None:
        self.later: list[tuple[float, Callable[[], None]]] = []
        self.refreshed: list[str] = []
        self.at = 1000.0
        self.held = VersionHeld("v1", 1, "LTAI1", None, 0, (), is_held=False)
        self.clock = SimpleNamespace(boottime=lambda: self.at, now=lambda: datetime.fromtimestamp(self.at, UTC))

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        self.later.append((self.at + seconds, act))

    def post(self, act: Callable[[], None]) -> None:
        act()

    def observe(self, observer: object) -> None: ...

    def watch_in_use(self, act: object) -> None: ...

    def version_held(self, name: str) -> VersionHeld:
        return self.held

    def refresh(self, name: str, cause: object) -> Future[Any]:
        self.refreshed.append(name)
        future: Future[Any] = Future()
        future.set_result(None)
        return future

    def pass_time(self, seconds: float) -> None:
        """Do what is due by then, in its order."""
        end = self.at + seconds
        while due := sorted((one for one in self.later if one[0] <= end), key=lambda one: one[0]):
            self.later.remove(due[0])
            self.at = max(self.at, due[0][0])
            due[0][1]()
        self.at = end


def following(engine: Any) -> Member:
    """A member that follows `uploader`, over a board that is away."""
    member = Member(engine, "web-1", "m1", chance=lambda: 0.0)
    provider = SimpleNamespace(own_secrets=lambda: iter(["s"]))
    settings: Any = SimpleNamespace(
        fleet=FleetSettings(url="redis://127.0.0.1:1/0"),
        credentials={"uploader": SimpleNamespace(provider=provider)},
        agent=AgentSettings(),
    )
    member.follow(settings, away)
    return member


def news(entry: str, nonce: str) -> Announcement:
    return Announcement(entry, "v2", nonce * 32, Why.ROTATION, 1e10, "web-2")


def test_what_is_announced_while_a_rotate_is_at_work_is_followed_when_it_ends() -> None:
    """Not at the next poll, which may be an hour later; and not before, since the rotate has the credential."""
    engine = Engine()
    member = following(engine)
    try:
        engine.held = replace(engine.held, is_held=True)
        member._changed("uploader")
        member._hear("uploader", news("1-0", "a"))
        engine.pass_time(60)
        assert engine.refreshed == []
        engine.held = replace(engine.held, is_held=False)
        member._changed("uploader")
        engine.pass_time(1)
        assert engine.refreshed == ["uploader"]
    finally:
        member.close()


def test_another_announcement_of_the_version_gives_a_host_its_tries_anew() -> None:
    """An operator asks again: after six tries that the source refused, a new nonce is worth six more."""
    engine = Engine()
    member = following(engine)
    try:
        member._hear("uploader", news("1-0", "a"))
        engine.pass_time(3600)
        assert len(engine.refreshed) == TRIES
        member._hear("uploader", news("2-0", "a"))  # the same, said again to a board that forgot it
        engine.pass_time(3600)
        assert len(engine.refreshed) == TRIES
        member._hear("uploader", news("3-0", "b"))
        engine.pass_time(3600)
        assert len(engine.refreshed) == 2 * TRIES
    finally:
        member.close()
