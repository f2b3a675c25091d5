"""Thousands of dependents of one credential: what their ends cost."""

from __future__ import annotations

from typing import Any

import pytest

from agent.audit.log import AuditLog
from agent.core.events import Event
from agent.runtime.event_loop import EventLoop
from agent.state.store import StateStore
from tests.support.bench import Bench
from tests.support.fakes import FakeDependent

MANY = 200


@pytest.fixture
def saved(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The credentials whose state was written, each time."""
    names: list[str] = []
    save = StateStore.save

    def counted(self: StateStore, name: str, *state: Any, **how: Any) -> None:
        names.append(name)
        save(self, name, *state, **how)

    monkeypatch.setattr(StateStore, "save", counted)
    return names


def test_the_ends_of_one_turn_are_written_together(bench: Bench, saved: list[str]) -> None:
    """One state and one group of records for each turn, however many dependents were told in it; none is forgotten."""
    dependents = [FakeDependent(f"d{number}") for number in range(MANY)]
    managed = bench.managed(notify=dependents)
    bench.begin(managed).publish(managed, 1)
    turns = 0
    turn = EventLoop.turn

    def counted(wake_at: float | None) -> None:
        nonlocal turns
        turns += 1
        turn(bench.loop, wake_at)

    bench.loop.turn = counted  # type: ignore[method-assign]
    saved.clear()
    bench.clock.move(3.0)
    bench.until(lambda: not managed.state.debts)
    assert len(saved) <= turns < MANY
    assert len(bench.records(Event.NOTIFIED)) == MANY
    assert all(len(dependent.events) == 1 for dependent in dependents)


def test_an_end_is_told_only_when_it_is_written(bench: Bench) -> None:
    """Whoever waits for the dependents to be tried hears of it behind the audit record."""
    managed = bench.managed(notify=[FakeDependent("d")])
    bench.begin(managed).publish(managed, 1)
    tried = bench.engine.tell_now(["a"])
    known: list[int] = []
    tried.add_done_callback(lambda _done: known.append(len(bench.records(Event.NOTIFIED))))
    bench.until(tried.done)
    assert known == [1]


@pytest.mark.parametrize("broken", [(StateStore, "save"), (AuditLog, "record_all")])
def test_no_fault_in_writing_ends_down_stops_those_who_wait_for_them(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, broken: tuple[type, str]
) -> None:
    """No memory for the state or the audit: the next order is told all the same, and nobody waits for ever."""
    first, second = FakeDependent("first"), FakeDependent("second", order=1)
    managed = bench.managed(notify=[first, second])
    bench.begin(managed).publish(managed, 1)

    def fails(*_given: Any, **_how: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(*broken, fails)
    bench.until(bench.engine.tell_now(["a"]).done)
    bench.until(lambda: second.events)


def test_who_asks_in_the_turn_of_an_end_hears_of_it_when_it_is_written(bench: Bench) -> None:
    """Also where nothing is left to be tried by then."""
    managed = bench.managed(notify=[FakeDependent("d")])
    bench.begin(managed).publish(managed, 1)
    bench.clock.move(3.0)
    bench.until(lambda: not managed.state.debts)
    bench.parts.outcomes.note(Event.NOTIFIED, credential="a")
    known: list[int] = []
    tried = bench.engine.tell_now(["a"])
    tried.add_done_callback(lambda _done: known.append(len(bench.records(Event.NOTIFIED))))
    bench.until(tried.done)
    assert known == [2]
