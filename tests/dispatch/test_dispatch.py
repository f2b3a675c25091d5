"""Every dependent hears of every generation, or its failure is loud: in order, once, and whoever else hangs."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from agent.core.errors import AuditError, StateError
from agent.core.events import Trigger
from agent.core.notify_outcome import NotifyOutcome, NotifyResult
from agent.dispatch import dispatcher
from agent.runtime.scheduler import Job, JobKind
from agent.state.records import key as identity_key
from tests.support.bench import Bench
from tests.support.fakes import FakeDependent, key


def put_off(bench: Bench, job: Job, delay_s: float) -> None:
    """Have a job that is planned come due later."""
    scheduler = bench.parts.scheduler
    scheduler.set(job, delay_s, scheduler._acts[job])


def owed(bench: Bench, name: str = "a") -> list[tuple[str, int, int]]:
    return [(d.identity[1], d.generation, d.attempts) for d in bench.slots[name].managed.state.debts]


# -- settle, splay, order -----------------------------------------------------------------------------


def test_nobody_is_told_before_settle_is_over(bench: Bench) -> None:
    """Owed at once, told `settle` seconds after the publish."""
    web = FakeDependent("web")
    managed = bench.managed(notify=[web])
    bench.begin(managed).publish(managed, 1)
    bench.move(1.9)
    assert (web.events, owed(bench)) == ([], [("web", 1, 0)])
    bench.move(0.2)
    bench.until(lambda: not managed.state.debts)
    assert web.generations == [1]
    assert bench.records("notified")[0]["notified"] == "fake web"


def test_two_credentials_that_change_together_tell_their_unit_once(bench: Bench) -> None:
    """One call covers both; the audit names both credentials; the event is that of the later one."""
    unit = FakeDependent("unit")
    other = FakeDependent("unit")
    a, b = bench.managed("a", notify=[unit]), bench.managed("b", notify=[other])
    bench.begin(a, b).publish(a, 1)
    bench.move(1.0)
    bench.publish(b, 1)
    bench.move(1.5)
    bench.until(lambda: not a.state.debts and not b.state.debts)
    assert [event.credential for event in unit.events + other.events] == ["b"]
    assert {record["credential"] for record in bench.records("notified")} == {"a", "b"}


@pytest.mark.parametrize("chance", [0.0, 0.5, 1.0])
def test_splay_spreads_the_telling_behind_settle(bench: Bench, chance: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Evenly over `splay`, behind `settle`: a fleet does not restart everything at once."""
    monkeypatch.setattr("agent.dispatch.dispatcher.random.random", lambda: chance)
    web = FakeDependent("web", splay=100.0)
    managed = bench.managed(notify=[web])
    bench.begin(managed).publish(managed, 1)
    planned_s = (bench.parts.scheduler.at(Job(JobKind.TELL, ("fake", "web"))) or 0.0) - bench.clock.boottime()
    assert planned_s == pytest.approx(2.0 + 100.0 * chance, abs=0.1)
    bench.move(102.0)
    bench.until(lambda: web.generations == [1])


def test_an_emergency_waits_for_neither(bench: Bench) -> None:
    """Told with the clock standing still."""
    web = FakeDependent("web", splay=3600.0)
    managed = bench.managed(notify=[web])
    bench.begin(managed).refresh(trigger=Trigger.EMERGENCY)
    bench.until(lambda: web.generations == [1])


def test_lower_order_is_told_first_and_heard_before_the_next_begins(bench: Bench) -> None:
    """The next order begins when the one before has heard."""
    seen: list[str] = []
    first, last = FakeDependent("first", order=-1), FakeDependent("last", order=5)
    first.gate = threading.Event()
    for one in (first, last):
        one.on_tell = lambda event, one=one: seen.append(one.name)  # type: ignore[misc]
    managed = bench.managed(notify=[last, first])
    bench.begin(managed).publish(managed, 1)
    bench.clock.move(3.0)
    bench.until(lambda: seen)
    assert seen == ["first"]
    first.gate.set()
    bench.until(lambda: not managed.state.debts)
    assert seen == ["first", "last"]


