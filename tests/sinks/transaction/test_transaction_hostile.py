"""What somebody else does to a target at the worst moment, and what a reader can see at every step of a publish."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from agent.core.errors import SinkError
from agent.sinks.transaction import transaction
from tests.support.sinks import disk_full, env, ini, key, leftovers, plugged, publish


def test_a_link_that_takes_the_targets_name_between_check_and_rename_is_not_followed(tmp_path: Path) -> None:
    """The last look was a moment ago: the rename takes the link's place, and what it led to is untouched."""
    path, victim = tmp_path / "a.env", tmp_path / "victim"
    victim.write_text("mine\n")
    publish([env(path)], key(1))

    def swap(name: str) -> None:
        assert name == "rename"
        path.unlink()
        path.symlink_to(victim)

    with transaction.survey([env(path)], key(2), 2).stage() as staged, plugged(1, swap):
        staged.commit()
    assert victim.read_text() == "mine\n" and not path.is_symlink()
    assert path.read_bytes() == env(path).render(None, key(2), 2) and stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_directory_that_takes_the_targets_name_between_check_and_rename_stops_the_switch(tmp_path: Path) -> None:
    """Nothing is written into it; recovery takes the publish back, and the next one says what is in the way."""
    path = tmp_path / "a.env"
    with transaction.survey([env(path)], key(1), 1).stage() as staged:
        journal = staged.journal
        with plugged(1, lambda _: path.mkdir()), pytest.raises(transaction.CommitInterruptedError):
            staged.commit()
    assert not transaction.recover(journal).rolled_forward
    assert list(path.iterdir()) == [] and leftovers(tmp_path) == []
    with pytest.raises(SinkError, match=r"a\.env: it is a directory"):
        publish([env(path)], key(1))


@pytest.mark.parametrize("kind", ["a hard link", "a symbolic link", "another file"])
def test_what_takes_the_targets_name_between_check_and_write_in_place_is_not_written(tmp_path: Path, kind: str) -> None:
    """In place there is an inode that was checked, and no other one is ever written."""
    path, victim = tmp_path / "a.env", tmp_path / "victim"
    victim.write_text("mine\n")
    publish([env(path)], key(1))
    real = os.open

    def swapping(name: object, flags: int, *args: object, **kwargs: object) -> int:
        if name == "a.env" and flags & os.O_WRONLY:
            if kind == "another file":  # made before the first goes: ext4 would give it the inode number otherwise
                (tmp_path / "other").write_text("mine\n")
                (tmp_path / "other").rename(path)
            else:
                path.unlink()
                os.link(victim, path) if kind == "a hard link" else path.symlink_to(victim)
        return real(name, flags, *args, **kwargs)  # type: ignore[arg-type]

    with transaction.survey([env(path, write="in_place")], key(2), 2).stage() as staged:
        journal = staged.journal
        with pytest.MonkeyPatch.context() as patch, pytest.raises(transaction.CommitInterruptedError):
            patch.setattr(os, "open", swapping)
            staged.commit()
    assert victim.read_text() == "mine\n" and path.read_text() == "mine\n"
    assert not transaction.recover(journal).rolled_forward and leftovers(tmp_path) == []


@pytest.mark.parametrize("how", ["another file", "removed"])
def test_a_staged_file_that_is_not_the_one_that_was_staged_is_not_switched(tmp_path: Path, how: str) -> None:
    """Who may write the directory can give its name to another file: that one does not become the target."""
    sinks = [env(tmp_path / "a.env"), env(tmp_path / "b.env")]
    publish(sinks, key(1))
    with transaction.survey(sinks, key(2), 2).stage() as staged:
        temp = tmp_path / str(staged.journal[1]["temp"])
        temp.unlink()
        if how == "another file":
            temp.write_text("evil\n")
        with pytest.raises(SinkError, match=r"b\.env: somebody replaced the staged file beside it"):
            staged.commit()
    for sink in sinks:
        assert Path(sink.path).read_bytes() == sink.render(None, key(1), 1)


def interrupted_in_place(path: Path) -> tuple[bytes, list[dict[str, Any]]]:
    """A publish in place that stopped before its write: the content of before, and the journal."""
    publish([env(path)], key(1))
    with transaction.survey([env(path, write="in_place")], key(2), 2).stage() as staged:
        with plugged(1, disk_full), pytest.raises(transaction.CommitInterruptedError):
            staged.commit()
        return path.read_bytes(), staged.journal


def test_a_hard_link_that_is_made_after_a_crash_is_not_written_through(tmp_path: Path) -> None:
    """In place, recovery knows the target by its inode, which has a second name now: refused, and it stays as it was."""
    path, other = tmp_path / "a.env", tmp_path / "other"
    before, journal = interrupted_in_place(path)
    os.link(path, other)
    with pytest.raises(SinkError, match="put another file in its place"):
        transaction.recover(journal)
    assert other.read_bytes() == before
    other.unlink()
    assert transaction.recover(journal).rolled_forward
    assert path.read_bytes() == env(path).render(None, key(2), 2) and leftovers(tmp_path) == []


