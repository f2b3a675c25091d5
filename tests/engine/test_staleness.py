"""`max_staleness` is an alarm: raised once, seen everywhere, over restarts too, and gone by itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from agent.app import status
from agent.core.errors import SourceUnavailableError
from agent.core.events import Trigger
from agent.core.observer import Observer
from agent.core.settings import Duration
from agent.refresh.managed_credential import ManagedCredential
from tests.support.bench import Bench
from tests.support.fakes import FakeDependent, Source, key

DOWN = SourceUnavailableError("the source is down")
LIMIT_S = 3600.0
Said = list[dict[str, Any]]


@pytest.fixture
def said() -> Iterator[Said]:
    """Every line of the log."""
    with capture_logs() as lines:
        yield lines


def source_of(managed: ManagedCredential) -> Source:
    assert isinstance(managed.provider, Source)
    return managed.provider


def failing(bench: Bench, *, published: bool = True, **settings: Any) -> ManagedCredential:
    """A credential whose source has gone down."""
    managed = bench.managed(max_staleness=Duration(LIMIT_S), **settings)
    bench.begin(managed)
    if published:
        bench.publish(managed, 1)
    source_of(managed).value = DOWN
    bench.refresh()
    return managed


def again(
    make_bench: Callable[..., Bench], *, down: bool = True, limit_s: float = LIMIT_S
) -> tuple[Bench, ManagedCredential]:
    """A restart: another engine finds what the one before left on disk."""
    bench = make_bench()
    managed = bench.managed(max_staleness=Duration(limit_s))
    source_of(managed).value = DOWN if down else key(1)
    bench.begin(managed)
    return bench, managed


def condition(bench: Bench, managed: ManagedCredential) -> str:
    return managed.condition(bench.clock.now())


def summary(bench: Bench) -> str:
    return status.summary(dataclasses.replace(bench.engine.snapshot(), passed=True))


def test_the_alarm_is_seen_everywhere_and_clears_itself(bench: Bench, said: Said) -> None:
    """State, audit, log at crit, STATUS=; with the next success `recovered`, and all of it is gone."""
    managed = failing(bench)
    last = managed.state.health.last_success_at
    bench.clock.move(LIMIT_S)
    bench.until(lambda: managed.state.health.is_stale)
    bench.settle_down()
    assert condition(bench, managed) == "stale"
    (record,) = bench.records("stale")
    assert (record["credential"], record["error"]) == ("a", str(DOWN))
    (line,) = [line for line in said if line["log_level"] == "critical"]
    assert line["event"] == "stale: the value in use is too old" and line["credential"] == "a"
    assert summary(bench) == f"0 of 1 credentials fresh; a stale (last success {status.stamp(last)})"
    source_of(managed).value = key(1)
    bench.refresh()
    assert (managed.state.health.is_stale, condition(bench, managed)) == (False, "fresh")
    assert len(bench.records("recovered")) == 1
    assert summary(bench) == "1 of 1 credentials fresh"
    bench.move(LIMIT_S / 2)
    assert len(bench.records("stale")) == 1


def test_it_is_raised_again_for_the_next_outage(bench: Bench) -> None:
    """What cleared itself can ring again."""
    managed = failing(bench)
    for outage in (1, 2):
        source_of(managed).value = DOWN
        bench.clock.move(LIMIT_S)
        bench.until(lambda: managed.state.health.is_stale)
        assert len(bench.records("stale")) == outage
        source_of(managed).value = key(1)
        bench.refresh()
        assert not managed.state.health.is_stale


def test_a_restart_neither_forgets_nor_repeats_it(make_bench: Callable[..., Bench], said: Said) -> None:
    """Raised before a restart: still stale after it, no second record or line, and `recovered` when it is over."""
    bench = make_bench()
    managed = failing(bench)
    bench.clock.move(LIMIT_S)
    bench.until(lambda: managed.state.health.is_stale)
    bench, managed = again(make_bench)
    assert condition(bench, managed) == "stale"
    assert "a stale" in summary(bench)
    bench.refresh()
    bench.move(60.0)
    assert len(bench.records("stale")) == 1
    assert len([line for line in said if line["log_level"] == "critical"]) == 1
    bench, managed = again(make_bench, down=False)
    bench.refresh()
    assert condition(bench, managed) == "fresh"
    assert len(bench.records("recovered")) == 1


def test_what_grew_stale_while_nobody_ran_is_said_after_the_start(make_bench: Callable[..., Bench]) -> None:
    """The time counts from the last success on disk, not from the start."""
    failing(make_bench())
    bench = make_bench()
    bench.clock.move(LIMIT_S)
    bench, managed = again(make_bench)
    assert condition(bench, managed) == "stale"
    bench.engine.start_all()
    bench.until(lambda: managed.state.health.is_stale)
    assert len(bench.records("stale")) == 1


def off_for_too_long(make_bench: Callable[..., Bench], *, down: bool) -> tuple[Bench, ManagedCredential]:
    """A machine that was off for longer than the limit, with all well before; its daemon has just begun."""
    bench = make_bench()
    managed = bench.managed(max_staleness=Duration(LIMIT_S))
    bench.begin(managed)
    bench.publish(managed, 1)
    bench.clock.move(3 * LIMIT_S)
    return again(make_bench, down=down)


def test_after_a_long_time_off_it_asks_before_it_cries(make_bench: Callable[..., Bench], said: Said) -> None:
    """A machine that was off for longer than the limit: asked at once, ready after the answer, and no alarm at all."""
    bench, managed = off_for_too_long(make_bench, down=False)
    ready: list[str] = []
    bench.engine.when_passed(lambda: ready.append(condition(bench, managed)))
    bench.engine.start_all()
    assert ready == []
    bench.until(lambda: ready)
    bench.settle_down()
    assert (source_of(managed).calls, ready) == (1, ["fresh"])
    assert (bench.records("stale"), [line for line in said if line["log_level"] == "critical"]) == ([], [])


def test_after_a_long_time_off_the_alarm_rings_when_the_first_try_failed(make_bench: Callable[..., Bench]) -> None:
    """The same with the source down: the alarm rings, behind the failure that it names."""
    bench, managed = off_for_too_long(make_bench, down=True)
    bench.engine.start_all()
    bench.until(lambda: managed.state.health.is_stale)
    events = bench.events()
    assert events[-2:] == ["fetch_failed", "stale"]
    assert bench.records("stale")[0]["error"] == str(DOWN)


@pytest.mark.parametrize("how", ["suspended", "stepped"])
def test_after_a_suspend_or_a_step_it_asks_before_it_cries(bench: Bench, how: str) -> None:
    """Time that passed unseen, with all well before: a refresh first, and an alarm only if that fails."""
    managed = bench.managed(max_staleness=Duration(LIMIT_S), source=Source("a", poll_s=2 * LIMIT_S))
    bench.begin(managed)
    bench.publish(managed, 1)
    gate = source_of(managed).hold()
    if how == "suspended":
        bench.clock.move(3 * LIMIT_S)  # the alarm was due before the poll
    else:
        bench.clock._now += timedelta(seconds=3 * LIMIT_S)
        bench.parts.planner.stepped(bench.slots.values())
    bench.until(lambda: source_of(managed).calls == 2)
    gate.set()
    bench.settle_down()
    assert (bench.records("stale"), condition(bench, managed)) == ([], "fresh")


def test_one_that_was_never_published_is_stale_too(bench: Bench, said: Said) -> None:
    """A credential that nobody ever got is as bad as an old one: its state says so, and so do log and STATUS=."""
    managed = failing(bench, published=False)
    assert condition(bench, managed) == "failing"
    bench.clock.move(LIMIT_S)
    bench.until(lambda: managed.state.health.is_stale)
    assert condition(bench, managed) == "stale"
    assert "stale: no value was ever published" in [line["event"] for line in said]
    assert summary(bench) == "0 of 1 credentials fresh; a stale (never obtained)"


def test_a_session_is_stale_at_its_expiry(bench: Bench) -> None:
    """Without a limit of its own the alarm rings when the session dies, and the state is expired."""
    managed = bench.managed()
    source_of(managed).value = key(1, expiration=bench.clock.now() + timedelta(hours=1))
    bench.begin(managed).refresh()
    source_of(managed).value = DOWN
    bench.refresh()
    bench.clock.move(LIMIT_S)
    bench.until(lambda: managed.state.health.is_stale)
    assert condition(bench, managed) == "expired"
    assert len(bench.records("stale")) == 1


def test_a_limit_that_is_raised_takes_the_alarm_back(make_bench: Callable[..., Bench]) -> None:
    """A config that allows more: no longer stale, and the alarm rings at the new limit."""
    bench = make_bench()
    managed = failing(bench)
    bench.clock.move(LIMIT_S)
    bench.until(lambda: managed.state.health.is_stale)
    bench, managed = again(make_bench, limit_s=3 * LIMIT_S)
    bench.refresh()
    assert (managed.state.health.is_stale, condition(bench, managed)) == (False, "failing")
    bench.clock.move(2 * LIMIT_S)
    bench.until(lambda: managed.state.health.is_stale)
    assert len(bench.records("stale")) == 2


def test_a_clock_that_is_set_right_takes_the_alarm_back(bench: Bench) -> None:
    """A wall clock that was a day ahead raised it; when it is set right the alarm is over."""
    managed = failing(bench)
    right = bench.clock._now
    bench.clock._now += timedelta(days=1)
    bench.parts.planner.stepped(bench.slots.values())
    bench.until(lambda: managed.state.health.is_stale)
    bench.clock._now = right
    bench.parts.planner.stepped(bench.slots.values())
    assert (managed.state.health.is_stale, condition(bench, managed)) == (False, "failing")


def test_whoever_watches_hears_of_alarms(bench: Bench) -> None:
    """The metrics file is written when an alarm is raised although nothing was refreshed."""
    heard: list[str] = []

    class Watcher(Observer):
        def changed(self) -> None:
            heard.append("changed")

    bench.engine.observe(Watcher())
    managed = failing(bench)
    bench.clock.move(LIMIT_S)
    bench.until(lambda: managed.state.health.is_stale)
    assert heard == ["changed"]


def test_the_worst_stands_first_in_the_status(bench: Bench) -> None:
    """`systemctl status` shows one line: what needs a person soonest comes before what mends itself."""
    down = bench.managed("down", max_staleness=Duration(10 * LIMIT_S))
    owing = bench.managed("owing", notify=[FakeDependent("d")])
    old = bench.managed("old", max_staleness=Duration(LIMIT_S))
    bench.begin(down, owing, old)
    for managed in (down, owing, old):
        bench.publish(managed, 1)
    for managed in (down, old):
        source_of(managed).value = DOWN
    bench.clock.move(LIMIT_S)
    bench.refresh("down", Trigger.OPERATOR)
    bench.until(lambda: old.state.health.is_stale)
    first, *others = summary(bench).split("; ")
    assert first.endswith("of 3 credentials fresh")
    assert [each.split(" ")[0] for each in others][:2] == ["old", "down"]


def test_quiet_successes_are_remembered_over_a_restart(make_bench: Callable[..., Bench], said: Said) -> None:
    """Minutes of polls that all went well, then a restart: no alarm, and not a write for each poll."""
    bench = make_bench()
    managed = bench.managed(source=Source("a", poll_s=2.0), max_staleness=Duration(90.0))
    bench.begin(managed)
    bench.publish(managed, 1)
    writes, save = [], bench.states.save
    bench.states.save = lambda *what, **how: (writes.append(what), save(*what, **how))[1]  # type: ignore
    for _ in range(150):
        bench.clock.move(2.0)
        bench.refresh()
    assert 300 / 60 <= len(writes) <= 300 / 9
    bench, managed = again(make_bench, down=False, limit_s=90.0)
    assert condition(bench, managed) == "fresh"
    bench.engine.start_all()
    bench.settle_down()
    assert (bench.records("stale"), [line for line in said if line["log_level"] == "critical"]) == ([], [])


def test_a_last_success_is_remembered_although_the_clock_was_set_back(make_bench: Callable[..., Bench]) -> None:
    """A clock that was a day ahead and is set right: the next success is written, not the one of tomorrow kept."""
    bench = make_bench()
    managed = bench.managed()
    bench.begin(managed)
    bench.clock._now += timedelta(days=1)
    bench.publish(managed, 1)
    bench.clock._now -= timedelta(days=1)
    bench.refresh()
    bench, managed = again(make_bench)
    assert managed.state.health.last_success_at == bench.clock.now()


def test_the_status_names_the_one_dependent_that_is_waited_for(bench: Bench) -> None:
    """One that is still to be told is named; of several the number would change all the time, so none is."""
    one = bench.managed("one", notify=[FakeDependent("app")])
    two = bench.managed("two", notify=[FakeDependent("app2"), FakeDependent("app3")])
    bench.begin(one, two)
    for managed in (one, two):
        bench.publish(managed, 1)
    assert summary(bench) == "0 of 2 credentials fresh; one pending (fake app to be told); two pending"


def test_the_status_names_the_dependent_that_was_given_up(bench: Bench) -> None:
    """`failing` although every refresh goes well: the line says that it is about a dependent, and about which."""
    dependent = FakeDependent("app", retries=0)
    dependent.broken = True
    managed = bench.managed(notify=[dependent])
    bench.begin(managed)
    bench.publish(managed, 1)
    bench.clock.move(10.0)
    bench.until(lambda: not managed.state.debts)
    assert condition(bench, managed) == "failing"
    assert summary(bench) == "0 of 1 credentials fresh; a failing (fake app was given up)"


def test_what_was_never_obtained_has_no_window(bench: Bench, said: Said) -> None:
    """A first value that cannot be had is not `expired`: nothing died."""
    failing(bench, published=False)
    assert [line["window"] for line in said if line["event"] == "fetch failed"] == ["none yet"]
