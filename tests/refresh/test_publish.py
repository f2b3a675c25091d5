"""A publish is all or nothing, with a record, whatever breaks and whenever the process dies."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from typing import Any

import pytest

from agent.core.errors import AuditError, StateError
from agent.refresh.pipeline import TRIES
from agent.refresh.recorder import Recorder
from agent.sinks.transaction.replace import StagedFile
from agent.sinks.transaction.transaction import TargetChangedError
from tests.support.bench import Bench
from tests.support.fakes import key
from tests.support.publishes import change_to, died_at, failing_rename, held, left_over, two

MakeBench = Callable[..., Bench]


# -- what breaks --------------------------------------------------------------------------------------


def test_without_a_record_nothing_is_staged_or_switched(bench: Bench) -> None:
    """The audit log cannot be written: no act."""
    managed = two(bench)
    change_to(managed, 2)
    bench.break_audit()
    assert isinstance(bench.refresh().error, AuditError)
    assert held(bench) == [key(1).access_key_id] * 2
    assert (left_over(bench), managed.state.published.generation, managed.state.debts) == ([], 1, ())
    bench.mend_audit()
    assert bench.refresh().outcome.generation == 2  # type: ignore[union-attr]


def test_without_a_journal_the_files_stay_as_they_were(bench: Bench) -> None:
    """The state cannot be written: what was staged is gone again, and nobody is owed anything."""
    managed = two(bench)
    change_to(managed, 2)
    bench.break_state()
    assert isinstance(bench.refresh().error, StateError)
    assert held(bench) == [key(1).access_key_id] * 2
    assert (left_over(bench), managed.state.published.generation, managed.state.debts) == ([], 1, ())
    assert managed.state.journal.before is None
    bench.mend_state()
    assert bench.refresh().outcome.generation == 2  # type: ignore[union-attr]
    assert held(bench) == [key(2).access_key_id] * 2


@pytest.mark.parametrize("times", [1, TRIES - 1, TRIES])
def test_a_target_that_somebody_writes_meanwhile(bench: Bench, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """The publish begins anew, over the foreign content; who writes each time stops it, and nothing is switched."""
    managed = two(bench)
    change_to(managed, 2)
    begin, begun = Recorder.begin, []

    def meddle(self: Recorder, *what: Any) -> Callable[[], None]:
        begun.append(what)
        if len(begun) <= times:
            bench.sink("a", 1).write_text(json.dumps({"AccessKeyId": f"foreign {len(begun)}"}))
        return begin(self, *what)

    monkeypatch.setattr(Recorder, "begin", meddle)
    report = bench.refresh()
    if times == TRIES:
        assert isinstance(report.error, TargetChangedError)
        assert held(bench) == [key(1).access_key_id, f"foreign {TRIES}"]
        assert (left_over(bench), managed.state.published.generation, managed.state.debts) == ([], 1, ())
        assert managed.state.journal.before is None
        assert bench.refresh().outcome.generation == 2  # type: ignore[union-attr]
    assert held(bench) == [key(2).access_key_id] * 2
    assert len(bench.records("credential_fetched")) == (3 if times == TRIES else 2), "one for each refresh"


def test_a_switch_that_fails_half_way_is_finished_at_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first file is switched, the second fails once: rolled forward, one ordinary record."""
    managed = two(bench)
    change_to(managed, 2)
    failing_rename(monkeypatch, "a.1", 1)
    assert bench.refresh().outcome.result == "published"  # type: ignore[union-attr]
    assert held(bench) == [key(2).access_key_id] * 2
    assert len(bench.records("published")) == 2
    assert bench.records("publish_recovered") == []
    assert left_over(bench) == []