def test_a_failing_lower_order_holds_up_the_next_for_one_attempt_only(bench: Bench) -> None:
    """The failure is retried later; the next order is told meanwhile."""
    first, last = FakeDependent("first"), FakeDependent("last", order=1)
    first.broken = True
    managed = bench.managed(notify=[first, last])
    bench.begin(managed).publish(managed, 1)
    bench.clock.move(3.0)
    bench.until(lambda: last.events)
    bench.until(lambda: len(managed.state.debts) == 1)
    assert owed(bench) == [("first", 1, 1)]


def test_a_dependent_that_hangs_delays_no_other(bench: Bench) -> None:
    """The others of the same order, and those of other credentials, are told while it hangs."""
    hanging, web, other = FakeDependent("hanging"), FakeDependent("web"), FakeDependent("other")
    hanging.gate = threading.Event()
    a, b = bench.managed("a", notify=[hanging, web]), bench.managed("b", notify=[other])
    bench.begin(a, b).publish(a, 1)
    bench.publish(b, 1)
    bench.clock.move(3.0)
    bench.until(lambda: not b.state.debts and len(a.state.debts) == 1)
    assert (web.generations, other.generations, owed(bench)) == ([1], [1], [("hanging", 1, 0)])
    hanging.gate.set()
    bench.until(lambda: not a.state.debts)


# -- failures -----------------------------------------------------------------------------------------


def test_a_failure_is_retried_until_it_is_told(bench: Bench) -> None:
    """One audit record for the first failure of a reason, one for the next reason, none for each attempt."""
    web = FakeDependent("web")
    web.broken = True
    managed = bench.managed(notify=[web])
    bench.begin(managed).publish(managed, 1)
    bench.clock.move(2.0)
    for attempt in range(1, 4):
        bench.until(lambda: owed(bench) == [("web", 1, attempt)])  # noqa: B023
        bench.clock.move(60.0)
    bench.until(lambda: owed(bench) == [("web", 1, 4)])
    assert len(bench.records("notify_failed")) == 1
    web.said = "another reason"
    bench.clock.move(60.0)
    bench.until(lambda: owed(bench) == [("web", 1, 5)])
    assert [record["error"] for record in bench.records("notify_failed")] == [
        "web: it is down; mend it",
        "web: another reason; mend it",
    ]
    web.broken = False
    bench.clock.move(60.0)
    bench.until(lambda: not managed.state.debts)
    assert managed.state.ledger.outcomes == {identity_key(web.identity): NotifyOutcome(NotifyResult.TOLD)}


