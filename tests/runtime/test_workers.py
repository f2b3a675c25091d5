"""Work in lanes: what is quick is bounded, what is slow makes room, what is urgent waits for nobody."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from agent.core.errors import CancelledError, SourceUnavailableError
from agent.runtime import workers as workers_module
from agent.runtime.workers import Lane, Work, Workers
from tests.support.processes import eventually

HOUR_S = 3600.0


class World:
    """Workers, what they hand back, and a gate that all work waits at."""

    def __init__(self) -> None:
        self.ends: list[Callable[[], None]] = []
        self.began: list[str] = []
        self.heard: list[tuple[str, Any, BaseException | None]] = []
        self.gate = threading.Event()
        self.cancel = threading.Event()
        self.workers = Workers(self.ends.append, self.cancel)

    def start(self, name: str, lane: Lane = Lane.REFRESH, *, waits: bool = True, **how: Any) -> Work:
        def run() -> str:
            self.began.append(name)
            if waits:
                self.gate.wait()
            return name

        return self.workers.start(run, lambda value, error: self.heard.append((name, value, error)), lane, **how)

    def hear(self) -> None:
        while self.ends:
            self.ends.pop(0)()

    def began_all(self, count: int) -> None:
        eventually(lambda: len(self.began) == count)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(workers_module, "SLOW_S", HOUR_S)
    world = World()
    yield world
    world.gate.set()


def fill(world: World, lane: Lane = Lane.REFRESH) -> list[Work]:
    """As many as may begin at once."""
    works = [world.start(f"{number}", lane) for number in range(lane.at_once)]
    world.began_all(lane.at_once)
    return works


def test_only_a_few_begin_at_once_and_the_next_when_an_end_was_heard(world: World) -> None:
    """Ends that the loop has not taken count, so that the answers of a thousand do not pile up in front of it."""
    fill(world)
    world.start("next")
    world.gate.set()
    eventually(lambda: len(world.ends) == Lane.REFRESH.at_once)
    assert "next" not in world.began
    assert world.workers.busy() == 1
    world.hear()
    eventually(lambda: "next" in world.began)


def test_what_is_slow_makes_room(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sources that do not answer hold up nobody for longer than `SLOW_S`."""
    monkeypatch.setattr(workers_module, "SLOW_S", 0.01)
    for number in range(3 * Lane.REFRESH.at_once):
        world.start(f"{number}")
    world.began_all(3 * Lane.REFRESH.at_once)
    assert not world.ends


def test_there_is_a_limit_for_what_is_slow_until_one_is_given_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A config of thousands opens no thousand connections; a call that was given up gives its place to the next."""
    monkeypatch.setattr(workers_module, "SLOW_S", 0.0)
    monkeypatch.setattr(Lane.REFRESH, "under_way", Lane.REFRESH.at_once)
    first, *_others = fill(world)
    world.start("next")
    world.start("urgent", Lane.URGENT)
    eventually(lambda: "urgent" in world.began)
    assert "next" not in world.began
    world.workers.abandon(first)
    eventually(lambda: "next" in world.began)
    assert world.workers.busy() == Lane.REFRESH.at_once + 2, "the one that hangs is still there"


def test_what_has_just_come_back_is_not_left_behind(world: World) -> None:
    """Else the agent would wait for it when it stops."""
    work = world.start("quick", waits=False)
    eventually(lambda: world.ends)
    world.workers.abandon(work)
    assert world.workers.busy() == 0
    world.hear()
    assert world.heard == [("quick", "quick", None)]


@pytest.mark.parametrize("lane", [Lane.TELL, Lane.URGENT])
def test_a_full_lane_holds_up_no_other(world: World, lane: Lane) -> None:
    """With every place taken by dead sources, the dependents are told and an emergency goes on all the same."""
    fill(world)
    world.start("next")
    world.start("told", lane)
    eventually(lambda: "told" in world.began)
    assert "next" not in world.began


def test_whom_an_operator_waits_for_comes_before_the_others_of_its_lane(world: World) -> None:
    """`keyturn refresh` of one credential does not wait for the polls of a thousand."""
    fill(world)
    world.start("poll", waits=False)
    world.start("operator", first=True, waits=False)
    world.gate.set()
    eventually(lambda: len(world.ends) == Lane.REFRESH.at_once)
    world.hear()
    world.began_all(Lane.REFRESH.at_once + 2)
    assert world.began[-2:] == ["operator", "poll"]


def test_what_waits_when_the_agent_stops_comes_back_as_cancelled(world: World) -> None:
    """It is not begun, however full its lane is."""
    fill(world)
    world.start("next")
    world.cancel.set()
    world.workers.wake()
    eventually(lambda: world.ends)
    world.hear()
    ((name, value, error),) = world.heard
    assert (name, value, type(error)) == ("next", None, CancelledError)


@pytest.mark.parametrize("refused", ["starter", "worker"])
def test_work_that_gets_no_thread_fails_and_the_next_runs(
    world: World, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    """At the limit of processes it is a temporary failure with a remedy, be it the first thread or a later one."""
    if refused == "worker":
        world.start("before", waits=False)
        eventually(lambda: world.ends)
        world.hear()

    def refuse(*_arguments: Any) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        world.start("none", waits=False)
        eventually(lambda: world.ends)
    world.hear()
    name, _value, error = world.heard[-1]
    assert name == "none"
    assert isinstance(error, SourceUnavailableError)
    assert "TasksMax" in error.remedy
    assert world.workers.busy() == 0
    world.start("ran", waits=False)
    eventually(lambda: world.ends)
    world.hear()
    assert world.heard[-1] == ("ran", "ran", None)


def test_a_lane_can_be_left_out_of_what_is_waited_for(world: World) -> None:
    """An end need not wait for a look of the canary that hangs."""
    world.start("look", Lane.CANARY)
    eventually(lambda: world.began)
    assert (world.workers.busy(), world.workers.busy(Lane.CANARY)) == (1, 0)
    world.gate.set()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_starter_that_ends_is_replaced_and_nothing_is_forgotten(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without memory even a look may fail: else no source would be asked any more, with the watchdog fed all the while."""
    world.start("before", waits=False)
    eventually(lambda: world.began == ["before"])
    starter = world.workers._starter
    assert starter is not None
    with monkeypatch.context() as patch:
        patch.setattr(workers_module._Traffic, "room_in_s", lambda *_: int("none"))
        world.start("waits", waits=False)
        starter.join(10)
    assert not starter.is_alive()
    world.start("next", waits=False)
    world.began_all(3)
