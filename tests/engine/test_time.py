"""Nothing that happens to a clock makes a refresh late: suspends, steps of the wall clock, starts."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from freezegun import freeze_time

from agent.core.errors import SourceUnavailableError
from agent.refresh.managed_credential import ManagedCredential
from agent.state.publish_journal import PublishJournal
from agent.state.records import Published
from agent.system.clock import Clock, StepWatch
from tests.support.bench import Bench
from tests.support.fakes import Source, key

REAL = (datetime,)
"""In a tuple, where freezegun does not find it."""
START = "2026-11-22 12:00:00"
LATE_S = 5.0
"""What the product contract allows."""


class WorldClock(Clock):
    """The wall clock is the frozen one, which can be set; boottime only ever goes on. Both move by `pass_time`."""

    def __init__(self, frozen: Any) -> None:
        self.frozen, self._boot = frozen, super().boottime() + 1e6

    def now(self) -> datetime:
        (real,) = REAL
        return real.fromtimestamp(time.time(), UTC)  # the state's encoder refuses freezegun's own class

    def boottime(self) -> float:
        return self._boot

    def move(self, seconds: float) -> None:
        self.frozen.tick(timedelta(seconds=seconds))
        self._boot += seconds

    def step(self, seconds: float) -> None:
        """Somebody sets the wall clock."""
        self.frozen.tick(timedelta(seconds=seconds))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Bench]:
    """A bench whose wall clock can be set apart from boottime."""
    with freeze_time(START) as frozen:
        made = Bench(tmp_path, WorldClock(frozen))  # type: ignore[arg-type]
        yield made
        made.close()


def clock_of(bench: Bench) -> WorldClock:
    assert isinstance(bench.clock, WorldClock)
    return bench.clock


def session(bench: Bench, number: int, life_s: float) -> Any:
    """A session that its source hands out now; its expiry is the true time's, not this machine's clock's."""
    return key(number, expiration=bench.clock.now() + timedelta(seconds=life_s))


def source_of(managed: ManagedCredential) -> Source:
    assert isinstance(managed.provider, Source)
    return managed.provider


def due_in_s(bench: Bench, managed: ManagedCredential) -> float:
    assert managed.next_refresh_at is not None
    return managed.next_refresh_at - bench.clock.boottime()


STEPS = {
    "an hour forwards": 3600.0,
    "an hour back": -3600.0,
    "a day forwards": 86_400.0,
    "a day back": -86_400.0,
    "a minute forwards": 60.0,
    "a minute back": -60.0,
}


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("life_s", [None, 3600.0, 900.0])
def test_a_stepped_clock_never_delays_a_refresh(world: Bench, name: str, life_s: float | None) -> None:
    """Whatever the wall clock is set to, the next refresh comes no later than it would have come without."""
    managed = world.managed()
    source_of(managed).value = session(world, 1, life_s) if life_s else key(1)
    world.begin(managed).refresh()
    due_s = due_in_s(world, managed)
    world.move(due_s / 2)
    clock_of(world).step(STEPS[name])
    world.settle_down()
    calls = source_of(managed).calls
    world.move(max(0.0, due_s / 2 + LATE_S))
    assert source_of(managed).calls >= 2 and calls <= 2


def test_a_clock_that_is_put_right_makes_a_session_due_that_was_thought_young(world: Bench) -> None:
    """The clock was an hour slow, so a session of an hour seemed to live two: set right, it is renewed at once."""
    managed = world.managed()
    source_of(managed).value = session(world, 1, 7200.0)  # as this machine sees it
    world.begin(managed).refresh()
    world.move(2400.0)
    assert source_of(managed).calls == 1
    clock_of(world).step(3600.0)
    world.settle_down()
    world.move(LATE_S)
    assert source_of(managed).calls == 2


