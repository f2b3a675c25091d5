"""A publish over several files: attributes, refusals, drift, in-place writing."""

from __future__ import annotations

import json
import os
import socket
import stat
from pathlib import Path

import pytest

from agent.core.credential import Credential
from agent.core.errors import EXIT_CONFIG, EXIT_NOT_PERMITTED, SinkError
from agent.core.secret import Secret
from agent.sinks.transaction import transaction
from agent.system import mounts
from tests.support.mounts import bind_mount, with_mounts
from tests.support.sinks import env, ini, json_file, key, leftovers, publish

AS_ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not AS_ROOT, reason="gives files to another user")
needs_user = pytest.mark.skipif(AS_ROOT, reason="root may do everything")


def test_a_publish_writes_every_sink_and_leaves_nothing_else(tmp_path: Path) -> None:
    """All targets hold the value, privately, and no temporary file is left."""
    sinks = [ini(tmp_path / "a.ini"), env(tmp_path / "b.env"), json_file(tmp_path / "c.json")]
    publish(sinks, key(1))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.ini", "b.env", "c.json"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}
    assert transaction.survey(sinks, key(1), 1).in_sync


def test_equal_content_is_not_rewritten(tmp_path: Path) -> None:
    """A second publish of the same value touches no inode."""
    sinks = [ini(tmp_path / "a.ini"), env(tmp_path / "b.env")]
    publish(sinks, key(1))
    before = [os.stat(sink.path) for sink in sinks]
    publish(sinks, key(1), 2)
    assert [os.stat(sink.path) for sink in sinks] == before


def test_only_what_differs_is_staged(tmp_path: Path) -> None:
    """A sink that is in sync is not part of the journal."""
    sinks = [ini(tmp_path / "a.ini"), env(tmp_path / "b.env")]
    publish(sinks, key(1))
    (tmp_path / "b.env").unlink()
    found = transaction.survey(sinks, key(1), 1)
    assert [sink.differs for sink in found.sinks] == ["", "missing"]
    assert found.out_of_sync == (sinks[1].target,)
    with found.stage() as staged:
        assert [entry["target"] for entry in staged.journal] == ["b.env"]


def test_drift_is_named_for_what_it_is(tmp_path: Path) -> None:
    """Foreign content and foreign attributes are told apart, and both are put right."""
    sink = ini(tmp_path / "a.ini")
    publish([sink], key(1))
    path = Path(sink.path)
    path.chmod(0o644)
    assert transaction.survey([sink], key(1), 1).sinks[0].differs == "attributes"
    publish([sink], key(1))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_text(path.read_text().replace("LTAI5tKey000001", "hijacked"))
    assert transaction.survey([sink], key(1), 1).sinks[0].differs == "content"


def test_sinks_that_share_a_file_are_written_as_one(tmp_path: Path) -> None:
    """Two profiles in one file: one staged file, both profiles in it, each in sync by itself."""
    path = tmp_path / "a.ini"
    sinks = [ini(path, profile="a"), ini(path, profile="b")]
    found = transaction.survey(sinks, key(1), 1)
    with found.stage() as staged:
        assert len(staged.journal) == 1
        staged.commit()
    publish([sinks[1]], key(2))
    assert [sink.in_sync for sink in transaction.survey(sinks, key(1), 1).sinks] == [True, False]


def test_sinks_that_share_a_file_must_agree(tmp_path: Path) -> None:
    """Two modes for one file cannot both be."""
    path = tmp_path / "a.ini"
    with pytest.raises(SinkError, match="share this file and differ"):
        transaction.survey([ini(path, profile="a"), ini(path, profile="b", mode=0o640)], key(), 1)


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o400])
def test_the_mode_holds_against_umask_and_an_older_file(tmp_path: Path, mode: int) -> None:
    """The mode is the one asked for, whatever the umask and whatever stood there."""
    path = tmp_path / "a.env"
    path.write_text("A=1\n")
    path.chmod(0o666)
    before = os.umask(0o077 if mode == 0o640 else 0)
    try:
        publish([env(path, mode=mode)], key(1))
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == mode


@needs_root
def test_owner_and_group_are_those_of_the_config(tmp_path: Path) -> None:
    """The file belongs to the dependent; the group defaults to the owner's own."""
    named, numbered = tmp_path / "a.env", tmp_path / "b.env"
    publish([env(named, owner="nobody"), env(numbered, owner="12345", group="54321", mode=0o640)], key(1))
    assert named.owner() == "nobody"
    assert (numbered.stat().st_uid, numbered.stat().st_gid) == (12345, 54321)


