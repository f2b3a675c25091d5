"""What is owed is paid: whatever the orders, whoever else is slow, and whatever the operator mends meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from agent.core.errors import SourceUnavailableError
from agent.core.events import Trigger
from agent.refresh.managed_credential import ManagedCredential
from agent.state.records import called
from tests.support.bench import Bench
from tests.support.fakes import FakeDependent, key
from tests.support.publishes import reloaded

MakeBench = Callable[..., Bench]


def paid(bench: Bench, *credentials: ManagedCredential) -> None:
    """Let time pass until nobody is owed anything; fail where that never comes."""
    for _ in range(12):
        bench.move(1.0)
        if not any(managed.state.debts for managed in credentials):
            return
    bench.until(lambda: not any(managed.state.debts for managed in credentials))


# -- orders across credentials ------------------------------------------------------------------------


def test_two_credentials_that_order_the_same_dependents_the_other_way_round_tell_both(bench: Bench) -> None:
    """Neither waits for the other for ever."""
    one, other = FakeDependent("one"), FakeDependent("other")
    a = bench.managed("a", notify=[one, FakeDependent("other", order=1)])
    b = bench.managed("b", notify=[other, FakeDependent("one", order=1)])
    bench.begin(a, b).publish(a, 1)
    bench.publish(b, 1)
    paid(bench, a, b)
    told = {(record["credential"], record["notified"]) for record in bench.records("notified")}
    assert told == {(name, who) for name in ("a", "b") for who in ("fake one", "fake other")}


def test_a_slow_hook_of_one_credential_does_not_hold_up_another(bench: Bench) -> None:
    """The unit that both name is told of the one whose turn it is, `settle` later at most, and of the other behind its hook."""
    slow, unit = FakeDependent("slow"), FakeDependent("unit")
    slow.gate = threading.Event()
    a = bench.managed("a", notify=[unit])
    b = bench.managed("b", notify=[slow, FakeDependent("unit", order=1)])
    bench.begin(a, b).publish(a, 1)
    bench.publish(b, 1)
    bench.clock.move(2.1)
    bench.until(lambda: slow.events)
    bench.clock.move(2.1)
    bench.until(lambda: not a.state.debts)
    assert [event.credential for event in unit.events] == ["a"]
    slow.gate.set()
    paid(bench, b)


def test_a_quick_hook_first_still_makes_one_restart_for_both(bench: Bench) -> None:
    """Each credential has a hook of its own, and both restart one unit behind it: once."""
    unit = FakeDependent("unit", order=1)
    a = bench.managed("a", notify=[FakeDependent("hook of a"), unit])
    b = bench.managed("b", notify=[FakeDependent("hook of b"), unit])
    bench.begin(a, b).publish(a, 1)
    bench.move(1.0)
    bench.publish(b, 1)
    paid(bench, a, b)
    assert len(unit.events) == 1


def test_a_dependent_that_is_named_twice_is_told_once(bench: Bench) -> None:
    """With two orders: at the lower one."""
    web, between = FakeDependent("web"), FakeDependent("between", order=1)
    managed = bench.managed(notify=[FakeDependent("web", order=5), web, between])
    bench.begin(managed).publish(managed, 1)
    paid(bench, managed)
    assert [record["notified"] for record in bench.records("notified")] == ["fake web", "fake between"]


# -- what is mended -----------------------------------------------------------------------------------


@pytest.mark.parametrize("given_up", [False, True])
def test_a_dependent_that_is_mended_in_the_config_is_told(bench: Bench, given_up: bool) -> None:
    """The operator corrects the command and reloads: who was not told hears of the generation in use."""
    typo = FakeDependent("tpyo", retry_for=0.0 if given_up else 600.0)
    typo.broken = True
    managed = bench.managed(notify=[typo, FakeDependent("fine")])
    bench.begin(managed).publish(managed, 1)
    bench.move(2.5)
    bench.until(lambda: len(managed.state.ledger.outcomes) == 2)
    mended = FakeDependent("typo")
    (now,) = reloaded(bench, bench.managed(notify=[mended, FakeDependent("fine")], max_staleness=9e4))
    paid(bench, now)
    assert mended.generations == [1]
    assert bench.records("notified")[-1]["notified"] == "fake typo"


def test_a_dependent_that_was_mended_before_a_start_is_told(make_bench: MakeBench) -> None:
    """The same where keyturn was stopped meanwhile."""
    before = make_bench()
    typo = FakeDependent("tpyo")
    typo.broken = True
    managed = before.managed(notify=[typo])
    before.begin(managed).publish(managed, 1)
    before.close()
    after, mended = make_bench(), FakeDependent("typo")
    again = after.managed(notify=[mended])
    after.begin(again)
    paid(after, again)
    assert mended.generations == [1]


def test_a_dependent_that_is_only_added_is_told_nothing_old(bench: Bench) -> None:
    """It has started after the file was written; nobody was forgotten."""
    managed = bench.managed(notify=[FakeDependent("old")])
    bench.begin(managed).publish(managed, 1)
    paid(bench, managed)
    (now,) = reloaded(bench, bench.managed(notify=[FakeDependent("old"), FakeDependent("new")], max_staleness=9e4))
    assert now.state.debts == ()


def test_what_was_given_up_is_tried_again_when_an_operator_refreshes(bench: Bench) -> None:
    """`status` says failing until then; a poll tells nobody; the refresh does, and all is well."""
    web = FakeDependent("web", retry_for=0.0)
    web.broken = True
    managed = bench.managed(notify=[web])
    bench.begin(managed).publish(managed, 1)
    paid(bench, managed)
    assert managed.condition(bench.clock.now()) == "failing"
    web.broken = False
    bench.refresh()
    assert managed.state.debts == ()
    bench.refresh(trigger=Trigger.OPERATOR)
    paid(bench, managed)
    assert (web.generations, managed.condition(bench.clock.now())) == ([1, 1], "fresh")


@pytest.mark.parametrize(
    ("identity", "shown"),
    [
        (("http", "http://127.0.0.1:9/reload?token=hunter2"), "http http://127.0.0.1:9/reload"),
        (("exec", "app", "/bin/sh", "-c", "token=hunter2"), "exec /bin/sh"),
        (("systemd", "app.service", "reload", ""), "systemd app.service"),
        (("signal", "1", "/run/app.pid", "", ""), "signal /run/app.pid"),
        (("signal", "1", "", "/usr/bin/app", "app"), "signal /usr/bin/app"),
    ],
)
def test_a_dependent_that_left_is_named_without_what_may_be_secret(identity: tuple[str, ...], shown: str) -> None:
    """A token in a query and the arguments of a command stay out of the audit."""
    assert called(identity) == shown


# -- repairs ------------------------------------------------------------------------------------------


def test_a_repair_during_a_telling_is_told_again(bench: Bench) -> None:
    """The dependent may have read the foreign content before the repair: the news from before it pays nothing."""
    web = FakeDependent("web")
    web.gate = threading.Event()
    managed = bench.managed(notify=[web])
    bench.begin(managed).publish(managed, 1)
    bench.clock.move(2.1)
    bench.until(lambda: web.events)
    bench.sink().write_text("{}")
    assert bench.refresh().outcome.result == "repaired"  # type: ignore[union-attr]
    web.gate.set()
    paid(bench, managed)
    assert [str(event.trigger) for event in web.events] == ["poll", "drift"]


def test_a_repair_of_an_old_generation_is_retried_as_long_as_any_other(bench: Bench) -> None:
    """Another credential still owes the same dependent; `retry_for` counts from the repair all the same."""
    web, other = FakeDependent("web", retry_for=60.0), FakeDependent("web", retry_for=1e6)
    a, b = bench.managed("a", notify=[web]), bench.managed("b", notify=[other])
    bench.begin(a, b).publish(a, 1)
    web.broken = other.broken = True
    bench.publish(b, 1)
    bench.move(2.5)
    bench.until(lambda: all(d.attempts for one in (a, b) for d in one.state.debts))
    bench.move(30.0)
    a.state.ledger.replace(())
    bench.move(100.0)
    bench.sink("a").write_text("{}")
    bench.refresh("a")
    bench.move(2.5)
    bench.until(lambda: (a.state.debts and a.state.debts[0].attempts) or not a.state.debts)
    assert a.state.debts, "given up at its first failure"


# -- starts -------------------------------------------------------------------------------------------


def test_nobody_is_told_of_a_file_that_is_not_there(make_bench: MakeBench) -> None:
    """A start after a tmpfs was emptied, with the source away: told when the file is there again, once."""
    before = make_bench()
    managed = before.managed(notify=[FakeDependent("web")])
    before.begin(managed).publish(managed, 1)
    before.close()
    for number in (0, 1):
        before.sink("a", number).unlink()
    after, web = make_bench(), FakeDependent("web")
    again = after.managed(notify=[web])
    source: Any = again.provider
    source.value = SourceUnavailableError("credentials.a: down", "wait")
    after.begin(again).refresh(trigger=Trigger.START)
    after.move(5.0)
    assert (web.events, len(again.state.debts)) == ([], 1)
    source.value = key(1)
    after.refresh()
    paid(after, again)
    assert web.generations == [1]


def test_who_is_owed_of_files_that_stand_does_not_wait_for_the_source(make_bench: MakeBench) -> None:
    """The rotation came before the stop; the source is away; the files are there: told."""
    before = make_bench()
    managed = before.managed(notify=[FakeDependent("web")])
    before.begin(managed).publish(managed, 1)
    before.close()
    after, web = make_bench(), FakeDependent("web")
    again = after.managed(notify=[web])
    after.begin(again)
    paid(after, again)
    assert web.generations == [1]
