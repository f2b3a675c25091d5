"""What a second reader found: a dependent that fell out of the plan, or was told of files that were not as they should be."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.core.errors import SourceUnavailableError
from agent.core.events import Cause, Trigger
from agent.core.settings import FilePath
from agent.refresh.managed_credential import ManagedCredential
from agent.runtime.scheduler import Job, JobKind
from agent.sinks.formats.env_file import EnvFile, EnvFileSettings
from tests.support.bench import Bench
from tests.support.fakes import FakeDependent, Source, key
from tests.support.publishes import change_to, failing_rename, held, left_over, reloaded, two

MakeBench = Callable[..., Bench]
HOURS = 1e6


def failing(name: str, *, retry_for: float = HOURS, **options: Any) -> FakeDependent:
    dependent = FakeDependent(name, retry_for=retry_for, **options)
    dependent.broken = True
    return dependent


def env_file(path: Path, **options: Any) -> EnvFile:
    return EnvFile(EnvFileSettings(type="env_file", path=FilePath(path), **options))


def source_down(managed: ManagedCredential) -> None:
    assert isinstance(managed.provider, Source)
    managed.provider.value = SourceUnavailableError("down", "wait")


def pass_by(bench: Bench, minutes: int = 60) -> None:
    for _ in range(minutes):
        bench.move(60.0)


# -- orders -------------------------------------------------------------------------------------------


def given_up_and_failing(bench: Bench, first: str) -> tuple[ManagedCredential, FakeDependent]:
    """`first`, of order 0, was given up; `x`, of order 1, is still tried."""
    x = failing("x", order=1)
    managed = bench.managed(notify=[failing(first, retry_for=0.0), x])
    bench.begin(managed).publish(managed, 1)
    bench.move(2.5)
    bench.until(lambda: managed.state.ledger.outcomes.get("fake\0x"))
    assert managed.state.ledger.outcomes[f"fake\0{first}"].gave_up
    assert [debt.attempts for debt in managed.state.debts] == [1]
    return managed, x


def test_one_that_fails_stays_in_the_plan_when_an_order_before_it_is_owed_anew(bench: Bench) -> None:
    """`keyturn refresh` after both were mended: the one that had been given up is told, and then the one that had failed."""
    managed, x = given_up_and_failing(bench, "y")
    for notifier in managed.notifiers:
        assert isinstance(notifier, FakeDependent)
        notifier.broken = False
    tried = len(x.events)
    bench.refresh(trigger=Trigger.OPERATOR)
    bench.parts.dispatcher.owe(managed, urgent=True)
    pass_by(bench)
    assert len(x.events) == tried + 1
    assert managed.state.debts == ()


def test_one_that_fails_stays_in_the_plan_when_another_was_mended_before_a_start(make_bench: MakeBench) -> None:
    """The dependent before it has another name in the config now: both hear."""
    given_up_and_failing(make_bench(), "tpyo")
    after = make_bench()
    y, x = FakeDependent("typo"), FakeDependent("x", order=1)
    managed = after.managed(notify=[y, x])
    after.begin(managed)
    pass_by(after)
    assert y.events and x.events


def test_one_whose_time_comes_while_the_order_before_it_is_told_stays_in_the_plan(bench: Bench) -> None:
    """Its retry rings in the middle of a slow hook of the order before it."""
    _managed, x = given_up_and_failing(bench, "tpyo")
    y = FakeDependent("typo")
    y.gate = threading.Event()
    x.broken, tried = False, len(x.events)
    (now,) = reloaded(bench, bench.managed(notify=[y, x], max_staleness=9e4))
    bench.clock.move(2.1)
    bench.until(lambda: y.events)
    bench.clock.move(100.0)
    bench.until(lambda: bench.parts.scheduler.at(Job(JobKind.TELL, ("fake", "x"))) is None)
    y.gate.set()
    pass_by(bench)
    assert len(x.events) > tried
    assert now.state.debts == ()


def test_news_does_not_wait_for_the_back_off_of_anothers(bench: Bench) -> None:
    """One dependent of two credentials: it failed for the one often, and the other one's emergency comes meanwhile."""
    web = failing("web")
    a, b = bench.managed("a", notify=[web]), bench.managed("b", notify=[web])
    bench.begin(a, b).publish(a, 1)
    for _ in range(8):
        bench.move(61.0)
    web.gate = threading.Event()
    tried = len(web.events)
    bench.clock.move(61.0)
    bench.until(lambda: len(web.events) > tried)
    change_to(b, 7)
    bench.refresh("b", trigger=Trigger.EMERGENCY)
    web.gate.set()
    bench.until(lambda: len(web.events) > tried + 1)  # the clock stands still
    assert web.events[-1].credential == "b"