def test_a_staged_file_that_is_swapped_after_recovery_looked_is_not_copied(tmp_path: Path) -> None:
    """The owner of the directory gives its name to another file: that one's lines do not get into the target."""
    path, victim = tmp_path / "a.env", tmp_path / "victim"
    victim.write_text("root:$6$secret\n")
    before, journal = interrupted_in_place(path)
    real = os.open
    temp = tmp_path / str(journal[0]["temp"])

    def swapping(name: object, *args: object, **kwargs: object) -> int:
        if name == temp.name:
            os.rename(victim, temp)
        return real(name, *args, **kwargs)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch, pytest.raises(SinkError, match="put another file in its place"):
        patch.setattr(os, "open", swapping)
        transaction.recover(journal)
    assert path.read_bytes() == before
    assert not transaction.recover(journal).rolled_forward and leftovers(tmp_path) == []


def test_a_missing_directory_that_appears_later_is_published_to(tmp_path: Path) -> None:
    """/run/app comes with its unit: until then an error with a remedy and nothing written, after that a publish."""
    sinks = [ini(tmp_path / "etc.ini"), env(tmp_path / "run" / "a.env")]
    for _ in range(2):
        with pytest.raises(SinkError, match="this directory is missing"):
            publish(sinks, key(1))
        assert list(tmp_path.iterdir()) == []
    (tmp_path / "run").mkdir(mode=0o750)
    publish(sinks, key(1))
    assert transaction.survey(sinks, key(1), 1).in_sync


def test_a_directory_that_goes_away_while_staging_leaves_the_others_as_they_were(tmp_path: Path) -> None:
    """The survey saw it, the staging does not find it: nothing is left beside the sinks that were staged before."""
    (tmp_path / "run").mkdir(mode=0o750)
    sinks = [ini(tmp_path / "etc.ini"), env(tmp_path / "run" / "a.env")]
    found = transaction.survey(sinks, key(1), 1)
    (tmp_path / "run").rmdir()
    with pytest.raises(SinkError, match="this directory is missing"):
        found.stage()
    assert list(tmp_path.iterdir()) == []


def test_no_file_has_content_before_its_owner_and_mode(tmp_path: Path) -> None:
    """An inotify watcher wins nothing: at each step whatever has content has its final owner and mode."""
    owner = {"owner": "12345", "group": "54321"} if os.geteuid() == 0 else {}
    sinks = [env(tmp_path / "a.env", mode=0o640, **owner), ini(tmp_path / "b.ini", mode=0o640, **owner)]
    publish(sinks, key(1))
    looks = 0

    def look(_: str) -> None:
        nonlocal looks
        for path in tmp_path.iterdir():
            found = path.stat()
            assert not found.st_mode & 0o037
            if found.st_size:
                looks += 1
                assert stat.S_IMODE(found.st_mode) == 0o640
                assert not owner or (found.st_uid, found.st_gid) == (12345, 54321)

    for at in range(1, 60):
        with plugged(at, look) as plug:
            publish(sinks, key(at + 1))
        if plug.count < at:
            break
    assert plug.count < at and looks > at


def test_in_place_never_shows_an_empty_file(tmp_path: Path) -> None:
    """One write over the old content and then a cut: at no step is there nothing to read."""
    path = tmp_path / "a.env"
    sink = env(path, write="in_place")
    publish([sink], key(1))
    sizes: set[int] = set()
    for at in range(1, 60):
        path.write_text("LONG=" + "x" * (100 * at) + "\n" + path.read_text().rpartition("LONG")[2].partition("\n")[2])
        with plugged(at, lambda _: sizes.add(path.stat().st_size)) as plug:
            publish([sink], key(at + 1))
        if plug.count < at:
            break
    assert plug.count < at and len(sizes) > 5 and 0 not in sizes


def test_a_file_with_the_inode_number_of_the_checked_one_is_not_written(tmp_path: Path) -> None:
    """ext4 gives the number of a removed file to the next one made: the switch looks at more than that."""
    path = tmp_path / "a.env"
    publish([env(path)], key(1))
    real = os.fstat

    def swapping(fd: int) -> os.stat_result:
        found = real(fd)
        if os.readlink(f"/proc/self/fd/{fd}") == str(path):
            return os.stat_result((*found[:8], found.st_mtime - 1, *found[9:]))  # as another file with that number
        return found

    staged = transaction.survey([env(path, write="in_place")], key(2), 2).stage()
    with pytest.MonkeyPatch.context() as patch, pytest.raises(transaction.CommitInterruptedError, match="another"):
        patch.setattr(os, "fstat", swapping)
        staged.commit()
    staged.abort()
    assert path.read_bytes() == env(path).render(None, key(1), 1)
