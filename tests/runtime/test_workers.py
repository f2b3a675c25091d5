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


class Desk:
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
def desk(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(workers_module, "SLOW_S", HOUR_S)
    desk = Desk()
    yield desk
    desk.gate.set()


def fill(desk: Desk, lane: Lane = Lane.REFRESH) -> list[Work]:
    """As many as may begin at once."""
    works = [desk.start(f"{number}", lane) for number in range(lane.at_once)]
    desk.began_all(lane.at_once)
    return works


def test_only_a_few_begin_at_once_and_the_next_when_an_end_was_heard(desk: Desk) -> None:
    """Ends that the loop has not taken count, so that the answers of a thousand do not pile up in front of it."""
    fill(desk)
    desk.start("next")
    desk.gate.set()
    eventually(lambda: len(desk.ends) == Lane.REFRESH.at_once)
    assert "next" not in desk.began
    assert desk.workers.busy() == 1
    desk.hear()
    eventually(lambda: "next" in desk.began)


def test_what_is_slow_makes_room(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sources that do not answer hold up nobody for longer than `SLOW_S`."""
    monkeypatch.setattr(workers_module, "SLOW_S", 0.01)
    for number in range(3 * Lane.REFRESH.at_once):
        desk.start(f"{number}")
    desk.began_all(3 * Lane.REFRESH.at_once)
    assert not desk.ends


def test_there_is_a_limit_for_what_is_slow_until_one_is_given_up(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A config of thousands opens no thousand connections; a call that was given up gives its place to the next."""
    monkeypatch.setattr(workers_module, "SLOW_S", 0.0)
    monkeypatch.setattr(Lane.REFRESH, "under_way", Lane.REFRESH.at_once)
    first, *_others = fill(desk)
    desk.start("next")
    desk.start("urgent", Lane.URGENT)
    eventually(lambda: "urgent" in desk.began)
    assert "next" not in desk.began
    desk.workers.abandon(first)
    eventually(lambda: "next" in desk.began)
    assert desk.workers.busy() == Lane.REFRESH.at_once + 2, "the one that hangs is still there"


def test_what_has_just_come_back_is_not_left_behind(desk: Desk) -> None:
    """Else the agent would wait for it when it stops."""
    work = desk.start("quick", waits=False)
    eventually(lambda: desk.ends)
    desk.workers.abandon(work)
    assert desk.workers.busy() == 0
    desk.hear()
    assert desk.heard == [("quick", "quick", None)]


@pytest.mark.parametrize("lane", [Lane.TELL, Lane.URGENT])
def test_a_full_lane_holds_up_no_other(desk: Desk, lane: Lane) -> None:
    """With every place taken by dead sources, the dependents are told and an emergency goes on all the same."""
    fill(desk)
    desk.start("next")
    desk.start("told", lane)
    eventually(lambda: "told" in desk.began)
    assert "next" not in desk.began


def test_whom_an_operator_waits_for_comes_before_the_others_of_its_lane(desk: Desk) -> None:
    """`keyturn refresh` of one credential does not wait for the polls of a thousand."""
    fill(desk)
    desk.start("poll", waits=False)
    desk.start("operator", first=True, waits=False)
    desk.gate.set()
    eventually(lambda: len(desk.ends) == Lane.REFRESH.at_once)
    desk.hear()
    desk.began_all(Lane.REFRESH.at_once + 2)
    assert desk.began[-2:] == ["operator", "poll"]


def test_what_waits_when_the_agent_stops_comes_back_as_cancelled(desk: Desk) -> None:
    """It is not begun, however full its lane is."""
    fill(desk)
    desk.start("next")
    desk.cancel.set()
    desk.workers.wake()
    eventually(lambda: desk.ends)
    desk.hear()
    ((name, value, error),) = desk.heard
    assert (name, value, type(error)) == ("next", None, CancelledError)


@pytest.mark.parametrize("refused", ["starter", "worker"])
def test_work_that_gets_no_thread_fails_and_the_next_runs(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    """At the limit of processes it is a temporary failure with a remedy, be it the first thread or a later one."""
    if refused == "worker":
        desk.start("before", waits=False)
        eventually(lambda: desk.ends)
        desk.hear()

    def refuse(*_arguments: Any) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        desk.start("none", waits=False)
        eventually(lambda: desk.ends)
    desk.hear()
    name, _value, error = desk.heard[-1]
    assert name == "none"
    assert isinstance(error, SourceUnavailableError)
    assert "TasksMax" in error.remedy
    assert desk.workers.busy() == 0
    desk.start("ran", waits=False)
    eventually(lambda: desk.ends)
    desk.hear()
    assert desk.heard[-1] == ("ran", "ran", None)


def test_a_lane_can_be_left_out_of_what_is_waited_for(desk: Desk) -> None:
    """An end need not wait for a look of the canary that hangs."""
    desk.start("look", Lane.CANARY)
    eventually(lambda: desk.began)
    assert (desk.workers.busy(), desk.workers.busy(Lane.CANARY)) == (1, 0)
    desk.gate.set()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_starter_that_ends_is_replaced_and_nothing_is_forgotten(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without memory even a look may fail: else no source would be asked any more, with the watchdog fed all the while."""
    desk.start("before", waits=False)
    eventually(lambda: desk.began == ["before"])
    starter = desk.workers._starter
    assert starter is not None
    with monkeypatch.context() as patch:
        patch.setattr(workers_module._Traffic, "room_in_s", lambda *_: int("none"))
        desk.start("waits", waits=False)
        starter.join(10)
    assert not starter.is_alive()
    desk.start("next", waits=False)
    desk.began_all(3)