def test_each_credential_is_patient_for_as_long_as_it_says(bench: Bench) -> None:
    """Two name one dependent, with another `retry_for` each: the impatient one gives up its own news only."""
    a = bench.managed("a", notify=[failing("web")])
    b = bench.managed("b", notify=[failing("web", retry_for=0.0)])
    bench.begin(a, b).publish(a, 1)
    bench.move(1.0)
    bench.publish(b, 1)
    bench.move(2.5)
    bench.until(lambda: a.state.ledger.outcomes and b.state.ledger.outcomes)
    assert len(a.state.debts) == 1
    assert b.state.debts == ()


def test_an_emergency_tries_those_again_who_failed_before_it(bench: Bench) -> None:
    """It waits for that try, whatever the back-off: who failed last week is not "tried" in this emergency."""
    web = failing("web")
    managed = bench.managed(notify=[web])
    bench.begin(managed).publish(managed, 1)
    bench.move(2.5)
    bench.until(lambda: [debt.attempts for debt in managed.state.debts] == [1])
    web.broken, done = False, []
    bench.engine.tell_now(["a"], again=True).add_done_callback(lambda _done: done.append(list(managed.state.debts)))
    bench.until(lambda: done)
    assert done == [[]]


# -- reloads ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("back", ["typo", "tpyo"])
def test_one_that_was_taken_out_untold_and_put_back_is_told(bench: Bench, back: str) -> None:
    """In two reloads, rightly spelt or as it was: it owes its place to this generation still."""
    managed = bench.managed(notify=[failing("tpyo", retry_for=0.0), FakeDependent("fine")])
    bench.begin(managed).publish(managed, 1)
    bench.move(2.5)
    bench.until(lambda: len(managed.state.ledger.outcomes) == 2)
    reloaded(bench, bench.managed(notify=[FakeDependent("fine")], max_staleness=9e4))
    pass_by(bench, 3)
    again, fine = FakeDependent(back), FakeDependent("fine")
    reloaded(bench, bench.managed(notify=[fine, again], max_staleness=8e4))
    pass_by(bench, 3)
    assert again.generations == [1]
    assert fine.generations == []


def test_what_was_given_up_is_tried_again_when_an_operator_reloads(bench: Bench) -> None:
    """The config need not change for that: the dependent was mended."""
    web = failing("web", retry_for=0.0)
    managed = bench.managed(notify=[web])
    bench.begin(managed).publish(managed, 1)
    bench.move(2.5)
    bench.until(lambda: managed.state.ledger.outcomes and not managed.state.debts)
    web.broken, tried = False, len(web.events)
    reloaded(bench, bench.managed(notify=[web]))
    bench.move(5.0)
    bench.until(lambda: len(web.events) > tried)


def test_a_credential_that_comes_back_while_its_hook_runs_keeps_its_state(bench: Bench) -> None:
    """Taken out, put back and published anew: the hook of before does not run beside itself, nor writes into the new state."""
    slow = FakeDependent("web")
    slow.gate = threading.Event()
    b, a = bench.managed("b"), bench.managed("a", notify=[slow])
    bench.begin(b, a).publish(a, 1)
    bench.clock.move(2.1)
    bench.until(lambda: slow.events)
    bench.engine.reload([b], 2.0)
    web = FakeDependent("web")
    back = bench.managed("a", notify=[web])
    change_to(back, 2)
    bench.engine.reload([b, back], 2.0)
    bench.until(lambda: back.state.published.generation == 2)
    bench.clock.move(3.0)
    bench.until(lambda: bench.parts.scheduler.at(Job(JobKind.TELL, ("fake", "web"))) is None)
    assert web.events == [], "told while the hook of before still runs"
    slow.gate.set()
    bench.until(lambda: web.generations == [2])
    bench.settle_down()
    on_disk = bench.states.peek("a")
    assert (on_disk.published.generation, on_disk.debts) == (2, ())


