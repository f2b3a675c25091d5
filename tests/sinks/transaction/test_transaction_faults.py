"""Every call of a publish fails once, and every step of it is the last one once."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from agent.core.errors import SinkError
from agent.sinks.interface import FileSink
from agent.sinks.transaction import transaction
from tests.support.mounts import bind_mount, unmount, with_mounts
from tests.support.processes import in_child
from tests.support.sinks import (
    disk_full,
    env,
    ini,
    json_file,
    key,
    leftovers,
    load_journal,
    plugged,
    publish,
    save_journal,
)

MANY = 60
"""More than the calls of any publish here; each test says when it ran out of calls to fail."""


def three_sinks(tmp_path: Path, third: str = "replace") -> list[FileSink]:
    """Three files in two directories."""
    (tmp_path / "etc").mkdir(mode=0o750, exist_ok=True)
    (tmp_path / "run").mkdir(mode=0o750, exist_ok=True)
    return [
        ini(tmp_path / "etc" / "a.ini"),
        env(tmp_path / "run" / "b.env"),
        json_file(tmp_path / "etc" / "c.json", write=third),
    ]


def contents(sinks: list[FileSink]) -> list[bytes]:
    return [Path(sink.path).read_bytes() for sink in sinks]


def expected(sinks: list[FileSink], number: int) -> list[bytes]:
    return [sink.render(None, key(number), number) for sink in sinks]


@pytest.mark.parametrize("way", ["replace", "in_place"])
def test_an_error_at_any_call_leaves_old_or_new_and_recovery_decides(tmp_path: Path, way: str) -> None:
    """Before the switch: every file as it was, nothing beside it. During the switch: recovery finishes it."""
    sinks = three_sinks(tmp_path, way)
    for at in range(1, MANY):
        publish(sinks, key(1))
        old = contents(sinks)
        journal = []
        try:
            with plugged(at, disk_full) as plug, transaction.survey(sinks, key(2), 2).stage() as staged:
                journal = staged.journal
                staged.commit()
        except transaction.CommitInterruptedError:
            recovery = transaction.recover(journal)
            assert recovery.rolled_forward and recovery.left == ()
            assert contents(sinks) == expected(sinks, 2)
        except SinkError as error:
            assert contents(sinks) == old
            assert "full" in error.problem and "df -h" in error.remedy
        else:
            assert contents(sinks) == expected(sinks, 2)
        assert leftovers(tmp_path) == []
        if plug.count < at:
            break
    assert plug.count < at, "a publish has more calls than this test fails"


@pytest.mark.parametrize("way", ["replace", "in_place"])
def test_a_crash_at_any_step_is_finished_or_undone(tmp_path: Path, way: str) -> None:
    """Whichever call was the last: after recovery all sinks agree, and nothing is left beside them."""
    sinks = three_sinks(tmp_path, way)
    journal = tmp_path / "journal.json"
    directions = set()
    for at in range(1, MANY):
        publish(sinks, key(1))
        journal.unlink(missing_ok=True)

        def crash(at: int = at) -> None:
            with plugged(at, lambda _: os._exit(7)), transaction.survey(sinks, key(2), 2).stage() as staged:
                save_journal(journal, staged.journal)
                staged.commit()

        status = in_child(crash)
        recovery = transaction.recover(load_journal(journal))
        transaction.sweep(sinks)
        forward = journal.exists()
        directions.add(forward)
        assert recovery.rolled_forward and recovery.left == ()
        assert contents(sinks) == expected(sinks, 2 if forward else 1)
        assert leftovers(tmp_path) == []
        again = transaction.recover(load_journal(journal))
        assert (again.rolled_forward, again.touched) == (True, ())
        if status == 0:
            break
    assert status == 0 and directions == {True, False}


@pytest.mark.parametrize("way", ["replace", "in_place"])
def test_a_crash_during_recovery_is_recovered(tmp_path: Path, way: str) -> None:
    """Recovery itself may die at any step, and the next one ends what it began."""
    sinks = three_sinks(tmp_path, way)
    for at in range(1, MANY):
        publish(sinks, key(1))
        staged = transaction.survey(sinks, key(2), 2).stage()
        journal = staged.journal

        def crash(at: int = at, journal: list[dict[str, object]] = journal) -> None:
            with plugged(at, lambda _: os._exit(7)):
                transaction.recover(journal)

        status = in_child(crash)
        assert transaction.recover(journal).rolled_forward
        assert contents(sinks) == expected(sinks, 2)
        assert leftovers(tmp_path) == []
        staged.abort()
        if status == 0:
            break
    assert status == 0


def test_lost_staged_files_undo_the_publish(tmp_path: Path) -> None:
    """A tmpfs that came back empty: no sink is switched, and the whole staged files go."""
    sinks = three_sinks(tmp_path)
    publish(sinks, key(1))
    staged = transaction.survey(sinks, key(2), 2).stage()
    journal = staged.journal
    Path(journal[1]["directory"], journal[1]["temp"]).unlink()
    recovery = transaction.recover(journal)
    assert not recovery.rolled_forward and set(recovery.touched) == {sinks[0].path, sinks[2].path}
    assert contents(sinks) == expected(sinks, 1) and leftovers(tmp_path) == []
    assert not transaction.recover(journal).rolled_forward
    staged.abort()


def test_a_damaged_staged_file_is_never_switched(tmp_path: Path) -> None:
    """A staged file that lost bytes is not whole: undone."""
    sink = env(tmp_path / "a.env")
    publish([sink], key(1))
    staged = transaction.survey([sink], key(2), 2).stage()
    journal = staged.journal
    os.truncate(Path(journal[0]["directory"], journal[0]["temp"]), 3)
    assert not transaction.recover(journal).rolled_forward
    assert contents([sink]) == expected([sink], 1) and leftovers(tmp_path) == []
    staged.abort()


def test_a_vanished_directory_undoes_the_publish(tmp_path: Path) -> None:
    """/run is empty after a reboot, its directories included."""
    sinks = three_sinks(tmp_path)
    publish(sinks, key(1))
    staged = transaction.survey(sinks, key(2), 2).stage()
    journal = staged.journal
    (tmp_path / "run").rename(tmp_path / "gone")
    assert not transaction.recover(journal).rolled_forward
    assert contents([sinks[0], sinks[2]]) == expected([sinks[0], sinks[2]], 1)
    staged.abort()


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EACCES, errno.EIO])
def test_a_directory_that_cannot_be_reached_just_now_undoes_nothing(tmp_path: Path, number: int) -> None:
    """Too many open files, no right, a failing disk: an error, and tried again later; only what is missing is gone."""
    sinks = three_sinks(tmp_path)
    publish(sinks, key(1))
    staged = transaction.survey(sinks, key(2), 2).stage()
    journal = staged.journal
    real = os.open

    def failing(name: object, *args: object, **kwargs: object) -> int:
        if name == "run":
            raise OSError(number, os.strerror(number))
        return real(name, *args, **kwargs)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch, pytest.raises(SinkError, match="cannot open this directory"):
        patch.setattr(os, "open", failing)
        transaction.recover(journal)
    assert contents(sinks) == expected(sinks, 1) and len(leftovers(tmp_path)) == 3
    assert transaction.recover(journal).rolled_forward
    assert contents(sinks) == expected(sinks, 2) and leftovers(tmp_path) == []
    staged.abort()


def test_once_a_sink_was_switched_the_others_follow_as_far_as_they_can(tmp_path: Path) -> None:
    """There is no way back from a switched file: what is whole is finished, the rest is named."""
    sinks = three_sinks(tmp_path)
    publish(sinks, key(1))
    staged = transaction.survey(sinks, key(2), 2).stage()
    journal = staged.journal
    temps = [Path(entry["directory"], entry["temp"]) for entry in journal]
    temps[0].rename(sinks[0].path)
    temps[1].unlink()
    recovery = transaction.recover(journal)
    assert recovery == transaction.Recovery(True, (sinks[2].path,), (sinks[1].path,))
    assert contents(sinks) == [expected(sinks, 2)[0], expected(sinks, 1)[1], expected(sinks, 2)[2]]
    staged.abort()


@pytest.mark.parametrize("looks_untouched", [False, True])
def test_a_half_written_file_in_place_is_never_left_so(tmp_path: Path, looks_untouched: bool) -> None:
    """It cannot be undone, so the publish goes forward, even where another staged file was lost.

    After a power cut its size and time may be those of before, and only some pages new.
    """
    sinks = three_sinks(tmp_path, "in_place")
    publish(sinks, key(1))
    staged = transaction.survey(sinks, key(2), 2).stage()
    journal, half = staged.journal, Path(sinks[2].path)
    before = half.stat()
    with half.open("r+b") as file:
        file.write(expected(sinks, 2)[2][:40])
    if looks_untouched:
        os.utime(half, ns=(before.st_mtime_ns, before.st_mtime_ns))
    assert half.stat().st_size == before.st_size
    Path(journal[1]["directory"], journal[1]["temp"]).unlink()
    recovery = transaction.recover(journal)
    assert (recovery.rolled_forward, recovery.left) == (True, (sinks[1].path,))
    assert contents(sinks) == [expected(sinks, 2)[0], expected(sinks, 1)[1], expected(sinks, 2)[2]]
    staged.abort()


def test_an_edit_after_the_crash_is_not_undone(tmp_path: Path) -> None:
    """Somebody's lines, written while keyturn was down, survive; the next pass publishes anew."""
    sinks = three_sinks(tmp_path)
    publish(sinks, key(1))
    staged = transaction.survey(sinks, key(2), 2).stage()
    journal = staged.journal
    Path(sinks[1].path).write_text("EDITED=1\n")
    assert not transaction.recover(journal).rolled_forward
    assert Path(sinks[1].path).read_text() == "EDITED=1\n"
    assert contents(sinks)[0] == expected(sinks, 1)[0]
    staged.abort()


