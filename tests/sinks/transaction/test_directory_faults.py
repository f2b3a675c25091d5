"""A `directory` sink in the transaction: every call fails once, every step is the last one once, things vanish."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from agent.core.errors import SinkError
from agent.sinks.formats.directory import DirectorySink
from agent.sinks.interface import Sink
from agent.sinks.transaction import transaction
from tests.support.processes import in_child
from tests.support.sinks import (
    beside,
    directory,
    disk_full,
    env,
    expected,
    generations,
    ini,
    key,
    leftovers,
    load_journal,
    modes,
    publish,
    pulled,
    read,
    save_journal,
    store_of,
)

MANY = 120
"""More than the calls of any publish here; each test says when it ran out of calls to fail."""

GENERATIONS = 3
"""In use, and two before it."""


def three_sinks(tmp_path: Path) -> tuple[list[Sink], DirectorySink]:
    """A directory between two files, one of them beside it."""
    for name in ("etc", "run"):
        (tmp_path / name).mkdir(mode=0o750, parents=True, exist_ok=True)
    middle = directory(tmp_path / "run" / "credentials")
    return [ini(tmp_path / "etc" / "a.ini"), middle, env(tmp_path / "run" / "b.env")], middle


def hold(sinks: list[Sink], number: int) -> bool:
    """Whether every sink holds a value."""
    return transaction.survey(sinks, key(number), number).in_sync


def clean(tmp_path: Path, middle: DirectorySink, most: int = GENERATIONS) -> bool:
    """Nothing staged is left, no generation too many, and nothing that others could read."""
    private = modes(middle) <= {("directory", "0700"), ("file", "0600")}
    return leftovers(tmp_path) == [] and len(generations(middle)) <= most and private


@pytest.mark.parametrize("first", [True, False], ids=["first publish", "later publish"])
def test_an_error_at_any_call_leaves_old_or_new_and_recovery_decides(tmp_path: Path, first: bool) -> None:
    """Before the switch: every sink as it was. During it: recovery finishes. In the pruning after it: published."""
    outcomes = set()
    for at in range(1, MANY):
        sinks, middle = three_sinks(tmp_path / str(at))
        if not first:
            for number in (97, 98, 99, 1):
                publish(sinks, key(number), number)
        journal = []
        try:
            with pulled(at, disk_full) as plug, transaction.survey(sinks, key(2), 2).stage() as staged:
                journal = staged.journal
                staged.commit()
        except transaction.CommitInterruptedError:
            recovery = transaction.recover(journal)
            assert recovery.rolled_forward and recovery.left == () and hold(sinks, 2)
            outcomes.add("recovered")
        except SinkError as error:
            assert not os.path.lexists(middle.path) if first else hold(sinks, 1)
            assert "full" in error.problem and "df -h" in error.remedy
            outcomes.add("refused")
        else:
            assert hold(sinks, 2)
            outcomes.add("published")
        transaction.sweep(sinks)
        assert clean(tmp_path / str(at), middle)
        if plug.count < at:
            break
    assert plug.count < at, "a publish has more calls than this test fails"
    assert outcomes == {"recovered", "refused", "published"}


@pytest.mark.parametrize("first", [True, False], ids=["first publish", "later publish"])
def test_a_crash_at_any_step_is_finished_or_undone(tmp_path: Path, first: bool) -> None:
    """Whichever call was the last, pruning included: after recovery and sweep all sinks agree and nothing is left."""
    directions = set()
    for at in range(1, MANY):
        here = tmp_path / str(at)
        sinks, middle = three_sinks(here)
        journal = here / "journal.json"
        if not first:
            for number in (97, 98, 99, 1):
                publish(sinks, key(number), number)

        def crash(at: int = at, sinks: list[Sink] = sinks, journal: Path = journal) -> None:
            with pulled(at, lambda _: os._exit(7)), transaction.survey(sinks, key(2), 2).stage() as staged:
                save_journal(journal, staged.journal)
                staged.commit()

        status = in_child(crash)
        assert {mode for kind, mode in modes(middle) if kind == "file"} <= {"0600"}
        forward = journal.exists()
        directions.add(forward)
        recovery = transaction.recover(load_journal(journal))
        assert recovery.rolled_forward and recovery.left == ()
        transaction.sweep(sinks)
        if forward:
            assert hold(sinks, 2)
        else:
            assert not os.path.lexists(middle.path) if first else hold(sinks, 1)
        assert clean(here, middle)
        again = transaction.recover(load_journal(journal))
        assert (again.rolled_forward, again.touched) == (True, ())
        if status == 0:
            break
    assert status == 0 and directions == {True, False}


@pytest.mark.parametrize("undo", [False, True], ids=["forward", "back"])
def test_a_crash_during_recovery_is_recovered(tmp_path: Path, undo: bool) -> None:
    """Recovery itself may die at any step, whichever way it goes, and the next one ends what it began."""
    for at in range(1, MANY):
        here = tmp_path / str(at)
        sinks, middle = three_sinks(here)
        publish(sinks, key(1), 1)
        staged = transaction.survey(sinks, key(2), 2).stage()
        journal = json.loads(json.dumps(staged.journal))
        if undo:
            Path(journal[0]["directory"], journal[0]["temp"]).unlink()

        def crash(at: int = at, journal: list[dict[str, object]] = journal) -> None:
            with pulled(at, lambda _: os._exit(7)):
                transaction.recover(journal)

        status = in_child(crash)
        staged._switching = True  # the process that staged is dead: nobody takes back, and the locks are free
        staged.abort()
        assert transaction.recover(journal).rolled_forward is not undo
        transaction.sweep(sinks)
        assert hold(sinks, 1 if undo else 2) and clean(here, middle, GENERATIONS if undo else 2)
        if status == 0:
            break
    assert status == 0


def test_a_crash_before_the_journal_is_swept_by_the_staged_link(tmp_path: Path) -> None:
    """What was staged and never switched goes at the next start, and is never taken for an old generation."""
    sinks, middle = three_sinks(tmp_path)
    for number in (1, 2):
        publish(sinks, key(number), number)

    def crash() -> None:
        transaction.survey(sinks, key(3), 3).stage()
        os._exit(7)

    assert in_child(crash) == 7
    assert len(generations(middle)) == 3 and len(beside(middle)) == 3
    assert len(transaction.sweep(sinks)) == 3
    assert [name.partition("-")[0] for name in generations(middle)] == ["000001", "000002"]
    assert hold(sinks, 2) and clean(tmp_path, middle)


def test_sweep_spares_what_is_held_what_is_journalled_and_what_is_foreign(tmp_path: Path) -> None:
    """A living keyturn's directory, one that a journal needs, and links that are not ours stay."""
    (tmp_path / "other").mkdir(mode=0o750)
    middle = directory(tmp_path / "credentials", keep=1)
    publish([middle], key(1), 1)
    foreign = tmp_path / ".credentials.keyturn-0123456789abcdef"
    foreign.symlink_to(".other.keyturn/000001-0123456789abcdef")
    with transaction.survey([middle], key(2), 2).stage() as held:
        assert transaction.sweep([middle]) == []
        held.commit()

    def crash() -> None:
        staged = transaction.survey([middle], key(3), 3).stage()
        save_journal(tmp_path / "journal.json", staged.journal)
        os._exit(7)

    assert in_child(crash) == 7
    journal = load_journal(tmp_path / "journal.json")
    assert transaction.sweep([middle], journal) == [] and len(generations(middle)) == 3
    (tmp_path / journal[0]["temp"]).unlink()  # the mark is lost, as a power cut could have it: the journal counts
    os.utime(store_of(middle) / journal[0]["generation"], (1, 1))  # and it looks like the oldest
    for _ in range(3):
        assert transaction.sweep([middle], journal) == []
    assert transaction.recover(journal).rolled_forward and read(middle) == expected(middle, 3)
    assert foreign.is_symlink()


