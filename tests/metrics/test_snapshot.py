"""Other threads look at the engine without holding it up, and without being held up by it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from agent.core.config_in_force import ConfigInForce
from agent.metrics import snapshot
from agent.metrics.counters import Counters
from agent.metrics.snapshot import Snapshot, SnapshotReader
from tests.support.bench import Bench
from tests.support.fakes import PATIENCE_S

SOON_S = 0.2
IN_FORCE = ConfigInForce(datetime(2026, 11, 30, tzinfo=UTC))


class Running:
    """A bench whose engine turns on a thread of its own."""

    def __init__(self, bench: Bench) -> None:
        self.engine, self.parts = bench.engine, bench.parts
        self.managed = bench.managed()
        bench.begin(self.managed)
        self.reader = SnapshotReader(self.engine, Counters(), IN_FORCE)
        self._thread = threading.Thread(target=self.engine.run)

    def start(self) -> None:
        self._thread.start()

    def wedge(self) -> threading.Event:
        """Have the loop's thread stand still until the returned event is set."""
        way, there = threading.Event(), threading.Event()

        def stand_still() -> None:
            there.set()
            way.wait(PATIENCE_S)

        self.engine.post(stand_still)
        assert there.wait(PATIENCE_S)
        return way

    def stop(self) -> None:
        self.engine.post(self.engine.stop)
        if self._thread.is_alive():
            self._thread.join(PATIENCE_S)


@pytest.fixture
def running(bench: Bench) -> Iterator[Running]:
    made = Running(bench)
    yield made
    made.stop()


def test_a_look_shows_what_is_now(running: Running) -> None:
    """Each look is taken after it was asked for."""
    running.start()
    first = running.reader.look(PATIENCE_S)
    assert first is not None and first.rows[0].generation == 0
    running.engine.submit(lambda: None).result(PATIENCE_S)
    second = running.reader.look(PATIENCE_S)
    assert second is not None and second is not first and running.reader.last is second


def test_an_engine_that_stands_still_holds_up_no_look(running: Running) -> None:
    """While it is stuck nothing new comes, the last snapshot stays, and only one question waits; then it goes on."""
    running.start()
    first = running.reader.look(PATIENCE_S)
    way = running.wedge()
    for _ in range(3):
        assert running.reader.look(SOON_S) is None
    assert running.reader.last is first
    assert running.parts.loop._inbox.qsize() == 1
    way.set()
    assert running.reader.look(PATIENCE_S) is not None


def test_before_the_engine_turns_there_is_nothing(running: Running) -> None:
    """A start that is still putting right what a crash left answers nobody, and answers when it turns."""
    assert running.reader.look(SOON_S) is None
    assert running.reader.last is None
    running.start()
    assert running.reader.look(PATIENCE_S) is not None


def test_many_looks_at_once_are_one_question(running: Running) -> None:
    """Twenty scrapes cost the engine what one costs, and each gets an answer."""
    running.start()
    way, found = running.wedge(), list[Snapshot | None]()
    askers = [threading.Thread(target=lambda: found.append(running.reader.look(PATIENCE_S))) for _ in range(20)]
    for asker in askers:
        asker.start()
    while running.reader._asked is None or not running.reader._asked._condition._waiters:  # type: ignore[attr-defined]
        pass
    while len(running.reader._asked._condition._waiters) < 20:  # type: ignore[attr-defined]
        pass
    assert running.parts.loop._inbox.qsize() == 1
    way.set()
    for asker in askers:
        asker.join()
    assert len(found) == 20 and len({id(each) for each in found}) == 1 and found[0] is not None


def test_a_look_that_fails_is_not_the_last(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault while a snapshot is taken ends neither the engine nor later looks."""
    running.start()
    with monkeypatch.context() as patch:
        patch.setattr(snapshot, "take", lambda *_: 1 / 0)
        assert running.reader.look(SOON_S) is None
    assert running.reader.look(PATIENCE_S) is not None


def test_the_scheduler_must_move_not_only_the_inbox(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """/livez is no better evidence than the watchdog's: a loop that takes messages but rings no timer is not alive."""
    monkeypatch.setattr(running.parts.scheduler, "collect", list)
    running.start()
    assert running.engine.submit(lambda: "the inbox is served").result(PATIENCE_S) == "the inbox is served"
    assert running.reader.look(SOON_S) is None


def test_what_the_first_pass_waits_for_is_named(bench: Bench) -> None:
    """Not passed: the names of those that were not tried; passed: none, also when a reload brings a new one."""
    a, b = bench.managed("a"), bench.managed("b")
    bench.begin(a, b)
    assert [row.state for row in snapshot.take(bench.engine, Counters(), IN_FORCE).rows] == ["pending", "pending"]
    bench.refresh("a")
    seen = snapshot.take(bench.engine, Counters(), IN_FORCE)
    assert (seen.passed, seen.awaited) == (False, ("b",))
    bench.refresh("b")
    seen = snapshot.take(bench.engine, Counters(), IN_FORCE)
    assert (seen.passed, seen.awaited) == (True, ())