def test_after_a_step_what_failed_is_tried_again_within_seconds(world: Bench) -> None:
    """A wrong clock makes every signature refused; whoever sets it does not wait for a back-off of a minute."""
    managed = world.managed()
    world.begin(managed)
    source_of(managed).value = key(1)
    world.refresh()
    source_of(managed).value = SourceUnavailableError("credentials.a: down", "wait")
    for _ in range(8):
        world.refresh()
    source_of(managed).value = key(2)
    clock_of(world).step(-1200.0)
    world.settle_down()
    assert due_in_s(world, managed) <= LATE_S
    world.move(LATE_S)
    assert managed.state.published.generation == 2


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe"])
def test_the_change_of_summer_time_is_no_step(world: Bench, zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Naive local time jumps; nobody is refreshed late, or early."""
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        managed = world.managed()
        source_of(managed).value = key(1)
        world.begin(managed).refresh()
        for _ in range(3 * 60):  # three hours of polls each minute, over whatever local midnight brings
            world.move(66.0)
        assert 180 <= source_of(managed).calls <= 200
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_suspended_machine_asks_at_once_when_it_wakes(world: Bench) -> None:
    """A night's sleep: both clocks have moved on, and what was due meanwhile is done first of all."""
    managed = world.managed()
    source_of(managed).value = session(world, 1, 3600.0)
    world.begin(managed).refresh()
    clock_of(world).move(8 * 3600.0)
    source_of(managed).value = session(world, 2, 3600.0)
    world.settle_down()
    world.settle_down()
    assert managed.state.published.generation == 2


def test_an_answer_that_hangs_over_a_suspend_is_given_up_at_once(world: Bench) -> None:
    """The connection died in the night; its deadline is counted on boottime, so the next try is not late."""
    managed = world.managed()
    source_of(managed).value = key(1)
    world.begin(managed).refresh()
    gate = source_of(managed).hold()
    clock_of(world).move(66.0)
    world.until(lambda: source_of(managed).calls == 2)  # the poll is under way, and hangs
    source_of(managed).gate = None
    clock_of(world).move(8 * 3600.0)
    world.until(lambda: managed.state.health.failures)
    clock_of(world).move(60.0)
    world.until(lambda: not managed.state.health.failures)
    gate.set()


def test_the_watch_sees_that_the_clock_was_set() -> None:
    """A sleeper is woken by clock_settime(2), and by nothing else. (Set to what it reads: nobody else is disturbed.)"""
    watch = StepWatch()
    try:
        assert not watch.clear()
        try:
            time.clock_settime(time.CLOCK_REALTIME, time.time())
        except PermissionError:
            pytest.skip("this user may not set the clock")
        assert watch.clear()
        assert not watch.clear()
    finally:
        watch.close()


# -- starts ---------------------------------------------------------------------------------------------


def restarted(make: Callable[..., Bench], managed: ManagedCredential, **more: Any) -> tuple[Bench, ManagedCredential]:
    bench = make()
    again = bench.managed(managed.name, source=Source(managed.name, label=more.pop("label", "fake")), **more)
    bench.begin(again)
    return bench, again


def test_a_start_with_a_living_session_on_disk_asks_nobody(make_bench: Callable[..., Bench]) -> None:
    """A fleet that restarts at once takes no sessions: what stands serves, and is renewed when it is due."""
    bench = make_bench()
    managed = bench.managed()
    source_of(managed).value = session(bench, 1, 3600.0)
    bench.begin(managed).refresh()
    bench.clock.move(600.0)
    bench, again = restarted(make_bench, managed)
    passed: list[bool] = []
    bench.engine.when_passed(lambda: passed.append(True))
    bench.engine.start_all()
    bench.settle_down()
    assert passed and source_of(again).calls == 0
    assert 1500 < due_in_s(bench, again) < 2100
    source_of(again).value = session(bench, 2, 7200.0)
    bench.move(2100.0)
    assert again.state.published.generation == 2


def test_a_start_looks_at_a_polled_value_within_one_poll(make_bench: Callable[..., Bench]) -> None:
    """A rotation that happened while the agent was down is found as soon as by any poll."""
    bench = make_bench()
    managed = bench.managed()
    bench.begin(managed).publish(managed, 1)
    bench, again = restarted(make_bench, managed)
    source_of(again).value = key(2)
    bench.engine.start_all()
    bench.settle_down()
    assert due_in_s(bench, again) <= 60.0
    bench.move(60.0)
    assert again.state.published.generation == 2


def spoil_content(path: Path) -> None:
    path.write_text("{}")


def spoil_mode(path: Path) -> None:
    path.chmod(0o640)


@pytest.mark.parametrize("spoil", [os.unlink, spoil_content, spoil_mode])
def test_a_start_asks_at_once_where_a_sink_does_not_stand(make_bench: Callable[..., Bench], spoil: Any) -> None:
    """A file that is missing, holds another key or lets others in is not served."""
    bench = make_bench()
    managed = bench.managed()
    source_of(managed).value = session(bench, 1, 3600.0)
    bench.begin(managed).refresh()
    spoil(bench.sink())
    bench, again = restarted(make_bench, managed)
    source_of(again).value = session(bench, 2, 3600.0)
    bench.engine.start_all()
    bench.until(lambda: source_of(again).calls)


def test_a_start_asks_at_once_where_the_config_names_another_source(make_bench: Callable[..., Bench]) -> None:
    """And takes its session though it dies sooner than the one that the old source gave."""
    bench = make_bench()
    managed = bench.managed()
    source_of(managed).value = session(bench, 1, 43_200.0)
    bench.begin(managed).refresh()
    bench, again = restarted(make_bench, managed, label="other")
    source_of(again).value = session(bench, 2, 3600.0)
    bench.engine.start_all()
    bench.until(lambda: again.state.published.generation == 2)


def test_a_start_with_nothing_on_disk_asks_at_once(bench: Bench) -> None:
    """The first pass ends when every credential was tried, whatever came of it."""
    a, b = bench.managed("a"), bench.managed("b")
    source_of(b).value = SourceUnavailableError("credentials.b: down", "wait")
    passed: list[bool] = []
    bench.engine.when_passed(lambda: passed.append(True))
    bench.begin(a, b)
    bench.engine.start_all()
    assert not passed
    bench.until(lambda: passed)
    assert source_of(a).calls == source_of(b).calls == 1


# -- windows --------------------------------------------------------------------------------------------


def test_a_failure_is_a_warning_while_there_is_time_and_an_error_when_there_is_none(
    world: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each window is said once, not each try; the audit has the failure once."""
    managed = world.managed()
    source_of(managed).value = session(world, 1, 3600.0)
    world.begin(managed).refresh()
    source_of(managed).value = SourceUnavailableError("credentials.a: down", "wait")
    capsys.readouterr()
    for _ in range(200):
        world.move(20.0)
    lines = [line for line in capsys.readouterr().out.splitlines() if "fetch failed" in line]
    assert [("warning" in line, "error " in line) for line in lines] == [(True, False), (False, True), (False, True)]
    assert ["window=" + name in line for name, line in zip(("calm", "urgent", "expired"), lines, strict=True)] == [
        True
    ] * 3
    assert len(world.records("fetch_failed")) == 1


def test_a_start_asks_at_once_where_the_config_writes_something_else(make_bench: Callable[..., Bench]) -> None:
    """A sink was added, or another profile is wanted: what stands is not what the config asks for."""
    bench = make_bench()
    managed = bench.managed(sinks=1)
    source_of(managed).value = session(bench, 1, 3600.0)
    bench.begin(managed).refresh()
    bench.sink("a", 1).write_bytes(bench.sink("a", 0).read_bytes())
    bench.sink("a", 1).chmod(0o600)
    bench, again = restarted(make_bench, managed, sinks=2)
    source_of(again).value = session(bench, 2, 3600.0)
    bench.engine.start_all()
    bench.until(lambda: source_of(again).calls)


def test_a_start_asks_at_once_for_a_token_that_no_file_can_be_told_by(make_bench: Callable[..., Bench]) -> None:
    """A bearer token has no id, so any content would count as ours."""
    bench = make_bench()
    managed = bench.managed()
    source_of(managed).value = key(1, access_key_id="")
    managed.state.journal = PublishJournal(Published(generation=1, source="fake", layout=managed.layout))
    assert managed.first_refresh_s(bench.clock.now(), 0.5) == 0.0


def test_a_source_that_changed_with_the_same_value_is_known_from_then_on(make_bench: Callable[..., Bench]) -> None:
    """Only the first start after the change asks at once: a fleet's next restart is spread again."""
    bench = make_bench()
    managed = bench.managed()
    bench.begin(managed).refresh()
    bench, again = restarted(make_bench, managed, label="other")
    bench.engine.start_all()
    bench.until(lambda: source_of(again).calls)
    bench.settle_down()
    bench, again = restarted(make_bench, again, label="other")
    bench.engine.start_all()
    bench.settle_down()
    assert source_of(again).calls == 0 and again.state.published.generation == 1