@pytest.mark.parametrize("lost", ["everything", "the generation", "a file", "bytes of a file", "another file is there"])
def test_what_was_staged_and_is_not_whole_undoes_the_publish(tmp_path: Path, lost: str) -> None:
    """A tmpfs that came back empty, or a hand in the staged directory: no sink is switched."""
    sinks, middle = three_sinks(tmp_path)
    publish(sinks, key(1), 1)
    staged = transaction.survey(sinks, key(2), 2).stage()
    journal = staged.journal
    generation = store_of(middle) / journal[1]["generation"]
    if lost == "everything":
        shutil.rmtree(tmp_path / "run")
        (tmp_path / "run").mkdir(mode=0o750)
    elif lost == "the generation":
        shutil.rmtree(generation)
    elif lost == "a file":
        (generation / "aliyun.env").unlink()
    elif lost == "bytes of a file":
        os.truncate(generation / "aliyun.env", 3)
    else:
        (generation / "evil.env").write_text("A=1\n")
    assert not transaction.recover(journal).rolled_forward
    staged.abort()
    if lost == "everything":
        assert generations(middle) == [] and not os.path.lexists(middle.path)
    else:
        assert hold(sinks, 1)
    assert clean(tmp_path, middle)
    publish(sinks, key(3), 3)
    assert hold(sinks, 3)


def test_a_lost_staged_link_is_made_again(tmp_path: Path) -> None:
    """It was not flushed, and need not be: the journal knows the directory."""
    sinks, middle = three_sinks(tmp_path)
    publish(sinks, key(1), 1)
    staged = transaction.survey(sinks, key(2), 2).stage()
    Path(middle.path).with_name(staged.journal[1]["temp"]).unlink()
    assert transaction.recover(staged.journal).rolled_forward and hold(sinks, 2)
    staged.abort()
    assert clean(tmp_path, middle)