@needs_user
def test_giving_a_file_away_without_the_right_changes_nothing(tmp_path: Path) -> None:
    """Without CAP_CHOWN the error says so, exits 77, and every file is as it was."""
    first = env(tmp_path / "a.env")
    with pytest.raises(SinkError, match=r"b\.env") as caught:
        publish([first, env(tmp_path / "b.env", owner="root")], key(1))
    assert caught.value.exit_code == EXIT_NOT_PERMITTED
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("field", ["owner", "group"])
def test_an_unknown_owner_is_a_config_error(tmp_path: Path, field: str) -> None:
    """Exit 78, naming the file and the name."""
    with pytest.raises(SinkError, match=r"a\.env: this machine has no .* 'no-such-one'") as caught:
        publish([env(tmp_path / "a.env", **{field: "no-such-one"})], key(1))
    assert caught.value.exit_code == EXIT_CONFIG


def test_a_symlink_as_the_target_is_refused(tmp_path: Path) -> None:
    """Neither the link nor what it points to is touched."""
    real, link = tmp_path / "real.env", tmp_path / "link.env"
    real.write_text("A=1\n")
    link.symlink_to(real)
    with pytest.raises(SinkError, match=r"link\.env: it is a symbolic link"):
        publish([env(link)], key(1))
    assert real.read_text() == "A=1\n" and link.is_symlink()


def test_a_dangling_symlink_as_the_target_is_refused(tmp_path: Path) -> None:
    """It is not taken for a missing file."""
    (tmp_path / "a.env").symlink_to(tmp_path / "nowhere")
    with pytest.raises(SinkError, match="symbolic link"):
        publish([env(tmp_path / "a.env")], key(1))


@pytest.mark.parametrize("kind", ["FIFO", "directory", "socket"])
def test_what_is_no_regular_file_is_refused_without_waiting(tmp_path: Path, kind: str) -> None:
    """A FIFO without a writer would block a careless reader for ever."""
    path = tmp_path / "a.env"
    if kind == "FIFO":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    else:
        here = os.open(tmp_path, os.O_RDONLY)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"/proc/self/fd/{here}/a.env")  # a socket's path is short, tmp_path is not
        os.close(here)
    with pytest.raises(SinkError, match=rf"a\.env: it is a {kind}, and keyturn writes only regular files"):
        publish([env(path)], key(1))


@pytest.mark.parametrize("mode", [0o777, 0o1777])
def test_a_directory_that_everyone_can_write_is_refused(tmp_path: Path, mode: int) -> None:
    """Sticky or not: anybody could plant the file. The remedy is a command."""
    parent = tmp_path / "open"
    parent.mkdir()
    parent.chmod(mode)
    with pytest.raises(SinkError, match=r"everyone can write this directory.*chmod o-w"):
        publish([env(parent / "a.env")], key(1))
    assert list(parent.iterdir()) == []


def test_a_missing_directory_says_how_to_make_it(tmp_path: Path) -> None:
    """The remedy is the very command, with the owner of the config."""
    with pytest.raises(SinkError) as caught:
        publish([env(tmp_path / "no" / "a.env", owner="root", group="root")], key(1))
    assert caught.value.remedy == f"make it: `install -d -o root -g root -m 0750 {tmp_path}/no`"


@needs_root
def test_a_hard_link_planted_by_the_directorys_owner_is_refused(tmp_path: Path) -> None:
    """Else a root agent would copy /etc/shadow's lines into a file of that owner."""
    home, secret = tmp_path / "home", tmp_path / "shadow"
    home.mkdir(mode=0o750)
    os.chown(home, 12345, 12345)
    secret.write_text("root:hash\n")
    os.link(secret, home / "a.env")
    with pytest.raises(SinkError, match="second name"):
        publish([env(home / "a.env", owner="12345", group="12345")], key(1))
    assert secret.read_text() == "root:hash\n" and secret.stat().st_uid == 0


@needs_root
@pytest.mark.parametrize("owner", [0, 12345])
def test_a_hard_link_planted_by_a_group_that_may_write_the_directory_is_refused(tmp_path: Path, owner: int) -> None:
    """Its members are others than the owner: also where that owner, root or not, owns the linked file."""
    home, secret = tmp_path / "home", tmp_path / "shadow"
    home.mkdir()
    home.chmod(0o770)
    secret.write_text("root:hash\n")
    for path in (home, secret):
        os.chown(path, owner, 54321)
    os.link(secret, home / "a.env")
    with pytest.raises(SinkError, match="second name"):
        publish([env(home / "a.env", owner="12345", group="54321", mode=0o640)], key(1))
    assert secret.read_text() == "root:hash\n" and secret.stat().st_uid == owner