def test_after_retry_for_it_is_given_up_loudly(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """Audited as notify_gave_up with the reason, shown by status, never tried again by itself."""
    web = FakeDependent("web", retry_for=30.0)
    web.broken = True
    managed = bench.managed(notify=[web])
    bench.begin(managed).publish(managed, 1)
    bench.clock.move(2.0)
    bench.until(lambda: owed(bench) == [("web", 1, 1)])
    bench.clock.move(60.0)
    bench.until(lambda: not managed.state.debts)
    (record,) = bench.records("notify_gave_up")
    assert (record["notified"], record["error"]) == ("fake web", "web: it is down; mend it")
    assert managed.state.ledger.outcomes[identity_key(web.identity)].gave_up
    assert "gave up telling a dependent" in capsys.readouterr().out
    bench.move(3600.0)
    assert len(web.events) == 2


def test_retries_bound_the_attempts(bench: Bench) -> None:
    """`retries = 1` is one try and one more."""
    web = FakeDependent("web", retries=1)
    web.broken = True
    managed = bench.managed(notify=[web])
    bench.begin(managed).publish(managed, 1)
    bench.clock.move(2.0)
    bench.until(lambda: owed(bench) == [("web", 1, 1)])
    bench.clock.move(60.0)
    bench.until(lambda: not managed.state.debts)
    assert len(web.events) == 2


def test_a_newer_generation_supersedes_and_does_not_wait_for_the_old_ones_retry(bench: Bench) -> None:
    """One debt, of the newest generation, with its count begun anew, told after `settle`."""
    web = FakeDependent("web")
    web.broken = True
    managed = bench.managed(notify=[web])
    bench.begin(managed).publish(managed, 1)
    bench.clock.move(2.0)
    bench.until(lambda: owed(bench) == [("web", 1, 1)])
    put_off(bench, Job(JobKind.TELL, ("fake", "web")), 3600.0)  # the longest of back-offs
    web.broken = False
    bench.publish(managed, 2)
    assert owed(bench) == [("web", 2, 0)]
    bench.clock.move(2.1)
    bench.until(lambda: not managed.state.debts)
    assert web.generations == [1, 2]


def test_a_failure_of_the_generation_before_is_not_counted_against_the_newer(bench: Bench) -> None:
    """Published while the one before was being told: the newer has not been tried."""
    web = FakeDependent("web", retries=0)
    web.gate, web.broken = threading.Event(), True
    managed = bench.managed(notify=[web])
    bench.begin(managed).publish(managed, 1)
    bench.clock.move(2.0)
    bench.until(lambda: web.events)
    bench.publish(managed, 2)
    gate, web.gate = web.gate, None
    gate.set()
    bench.settle_down()
    assert owed(bench) == [("web", 2, 0)]
    web.broken = False
    bench.clock.move(3.0)
    bench.until(lambda: not managed.state.debts)
    assert web.generations == [1, 2]


# -- durability ---------------------------------------------------------------------------------------


def test_what_is_owed_survives_a_restart(make_bench: Callable[..., Bench]) -> None:
    """Nobody was told when the process died; the next one tells."""
    before = make_bench()
    managed = before.managed(notify=[FakeDependent("web")])
    before.begin(managed).publish(managed, 1)
    before.close()
    web, after = FakeDependent("web"), make_bench()
    again = after.managed(notify=[web])
    after.begin(again)
    after.clock.move(2.1)
    after.until(lambda: not again.state.debts)
    assert (web.generations, web.events[0].access_key_id) == ([1], key(1).access_key_id)


def test_an_old_debt_is_tried_at_least_once_after_a_restart(make_bench: Callable[..., Bench]) -> None:
    """The machine was off for a week: `retry_for` is long over, and it is told all the same."""
    before = make_bench()
    managed = before.managed(notify=[FakeDependent("web", retry_for=1.0)])
    before.begin(managed).publish(managed, 1)
    before.close()
    web, after = FakeDependent("web", retry_for=1.0), make_bench()
    after.clock.move(7 * 86400.0)
    again = after.managed(notify=[web])
    after.begin(again)
    after.clock.move(2.1)
    after.until(lambda: not again.state.debts)
    assert web.generations == [1]
    assert after.records("notify_gave_up") == []


def test_a_debt_to_a_dependent_that_left_the_config_is_dropped_and_audited(make_bench: Callable[..., Bench]) -> None:
    """Nobody can be told who is not named any more; the audit says that it was dropped."""
    before = make_bench()
    managed = before.managed(notify=[FakeDependent("gone"), FakeDependent("stays")])
    before.begin(managed).publish(managed, 1)
    before.close()
    after = make_bench()
    again = after.managed(notify=[FakeDependent("stays")])
    after.begin(again)
    assert owed(after) == [("stays", 1, 0)]
    (record,) = after.records("notify_gave_up")
    assert (record["notified"], record["error"]) == ("fake gone", "the config no longer names this dependent")


def test_a_reload_that_removes_a_credential_while_its_dependent_is_told(bench: Bench) -> None:
    """The telling ends in peace, and those who wait for the others are not forgotten."""
    web = FakeDependent("web")
    web.gate = threading.Event()
    a, b = bench.managed("a", notify=[web]), bench.managed("b")
    bench.begin(a, b).publish(a, 1)
    bench.clock.move(2.1)
    bench.until(lambda: web.events)
    tried: list[bool] = []
    bench.parts.dispatcher.when_tried({"a"}).add_done_callback(lambda _done: tried.append(True))
    assert tried == []
    bench.engine.reload([bench.managed("b")], 2.0)
    web.gate.set()
    bench.until(lambda: tried)


# -- a disk that is full ------------------------------------------------------------------------------


def test_an_audit_log_that_cannot_be_written_stops_no_telling(bench: Bench) -> None:
    """The dependent is told, the debt is paid; the log says what could not be recorded."""
    web = FakeDependent("web")
    managed = bench.managed(notify=[web])
    bench.begin(managed).publish(managed, 1)
    bench.break_audit()
    bench.clock.move(2.1)
    bench.until(lambda: not managed.state.debts)
    assert web.generations == [1]
    bench.mend_audit()
    assert bench.records("notified") == []


def test_a_state_that_cannot_be_written_stops_no_telling(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """Both are told and the log says so; after a restart they would be told once more, which is harmless."""
    web, worker = FakeDependent("web"), FakeDependent("worker", order=1)
    managed = bench.managed(notify=[web, worker])
    bench.begin(managed).publish(managed, 1)
    bench.states.save = refuse(StateError("state: no space"))  # type: ignore[method-assign]
    bench.clock.move(2.1)
    bench.until(lambda: not managed.state.debts)
    assert (web.generations, worker.generations) == ([1], [1])
    assert "the state cannot be written" in capsys.readouterr().out


def test_a_publish_whose_record_failed_is_told_all_the_same(bench: Bench) -> None:
    """The files were switched when the audit log filled up: told at once, and recorded once, when there is room."""
    web = FakeDependent("web")
    managed = bench.managed(notify=[web])
    bench.audit.before = lambda event: bench.break_audit() if event == "published" else None  # type: ignore[method-assign]
    report = bench.begin(managed).refresh()
    assert isinstance(report.error, AuditError)
    assert key(1).access_key_id in bench.sink().read_text()
    bench.clock.move(2.1)
    bench.until(lambda: web.events)
    assert isinstance(bench.refresh().error, AuditError)
    bench.mend_audit()
    assert bench.refresh().error is None
    assert bench.refresh().error is None
    (record,) = bench.records("publish_recovered", "published")
    assert (record["event"], record["generation"], record["outcome"]) == ("publish_recovered", 1, "rolled forward")


def refuse(error: Exception) -> Callable[..., None]:
    def raise_it(*_: Any, **__: Any) -> None:
        raise error

    return raise_it


def test_a_stepped_wall_clock_gives_up_nobody(bench: Bench) -> None:
    """`retry_for` is counted on the clock that never steps: an hour's step after the first try changes nothing."""
    web = FakeDependent("web", retry_for=600.0)
    web.broken = True
    managed = bench.managed(notify=[web])
    bench.begin(managed).publish(managed, 1)
    bench.clock._now += timedelta(hours=1)
    bench.move(3)
    assert web.events and bench.records("notify_gave_up") == []
    web.broken = False
    bench.move(90)
    bench.until(lambda: not managed.state.debts)
    assert managed.state.ledger.outcomes == {"fake\0web": NotifyOutcome(NotifyResult.TOLD)}


def test_a_failing_dependent_is_tried_with_back_off_and_costs_the_source_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice as long each time up to a minute (vault 12566, openbao 1399): no loop, and not one more call to the source."""
    monkeypatch.setattr(dispatcher.random, "random", lambda: 1.0)
    web = FakeDependent("web", retry_for=3600.0)
    web.broken = True
    tried: list[float] = []
    web.on_tell = lambda _event: tried.append(bench.clock.boottime())
    managed = bench.managed(notify=[web])
    bench.begin(managed).publish(managed, 1)
    calls = managed.provider.calls  # type: ignore[attr-defined]
    bench.parts.scheduler.clear(Job(JobKind.REFRESH, "a"))  # its polls are another matter
    job = Job(JobKind.TELL, ("fake", "web"))
    for attempt in range(1, 10):
        bench.clock.move((bench.parts.scheduler.at(job) or 0.0) - bench.clock.boottime())
        bench.until(lambda: owed(bench) == [("web", 1, attempt)])  # noqa: B023
    waits = [round(later - earlier) for earlier, later in itertools.pairwise(tried)]
    assert waits == [2, 4, 8, 16, 32, 60, 60, 60]
    assert managed.provider.calls == calls  # type: ignore[attr-defined]


def test_a_newer_generation_after_a_restart_supersedes_the_debt_of_the_older(make_bench: Callable[..., Bench]) -> None:
    """Owed from before the restart, then published anew: told once, of the newer."""
    before = make_bench()
    managed = before.managed(notify=[FakeDependent("web")])
    before.begin(managed).publish(managed, 1)
    before.close()
    web, after = FakeDependent("web"), make_bench()
    again = after.managed(notify=[web])
    after.begin(again)
    after.publish(again, 2)
    assert owed(after) == [("web", 2, 0)]
    after.clock.move(2.1)
    after.until(lambda: not again.state.debts)
    assert web.generations == [2]
