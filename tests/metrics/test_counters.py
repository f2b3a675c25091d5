"""The engine says what it does, and it is counted once."""

from __future__ import annotations

from typing import Any

from agent.cloud.verify import Verification
from agent.core.config_in_force import ConfigInForce
from agent.core.errors import SourceUnavailableError, VerifyRefusedError
from agent.metrics.counters import Counters
from agent.metrics.snapshot import Row, take
from tests.support.bench import Bench
from tests.support.fakes import FakeDependent, Source, key

DOWN = SourceUnavailableError("down")


def observed(bench: Bench) -> Counters:
    counts = Counters()
    bench.engine.observe(counts)
    return counts


def row(bench: Bench, counts: Counters) -> Row:
    (found,) = take(bench.engine, counts, ConfigInForce(bench.engine.clock.now())).rows
    return found


def source_of(managed: Any) -> Source:
    assert isinstance(managed.provider, Source)
    return managed.provider


def test_each_refresh_counts_once_by_what_came_of_it(bench: Bench) -> None:
    """Published, unchanged, repaired, and each way to fail, a run of the same failures too."""
    counts, managed = observed(bench), bench.managed()
    bench.begin(managed).publish(managed, 1)
    bench.refresh()
    bench.sink().write_text("{}")
    bench.refresh()
    source_of(managed).value = DOWN
    bench.refresh()
    bench.refresh()
    source_of(managed).value = VerifyRefusedError("no")
    bench.refresh()
    source_of(managed).value = key(2)
    bench.break_audit()
    bench.refresh()
    bench.mend_audit()
    assert dict(row(bench, counts).refreshes) == {
        "unchanged": 1,
        "published": 1,
        "repaired": 1,
        "fetch_failed": 2,
        "verify_failed": 1,
        "publish_failed": 1,
    }


def test_a_publish_is_timed_and_nothing_else_is(bench: Bench) -> None:
    """The count of the histogram is the number of publishes: no look, repair or failure is in it."""
    counts, managed = observed(bench), bench.managed()
    bench.begin(managed)
    for number in (1, 2, 3):
        bench.publish(managed, number)
    bench.refresh()
    bench.sink().write_text("{}")
    bench.refresh()
    source_of(managed).value = DOWN
    bench.refresh()
    assert row(bench, counts).published[-1] == 3 == row(bench, counts).generation


def test_the_proof_is_a_part_of_the_time_and_the_fetch_is_not(bench: Bench) -> None:
    """From the provider's reply to the last sink switched: a key that takes long to work shows."""
    counts, managed = observed(bench), bench.managed()

    class Slow:
        def verify(self, _value: object, **_more: object) -> Verification:
            bench.clock.move(40.0)
            return Verification("verified", "arn")

    def fetched(_none: object = None) -> Any:
        bench.clock.move(500.0)
        return key(1)

    managed.verifier = Slow()  # type: ignore[assignment]
    source_of(managed)._fetch = lambda _timeout_s: fetched()  # type: ignore[method-assign]
    bench.begin(managed).refresh()
    assert row(bench, counts).published_sum_s == 40.0


def test_each_try_to_tell_counts_by_type_and_outcome(bench: Bench) -> None:
    """Told, failed and given up, and how many are owed meanwhile."""
    counts = observed(bench)
    willing, broken = FakeDependent("willing"), FakeDependent("broken", retries=1)
    broken.broken = True
    managed = bench.managed(notify=[willing, broken])
    bench.begin(managed).publish(managed, 1)
    assert row(bench, counts).owed == 2
    bench.move(3.0)
    assert (row(bench, counts).owed, row(bench, counts).state) == (1, "pending")
    bench.move(120.0)
    found = {(kind, outcome): count for kind, outcome, count in row(bench, counts).notifications}
    assert found == {("fake", "told"): 1, ("fake", "failed"): 1, ("fake", "gave_up"): 1}
    assert row(bench, counts).owed == 0


def test_whoever_waits_for_changes_hears_of_each(bench: Bench) -> None:
    """A refresh, a failure, a notification and an alarm: the file is written anew for each of them."""
    counts, heard = observed(bench), list[bool]()
    counts.on_change = lambda: heard.append(True)
    managed = bench.managed(notify=[FakeDependent("d")], max_staleness=3600.0)
    bench.begin(managed).publish(managed, 1)
    assert len(heard) == 1
    bench.move(3.0)
    assert len(heard) == 2
    source_of(managed).value = DOWN
    bench.refresh()
    assert len(heard) == 3
    bench.clock.move(3600.0)
    bench.until(lambda: managed.state.health.is_stale)
    assert len(heard) >= 4


def test_several_may_listen(bench: Bench) -> None:
    """The figures and the fleet hear of the same refresh, whoever came first."""
    first, second = observed(bench), observed(bench)
    managed = bench.managed(notify=[FakeDependent("d")])
    bench.begin(managed).publish(managed, 1)
    bench.move(3.0)
    for counts in (first, second):
        assert row(bench, counts).published[-1] == 1
        assert ("fake", "told", 1) in row(bench, counts).notifications


def test_nobody_has_to_listen(bench: Bench) -> None:
    """Without metrics the engine tells nobody, and works the same."""
    managed = bench.managed(notify=[FakeDependent("d")])
    bench.begin(managed).publish(managed, 1)
    bench.move(3.0)
    assert managed.state.debts == ()