def test_a_file_that_is_too_large_was_named_by_mistake(tmp_path: Path) -> None:
    """Four megabytes are no env file."""
    path = tmp_path / "a.env"
    with path.open("wb") as file:
        file.truncate(5 * 1024 * 1024)
    with pytest.raises(SinkError, match="larger than"):
        publish([env(path)], key(1))


def test_a_target_changed_during_the_publish_stops_it_before_the_first_switch(tmp_path: Path) -> None:
    """Somebody's edit between survey and commit is not lost, and no sink is switched."""
    sinks = [ini(tmp_path / "a.ini"), env(tmp_path / "b.env")]
    publish(sinks, key(1))
    first = Path(sinks[0].path).read_bytes()
    with transaction.survey(sinks, key(2), 2).stage() as staged:
        Path(sinks[1].path).write_text("EDITED=1\n")
        with pytest.raises(transaction.TargetChangedError) as caught:
            staged.commit()
    assert caught.value.retryable
    assert Path(sinks[0].path).read_bytes() == first and Path(sinks[1].path).read_text() == "EDITED=1\n"
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("what", ["removed", "replaced", "appeared"])
def test_other_changes_during_the_publish_stop_it_too(tmp_path: Path, what: str) -> None:
    """A target that vanishes, that is swapped, or that appears is a change."""
    path = tmp_path / "a.env"
    if what != "appeared":
        publish([env(path)], key(1))
    with transaction.survey([env(path)], key(2), 2).stage() as staged:
        path.unlink(missing_ok=True)
        if what != "removed":
            path.write_text("B=1\n")
        with pytest.raises(transaction.TargetChangedError):
            staged.commit()
    assert path.exists() == (what != "removed")


def test_a_directory_swapped_after_the_survey_is_noticed(tmp_path: Path) -> None:
    """What was surveyed in one directory is not written into another."""
    parent = tmp_path / "etc"
    parent.mkdir(mode=0o750)
    found = transaction.survey([env(parent / "a.env")], key(1), 1)
    parent.rename(tmp_path / "gone")
    parent.mkdir(mode=0o750)
    with pytest.raises(transaction.TargetChangedError):
        found.stage()


def test_a_publish_stays_in_its_directory_when_the_path_is_swapped(tmp_path: Path) -> None:
    """After staging, the directory is held: a swap of the path leads nobody astray."""
    parent, trap = tmp_path / "etc", tmp_path / "trap"
    parent.mkdir(mode=0o750)
    trap.mkdir(mode=0o750)
    with transaction.survey([env(parent / "a.env")], key(1), 1).stage() as staged:
        parent.rename(tmp_path / "moved")
        parent.symlink_to(trap)
        staged.commit()
    assert list(trap.iterdir()) == [] and (tmp_path / "moved" / "a.env").exists()


def test_the_journal_holds_no_secret(tmp_path: Path) -> None:
    """It is JSON, and neither the secret nor the key's id is in it."""
    with transaction.survey([ini(tmp_path / "a.ini")], key(7), 1).stage() as staged:
        text = json.dumps(staged.journal)
    assert "secretOf" not in text and "LTAI" not in text


def test_a_survey_does_not_print_content(tmp_path: Path) -> None:
    """A stray log line with a survey in it shows no secret."""
    sinks = [ini(tmp_path / "a.ini")]
    publish(sinks, key(1))
    assert "secretOf" not in repr(transaction.survey(sinks, key(2), 2))


def test_in_place_keeps_the_inode(tmp_path: Path) -> None:
    """A bind-mounted single file sees the new value, shorter or longer than the old one, and nothing behind it."""
    path = tmp_path / "a.env"
    sink = env(path, write="in_place")
    publish([sink], key(1))
    inode = path.stat().st_ino
    for generation, length in enumerate((9000, 20, 40, 1), 2):
        value = Credential(access_key_id=f"LTAI{generation}", access_key_secret=Secret("s" * length))
        publish([sink], value, generation)
        assert path.stat().st_ino == inode
        assert path.read_bytes() == sink.render(None, value, generation)
    assert leftovers(tmp_path) == []


def test_in_place_is_closed_before_the_new_value_is_written(tmp_path: Path) -> None:
    """A file that others could read is closed to them; the value is not there a moment earlier."""
    path = tmp_path / "a.env"
    path.write_text("A=1\n")
    path.chmod(0o644)
    seen: list[int] = []
    real = os.pwrite

    def watching(fd: int, data: bytes, offset: int) -> int:
        seen.append(stat.S_IMODE(os.fstat(fd).st_mode))
        return real(fd, data, offset)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "pwrite", watching)
        publish([env(path, write="in_place")], key(1))
    assert seen and set(seen) == {0o600}