def test_a_reload_in_the_middle_of_an_emergency_leaves_nothing_undone(bench: Bench) -> None:
    """The fetch of a `rotate` is thrown away with the old config: it is asked anew, answered, and the schedule goes on."""
    managed = bench.managed()
    bench.begin(managed).publish(managed, 1)
    assert isinstance(managed.provider, Source)
    gate = managed.provider.hold()
    held = bench.engine.hold(managed.name, Cause(Trigger.EMERGENCY))
    reports: list[Any] = []
    bench.engine.refresh("a", Cause(Trigger.EMERGENCY)).add_done_callback(lambda done: reports.append(done.result()))
    new = bench.managed(max_staleness=9e4)
    change_to(new, 2)
    (now,) = reloaded(bench, new)
    gate.set()
    bench.until(lambda: reports)
    assert now.state.published.generation == 2
    held.release()
    bench.settle_down()
    assert now.next_refresh_at is not None


def test_a_changed_config_is_looked_at_when_the_emergency_has_ended(bench: Bench) -> None:
    """Not before: the schedule keeps its hands off."""
    managed = bench.managed()
    bench.begin(managed).publish(managed, 1)
    held = bench.engine.hold(managed.name, Cause(Trigger.EMERGENCY))
    new = bench.managed(max_staleness=9e4)
    change_to(new, 2)
    (now,) = reloaded(bench, new)
    bench.settle_down()
    assert now.state.published.generation == 1
    held.release()
    bench.until(lambda: now.state.published.generation == 2)


def test_a_reload_sweeps_beside_the_sinks_that_it_adds(bench: Bench) -> None:
    """What an earlier run had staged for them holds a secret."""
    b = bench.managed("b")
    bench.begin(b)
    left = bench.directory / ".a.0.keyturn-0123456789abcdef"
    left.write_text("secret")
    bench.engine.reload([b, bench.managed("a")], 2.0)
    assert not left.exists()


# -- files that are not as they should be -------------------------------------------------------------


def half_switched(bench: Bench, managed: ManagedCredential) -> None:
    with pytest.MonkeyPatch.context() as patch:
        failing_rename(patch, "a.1", 2)
        assert bench.refresh().error is not None
    assert held(bench) == [key(2).access_key_id, key(1).access_key_id]


def test_files_that_are_put_right_after_the_start_are_told(make_bench: MakeBench) -> None:
    """The disk that failed half way still fails at the start; then the journal finishes it, and the source is not needed."""
    before = make_bench()
    managed = two(before)
    change_to(managed, 2)
    half_switched(before, managed)
    before.close()
    after, web = make_bench(), FakeDependent("web")
    again = after.managed(notify=[web])
    source_down(again)
    with pytest.MonkeyPatch.context() as patch:
        failing_rename(patch, "a.1", 1)
        after.begin(again)
    assert held(after) == [key(2).access_key_id, key(1).access_key_id]
    after.refresh()
    pass_by(after, 3)
    assert held(after) == [key(2).access_key_id] * 2
    assert web.generations == [2]


def test_a_record_that_cannot_be_written_keeps_no_dependent_waiting(bench: Bench) -> None:
    """A switch that failed half way is finished while the audit log is full: the old key may die, so they are told."""
    managed = two(bench)
    (web,) = managed.notifiers
    assert isinstance(web, FakeDependent)
    pass_by(bench, 5)
    change_to(managed, 2)
    half_switched(bench, managed)
    bench.break_audit()
    bench.refresh()
    pass_by(bench, 3)
    assert held(bench) == [key(2).access_key_id] * 2
    assert web.generations == [2]


def test_files_put_right_without_a_record_are_told_of(make_bench: MakeBench) -> None:
    """A boot took the files, and the audit log is full when they are written again: they are there, so they are told of."""
    before = make_bench()
    managed = before.managed(notify=[FakeDependent("web")])
    before.begin(managed).publish(managed, 1)
    before.close()
    for number in (0, 1):
        before.sink("a", number).unlink()
    after, web = make_bench(), FakeDependent("web")
    after.begin(after.managed(notify=[web]))
    after.break_audit()
    assert after.refresh().error is not None
    after.move(2.5)
    after.until(lambda: web.generations == [1])
    assert held(after) == [key(1).access_key_id] * 2