def test_an_aborted_publish_is_not_taken_for_a_finished_one(tmp_path: Path) -> None:
    """In place, old and new are often of one size: recovery must not guess from that."""
    sink = env(tmp_path / "a.env", write="in_place")
    publish([sink], key(1))
    with transaction.survey([sink], key(2), 2).stage() as staged:
        journal = staged.journal
    assert not transaction.recover(journal).rolled_forward
    assert contents([sink]) == expected([sink], 1)


def test_sweep_spares_what_is_held_and_what_is_foreign(tmp_path: Path) -> None:
    """A staged file of a living keyturn stays; so does a file that only looks a little like ours."""
    sink = env(tmp_path / "a.env")
    crashed = tmp_path / ".a.env.keyturn-0123456789abcdef"
    crashed.write_text("secret")
    foreign = tmp_path / ".a.env.keyturn-notes"
    foreign.write_text("mine")
    journalled = tmp_path / ".b.env.keyturn-0123456789abcdef"
    journalled.write_text("secret")
    with transaction.survey([sink], key(1), 1).stage() as staged:
        assert transaction.sweep([sink], [{"temp": journalled.name}]) == [str(crashed)]
        staged.commit()
    assert sorted(path.name for path in tmp_path.iterdir()) == [foreign.name, journalled.name, "a.env"]