@pytest.mark.parametrize(("way", "sees_new"), [("replace", False), ("in_place", True)])
def test_who_holds_the_file_open_sees_the_new_value_only_in_place(tmp_path: Path, way: str, sees_new: bool) -> None:
    """The limit that docs/limits.md states, and that replacing does not have."""
    path = tmp_path / "a.env"
    publish([env(path, write=way)], key(1))
    with path.open("rb") as held:
        publish([env(path, write=way)], key(2))
        assert (b"secretOf000002" in held.read()) is sees_new


@with_mounts
def test_a_mount_point_is_refused_before_anything_is_staged(tmp_path: Path) -> None:
    """No rename can replace it: every sink is as it was, and the remedy is the way of writing that works."""
    good, path, source = env(tmp_path / "a.env"), tmp_path / "b.env", tmp_path / "source"
    source.write_text("A=1\n")
    path.touch()
    bind_mount(path, source)
    with pytest.raises(SinkError, match=r"b\.env: cannot replace this file: it is a mount point") as caught:
        transaction.survey([good, env(path)], key(1), 1)
    assert caught.value.remedy.startswith('set `write = "in_place"`')
    assert sorted(tmp_path.iterdir()) == [path, source]
    publish([good, env(path, write="in_place")], key(1))
    assert source.read_bytes() == path.read_bytes() and b"secretOf000001" in source.read_bytes()
    assert leftovers(tmp_path) == []


@with_mounts
def test_a_file_in_a_mounted_directory_is_no_mount_point(tmp_path: Path) -> None:
    """The usual volume: its directory is mounted, and its files are replaced as anywhere."""
    (tmp_path / "volume").mkdir(mode=0o750)
    (tmp_path / "here").mkdir()
    bind_mount(tmp_path / "here", tmp_path / "volume")
    for number in (1, 2):
        publish([env(tmp_path / "here" / "a.env")], key(number))
    assert b"secretOf000002" in (tmp_path / "volume" / "a.env").read_bytes()


def test_in_place_does_not_write_through_a_hard_link(tmp_path: Path) -> None:
    """Another name of the inode would change with it: refused before anything is staged."""
    path = tmp_path / "a.env"
    path.write_text("A=1\n")
    os.link(path, tmp_path / "other")
    with pytest.raises(SinkError, match="second name"):
        publish([env(path, write="in_place")], key(1))
    assert path.read_text() == "A=1\n"


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    """A daemon that publishes for years does not run out of them, whatever way a publish ends."""
    sinks = [ini(tmp_path / "a.ini"), env(tmp_path / "b.env", write="in_place")]
    publish(sinks, key(1))
    before = set(os.listdir("/proc/self/fd"))
    for number in range(2, 6):
        publish(sinks, key(number))
        with transaction.survey(sinks, key(99), 99).stage():
            pass
        with pytest.raises(SinkError):
            publish([*sinks, env(tmp_path / "none" / "c.env")], key(98))
    assert set(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(("in_order", "flushed"), [(True, ["a"]), (False, ["a", "b"])])
def test_the_directory_that_was_switched_last_is_flushed_for_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_order: bool, flushed: list[str]
) -> None:
    """Where the file system makes names durable in their order; elsewhere each directory is flushed, as POSIX asks."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    sinks = [ini(tmp_path / "a" / "1.ini"), env(tmp_path / "b" / "2.env"), env(tmp_path / "a" / "3.env")]
    fd = os.open(tmp_path, os.O_RDONLY)
    known = mounts._mounts.type_of(fd, os.fstat(fd).st_dev)
    os.close(fd)
    monkeypatch.setattr(mounts, "NAMES_IN_ORDER", frozenset({known} if in_order else ()))
    calls: list[str] = []
    fsync, rename = os.fsync, os.rename

    def flush(fd: int) -> None:
        calls.append(Path(os.readlink(f"/proc/self/fd/{fd}")).name)
        fsync(fd)

    def switch(*names: str, **where: int) -> None:
        calls.append("switched")
        rename(*names, **where)

    with transaction.survey(sinks, key(1), 1).stage() as staged, monkeypatch.context() as patch:
        patch.setattr(os, "fsync", flush)
        patch.setattr(os, "rename", switch)
        staged.commit()
    assert (calls[:3], sorted(calls[3:])) == (["switched"] * 3, flushed)