def test_nobody_is_told_while_a_recovery_left_a_file_behind(bench: Bench) -> None:
    """What was staged for the second file is gone, the source is down: the files do not agree, and nobody hears that they do."""
    managed = two(bench)
    (web,) = managed.notifiers
    assert isinstance(web, FakeDependent)
    change_to(managed, 2)
    half_switched(bench, managed)
    for name in left_over(bench):
        (bench.directory / name).unlink()
    source_down(managed)
    for _ in range(5):
        bench.refresh()
        bench.move(5.0)
    assert web.events == []
    change_to(managed, 2)
    bench.refresh()
    bench.move(2.5)
    bench.until(lambda: web.generations == [2])


def test_nobody_is_told_of_a_file_that_a_reload_has_moved_and_nobody_has_written(bench: Bench) -> None:
    """The source is down, so the new place has no file; the debt waits for it."""
    web = failing("web")
    managed = bench.managed(notify=[web])
    bench.begin(managed).publish(managed, 1)
    bench.move(2.5)
    bench.until(lambda: managed.state.ledger.outcomes)
    moved = bench.managed(notify=[web], max_staleness=9e4)
    moved.sinks = (env_file(bench.directory / "moved"),)
    source_down(moved)
    web.broken, tried = False, len(web.events)
    reloaded(bench, moved)
    pass_by(bench, 10)
    assert len(web.events) == tried
    change_to(bench.slots["a"].managed, 1)
    pass_by(bench, 2)
    assert len(web.events) == tried + 1


def test_one_mended_in_the_config_is_not_told_of_files_that_a_boot_took(make_bench: MakeBench) -> None:
    """It had been given up, so nothing was owed when the files were looked at."""
    before = make_bench()
    managed = before.managed(notify=[failing("tpyo", retry_for=0.0)])
    before.begin(managed).publish(managed, 1)
    before.move(2.5)
    before.until(lambda: managed.state.ledger.outcomes and not managed.state.debts)
    before.close()
    for number in (0, 1):
        before.sink("a", number).unlink()
    after, web = make_bench(), FakeDependent("typo")
    again = after.managed(notify=[web])
    source_down(again)
    after.begin(again).refresh(trigger=Trigger.START)
    pass_by(after, 3)
    assert web.events == []


@pytest.mark.parametrize("variables", [{"SECRET": "access_key_secret"}, {"KEY": "access_key_id"}])
def test_a_file_without_the_id_is_told_after_a_restart_too(make_bench: MakeBench, variables: dict[str, str]) -> None:
    """What was owed is paid although the source is down: the file is there, whether or not it names its key."""

    def one(bench: Bench, web: FakeDependent) -> ManagedCredential:
        managed = bench.managed(notify=[web])
        managed.sinks = (env_file(bench.directory / "a.env", variables=variables),)
        return managed

    before = make_bench()
    managed = one(before, FakeDependent("web"))
    before.begin(managed).publish(managed, 1)
    before.close()
    after, web = make_bench(), FakeDependent("web")
    again = one(after, web)
    source_down(again)
    after.begin(again)
    pass_by(after, 2)
    assert web.generations == [1]


def test_a_process_that_started_while_the_files_were_switched_is_no_evidence(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have read the old value: what counts is the last switch, not the beginning of the publish."""
    managed = bench.managed(notify=[failing("web")])
    bench.begin(managed)
    real, switched = os.rename, []

    def rename(source: Any, destination: Any, **options: Any) -> None:
        bench.clock.move(1.0)
        real(source, destination, **options)
        if Path(destination).name in ("a.0", "a.1"):
            switched.append(bench.clock.now())

    monkeypatch.setattr(os, "rename", rename)
    bench.publish(managed, 1)
    assert len(switched) == 2
    assert managed.state.debts[0].since >= switched[-1]
    stored = bench.states.peek("a")
    assert stored.debts[0].since >= switched[-1], json.dumps(str(stored.debts))