def test_a_switch_that_cannot_be_finished_is_finished_before_the_next_refresh(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk fails for a while: the journal stays, then all files agree, recorded once, and the dependents are told."""
    managed = two(bench)
    change_to(managed, 2)
    failing_rename(monkeypatch, "a.1", 3)
    assert bench.refresh().error is not None
    assert held(bench) == [key(2).access_key_id, key(1).access_key_id]
    assert managed.state.journal.before is not None
    assert bench.refresh().error is not None
    assert bench.refresh().error is None
    assert held(bench) == [key(2).access_key_id] * 2
    (record,) = bench.records("publish_recovered")
    assert (record["generation"], record["outcome"]) == (2, "rolled forward")
    bench.clock.move(2.1)
    bench.until(lambda: not managed.state.debts)
    assert managed.notifiers[0].generations[-1] == 2  # type: ignore[attr-defined]


def test_a_journal_that_cannot_be_finished_does_not_keep_the_others_from_starting(
    make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One broken disk, one credential: the others are at work at once."""
    died_at(make_bench, "journal")
    failing_rename(monkeypatch, "a.1", 1)
    bench = make_bench()
    broken, other = bench.managed("a"), bench.managed("b")
    bench.begin(broken, other)
    assert bench.refresh("b").error is None
    assert bench.refresh("a").error is None
    assert held(bench) == [key(1).access_key_id] * 2  # the source's present value, published anew


# -- crashes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("point", ["journal", "first rename", "commit"])
def test_a_crash_behind_the_point_of_no_return_is_rolled_forward(make_bench: MakeBench, point: str) -> None:
    """All files agree on the new value, recorded exactly once however often we start, and everybody is owed the news."""
    died_at(make_bench, point)
    for start in range(2):
        bench = make_bench()
        managed = two(bench)
        assert held(bench) == [key(2).access_key_id] * 2
        assert managed.state.published.generation == 2
        (record,) = bench.records("publish_recovered")
        assert (record["generation"], record["trigger"], record["outcome"]) == (2, "recovery", "rolled forward")
        assert left_over(bench) == []
        if start == 0:
            bench.close()
    bench.clock.move(2.1)
    bench.until(lambda: not managed.state.debts)
    assert managed.notifiers[0].generations == [2]  # type: ignore[attr-defined]


def test_a_crash_before_the_point_of_no_return_left_nothing(make_bench: MakeBench) -> None:
    """The files, the state and the directory are as before."""
    died_at(make_bench, "stage")
    bench = make_bench()
    managed = two(bench)
    assert held(bench) == [key(1).access_key_id] * 2
    assert (managed.state.published.generation, managed.state.debts, left_over(bench)) == (1, (), [])
    assert bench.records("publish_recovered") == []


def test_a_crash_after_the_record_is_not_recorded_twice(make_bench: MakeBench) -> None:
    """The publish stands in the audit already; the journal is only dropped."""
    died_at(make_bench, "close")
    bench = make_bench()
    managed = two(bench)
    assert held(bench) == [key(2).access_key_id] * 2
    assert managed.state.journal.before is None
    assert [record["generation"] for record in bench.records("published", "publish_recovered")] == [1, 2]


def test_staged_files_that_are_gone_roll_back_and_owe_the_value_before(make_bench: MakeBench) -> None:
    """A tmpfs lost them: the old generation counts, and whoever may not have heard of it is told of it again."""
    died_at(make_bench, "journal")
    bench = make_bench()
    for name in left_over(bench):
        (bench.directory / name).unlink()
    managed = two(bench)
    assert held(bench) == [key(1).access_key_id] * 2
    assert managed.state.published.generation == 1
    assert [debt.generation for debt in managed.state.debts] == [1]
    (record,) = bench.records("publish_recovered")
    assert record["outcome"] == "rolled back"
    bench.publish(managed, 2)
    assert held(bench) == [key(2).access_key_id] * 2


def test_the_dependents_of_a_half_failed_switch_are_told_when_all_files_agree(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is told while a file is still old; once recovery has switched it, everybody is."""
    managed = two(bench)
    (web,) = managed.notifiers
    told = list(web.generations)  # type: ignore[attr-defined]
    change_to(managed, 2)
    failing_rename(monkeypatch, "a.1", 99)
    assert bench.refresh().error is not None
    bench.move(3)
    assert web.generations == told  # type: ignore[attr-defined]
    monkeypatch.undo()
    assert bench.refresh().error is None
    bench.move(3)
    bench.until(lambda: not managed.state.debts)
    assert web.generations == [*told, 2]  # type: ignore[attr-defined]


def test_a_switch_that_switched_nothing_is_undone(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every rename fails, as on a mount point: the files, the state and the generation are as before."""
    managed = two(bench)
    change_to(managed, 2)
    failing_rename(monkeypatch, "a.0", 99)
    assert bench.refresh().error is not None
    assert held(bench) == [key(1).access_key_id] * 2
    assert (managed.state.published.generation, managed.state.journal.before) == (1, None)
    assert left_over(bench) == []


def test_a_target_that_cannot_be_looked_at_again_is_left_as_it_was(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk fails between the journal and the first switch: state and files are as before, and nobody is owed."""
    managed = two(bench)
    change_to(managed, 2)

    def broken(change: StagedFile) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(StagedFile, "refuse_changed", broken)
        assert "cannot look at" in str(bench.refresh().error)
    assert (managed.state.published.generation, managed.state.journal.before, managed.state.debts) == (1, None, ())
    assert held(bench) == [key(1).access_key_id] * 2 and left_over(bench) == []
    assert bench.refresh().outcome.generation == 2  # type: ignore[union-attr]


def test_a_publish_whose_record_is_missing_is_never_taken_back(bench: Bench) -> None:
    """All files are switched, the log is full, then somebody saves a target: still generation 2, recorded later."""
    managed = two(bench)
    change_to(managed, 2)
    bench.audit.before = lambda event: bench.break_audit() if event == "published" else None
    assert isinstance(bench.refresh().error, AuditError)
    bench.audit.before = lambda _event: None
    bench.mend_audit()
    bench.sink("a", 0).write_text("{}")
    assert bench.refresh().error is None
    assert managed.state.published.generation == 2
    assert held(bench) == [key(2).access_key_id] * 2
    assert [record["outcome"] for record in bench.records("publish_recovered")] == ["rolled forward"]