def test_an_empty_journal_is_nothing_to_do() -> None:
    """No publish was under way."""
    assert transaction.recover([]) == transaction.Recovery(True)


@pytest.mark.parametrize("way", ["replace", "in_place"])
def test_withdraw_gives_up_what_was_not_switched_and_nothing_else(tmp_path: Path, way: str) -> None:
    """Whichever call of the switch fails: all is as before with nothing beside it, or all is left to recovery."""
    sinks = three_sinks(tmp_path, way)
    answers = []
    for at in range(1, MANY):
        publish(sinks, key(1))
        old = contents(sinks)
        staged = transaction.survey(sinks, key(2), 2).stage()
        journal = staged.journal
        try:
            with plugged(at, disk_full):
                staged.commit()
        except transaction.CommitInterruptedError:
            answers.append(transaction.withdraw(journal))
            assert answers[-1] is (contents(sinks) == old)
            if not answers[-1]:
                assert transaction.recover(journal).left == ()
                assert contents(sinks) == expected(sinks, 2)
        else:
            break
        finally:
            staged.abort()
        assert leftovers(tmp_path) == []
    assert not transaction.withdraw(journal) and contents(sinks) == expected(sinks, 2)
    assert set(answers) == {True, False}


def test_withdraw_does_not_guess(tmp_path: Path) -> None:
    """Where a target cannot be looked at, or changed with its staged file gone, nothing is touched."""
    sinks = three_sinks(tmp_path)
    publish(sinks, key(1))
    staged = transaction.survey(sinks, key(2), 2).stage()
    journal = staged.journal
    (tmp_path / "run").rename(tmp_path / "gone")
    assert not transaction.withdraw(journal) and len(leftovers(tmp_path)) == 3
    (tmp_path / "gone").rename(tmp_path / "run")
    temp = Path(journal[1]["directory"], journal[1]["temp"])
    temp.unlink()
    before = Path(sinks[1].path).read_text()
    Path(sinks[1].path).write_text("A=1\n" + before)
    assert not transaction.withdraw(journal) and len(leftovers(tmp_path)) == 2
    assert transaction.withdraw([journal[0], journal[2]]) and leftovers(tmp_path) == []
    staged.abort()


@with_mounts
def test_withdraw_ends_a_publish_that_no_recovery_can_finish(tmp_path: Path) -> None:
    """A mount put over a target in the middle: switch and recovery fail, and only the first target can be given up."""
    sinks = [env(tmp_path / "a.env"), env(tmp_path / "b.env")]
    for mounted, answer in ((1, False), (0, True)):
        publish(sinks, key(1))
        with transaction.survey(sinks, key(2), 2).stage() as staged:
            journal = staged.journal
            bind_mount(Path(sinks[mounted].path), Path(sinks[mounted].path))
            with pytest.raises(transaction.CommitInterruptedError, match="mount point"):
                staged.commit()
        with pytest.raises(SinkError, match="mount point"):
            transaction.recover(journal)
        assert transaction.withdraw(journal) is answer
        unmount(Path(sinks[mounted].path))
        assert transaction.recover(journal).rolled_forward is not answer
        assert contents(sinks) == expected(sinks, 1 if answer else 2)
        assert leftovers(tmp_path) == []
