"""What is remembered over a restart, and what is known where it is lost: no number twice, nobody forgotten."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from agent.core.errors import AuditError
from agent.core.events import Trigger
from agent.core.settings import FilePath
from agent.sinks.formats.env_file import EnvFile, EnvFileSettings
from agent.state.publish_journal import PublishJournal
from agent.state.records import Published
from tests.support.bench import Bench
from tests.support.fakes import FakeDependent, Source, key
from tests.support.publishes import died_at, left_over, two

MakeBench = Callable[..., Bench]


def record_of(bench: Bench) -> Path:
    return bench.directory / "state" / "credentials" / "a.state"


def published_to(make_bench: MakeBench, last: int, *, keep: int) -> None:
    """Publish up to `last`; a copy of the state as of generation `keep` lies beside it."""
    bench = make_bench()
    managed = bench.managed()
    bench.begin(managed)
    for number in range(1, last + 1):
        bench.publish(managed, number)
        if number == keep:
            shutil.copy(record_of(bench), bench.directory / "backup")
    bench.close()


@pytest.mark.parametrize("damage", ["removed", "damaged", "restored from a backup"])
def test_a_number_that_the_audit_knows_is_not_given_out_again(make_bench: MakeBench, damage: str) -> None:
    """Whatever became of the state: the next value is a new generation for hooks and auditors."""
    published_to(make_bench, 4, keep=2)
    bench = make_bench()
    path, backup = record_of(bench), bench.directory / "backup"
    if damage == "removed":
        path.unlink()
    elif damage == "damaged":
        path.write_text("rubbish")
    else:
        shutil.copy(backup, path)
    managed = bench.managed()
    bench.begin(managed)
    assert bench.publish(managed, 9).outcome.generation == 5  # type: ignore[union-attr]
    numbers = [record["generation"] for record in bench.records("published")]
    assert numbers == [1, 2, 3, 4, 5]


def test_rotated_audit_files_are_asked_where_the_state_is_gone(make_bench: MakeBench) -> None:
    """The newest file may be an hour old."""
    published_to(make_bench, 3, keep=1)
    bench = make_bench()
    bench.audit.close()
    bench.audit_path.rename(bench.audit_path.with_name("audit.jsonl.1"))
    record_of(bench).unlink()
    again = make_bench()
    managed = again.managed()
    again.begin(managed)
    assert again.publish(managed, 9).outcome.generation == 4  # type: ignore[union-attr]


def test_a_number_that_was_taken_back_stays_spent(make_bench: MakeBench) -> None:
    """Generation 2 was begun and rolled back; then a repair of generation 1 is rolled back too: the next is 3."""
    died_at(make_bench, "journal")
    bench = make_bench()
    for name in left_over(bench):
        (bench.directory / name).unlink()
    managed = two(bench)
    assert managed.state.published.generation == 1
    staged = [
        {"directory": str(bench.directory), "temp": ".gone", "target": "a.0", "write": "replace", "inode": 1, "size": 1,
         "mtime_ns": 1, "before": None}
    ]  # fmt: skip
    done, spent = managed.state.published, managed.state.journal.spent
    managed.state.journal = PublishJournal(done, before=done, staged=staged, spent=spent)
    bench.parts.recorder.recover(managed, bench.clock.now())
    assert bench.publish(managed, 2).outcome.generation == 3  # type: ignore[union-attr]


def test_a_number_stays_spent_when_the_record_of_its_roll_back_fails(make_bench: MakeBench) -> None:
    """The audit log is full at the roll-back, and the recovery is made again later."""
    died_at(make_bench, "journal")
    bench = make_bench()
    for name in left_over(bench):
        (bench.directory / name).unlink()
    managed = bench.managed()
    bench.parts.recovery.recall(managed)
    bench.break_audit()
    with pytest.raises(AuditError):
        bench.parts.recorder.recover(managed, bench.clock.now())
    bench.mend_audit()
    bench.parts.recorder.recover(managed, bench.clock.now())
    assert (managed.state.published.generation, managed.state.journal.next_generation) == (1, 3)


def test_a_reload_takes_over_a_credential_whose_publish_was_interrupted(make_bench: MakeBench) -> None:
    """Named again in the config: finished, its dependents told, and its next refresh planned."""
    died_at(make_bench, "first rename")
    bench = make_bench()
    other = bench.managed("b")
    bench.begin(other)
    web = FakeDependent("web")
    a = bench.managed(notify=[web])
    assert isinstance(a.provider, Source)
    a.provider.value = key(2)
    bench.engine.reload([other, a], 2.0)
    bench.settle_down()
    assert a.state.published.generation == 2 and a.next_refresh_at is not None
    bench.move(2.1)
    bench.until(lambda: not a.state.debts)
    assert web.generations == [2]


def test_an_expiry_that_moves_is_remembered(bench: Bench) -> None:
    """The same keys, and the source says that they live longer: neither expired, nor written anew, nor asked each second."""
    managed = bench.managed()
    managed.sinks = (EnvFile(EnvFileSettings(type="env_file", path=FilePath(bench.sink()))),)  # which tells no expiry
    source = managed.provider
    assert isinstance(source, Source)
    source.value = key(1, expiration=bench.clock.now() + timedelta(hours=1))
    bench.begin(managed).refresh(trigger=Trigger.START)
    bench.clock.move(1800.0)
    later = bench.clock.now() + timedelta(hours=2)
    source.value = key(1, expiration=later)
    bench.refresh()
    done: Published = managed.state.published
    assert (done.generation, done.expiration, done.obtained_at) == (1, later, bench.clock.now())
    assert managed.next_refresh_at is not None and managed.next_refresh_at - bench.clock.boottime() > 3600.0