def test_a_link_moved_after_the_crash_is_not_undone(tmp_path: Path) -> None:
    """Somebody put a directory there while keyturn was down: it stays, and the next publish says so."""
    sinks, middle = three_sinks(tmp_path)
    publish(sinks, key(1), 1)
    staged = transaction.survey(sinks, key(2), 2).stage()
    Path(middle.path).unlink()
    Path(middle.path).mkdir()
    assert not transaction.recover(staged.journal).rolled_forward
    staged.abort()
    assert Path(middle.path).is_dir() and leftovers(tmp_path) == []
    with pytest.raises(SinkError, match="it is a directory"):
        publish(sinks, key(3), 3)


def test_once_the_link_was_switched_the_others_follow(tmp_path: Path) -> None:
    """There is no way back from a switched link either: readers have seen it."""
    sinks, middle = three_sinks(tmp_path)
    publish(sinks, key(1), 1)
    staged = transaction.survey(sinks, key(2), 2).stage()
    journal = staged.journal
    Path(middle.path).with_name(journal[1]["temp"]).rename(middle.path)
    Path(journal[2]["directory"], journal[2]["temp"]).unlink()
    assert transaction.recover(journal) == transaction.Recovery(True, (sinks[0].path,), (sinks[2].path,))
    assert read(middle) == expected(middle, 2)
    assert not transaction.withdraw(journal)
    staged.abort()


def test_withdraw_removes_what_was_staged_and_nothing_else(tmp_path: Path) -> None:
    """Given up before any switch: the old generation stays in use, the new one is gone."""
    sinks, middle = three_sinks(tmp_path)
    publish(sinks, key(1), 1)
    staged = transaction.survey(sinks, key(2), 2).stage()
    assert transaction.withdraw(staged.journal) and hold(sinks, 1)
    assert len(generations(middle)) == 1 and clean(tmp_path, middle)
    staged._switching = True
    staged.abort()


def test_a_staged_directory_that_cannot_be_removed_holds_up_no_recovery(tmp_path: Path) -> None:
    """Its owner could make a directory in it: the secrets go, the mark stays for the next sweep, and work goes on."""
    sinks, middle = three_sinks(tmp_path)
    publish(sinks, key(1), 1)
    staged = transaction.survey(sinks, key(2), 2).stage()
    journal = staged.journal
    planted = store_of(middle) / journal[1]["generation"] / "mine"
    planted.mkdir()
    assert not transaction.recover(journal).rolled_forward
    staged.abort()
    (gone,) = (name for name in generations(middle) if name.endswith(".gone"))
    assert os.listdir(store_of(middle) / gone) == ["mine"]
    publish(sinks, key(2), 3)
    (store_of(middle) / gone / "mine").rmdir()
    transaction.sweep(sinks)
    assert hold(sinks, 2) and clean(tmp_path, middle)


def test_what_was_staged_is_durable_before_the_journal(sink_in: Path) -> None:
    """Each file, its directory, the store, and on the first publish the store's name: flushed from the inside out."""
    middle = directory(sink_in)
    flushed: list[str] = []
    real = os.fsync

    def watching(fd: int) -> None:
        flushed.append(os.readlink(f"/proc/self/fd/{fd}").replace(str(sink_in.parent), "").strip("/"))
        real(fd)

    for first in (True, False):
        flushed.clear()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "fsync", watching)
            with transaction.survey([middle], key(1 if first else 2), 1).stage() as staged:
                name = staged.journal[0]["generation"]
                staged.commit()
        inside = f".credentials.keyturn/{name}"
        before = [f"{inside}/aliyun.env", f"{inside}/credential.json", inside, ".credentials.keyturn"]
        assert flushed == [*before, *([""] if first else []), ""]


@pytest.fixture
def sink_in(tmp_path: Path) -> Path:
    """A path for a directory sink."""
    return tmp_path / "credentials"


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a link to another user")
def test_a_staged_link_of_somebody_else_marks_nothing(tmp_path: Path) -> None:
    """Who may write the directory could have a generation removed that readers are in."""
    middle = directory(tmp_path / "credentials")
    for number in (1, 2):
        publish([middle], key(number), number)
    before = generations(middle)
    planted = tmp_path / ".credentials.keyturn-0123456789abcdef"
    planted.symlink_to(f"{store_of(middle).name}/{before[0]}")
    os.lchown(planted, 12345, 12345)
    assert transaction.sweep([middle]) == [] and generations(middle) == before
    os.lchown(planted, 0, 0)
    assert transaction.sweep([middle]) == [str(planted)] and generations(middle) == before[1:]
