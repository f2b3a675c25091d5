"""A file that somebody else may have put at the target's name: its lines go to nobody who could not read them there."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from agent.core.errors import SinkError
from agent.sinks.interface import FileSink
from tests.support.sinks import env, ini, json_file, key, publish

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user")
GROUP, STRANGER = 12, 12345
SECRET = "DB_PASSWORD=hunter2\n"


def directory(public_path: Path, uid: int = 0, gid: int = GROUP, mode: int = 0o770) -> Path:
    """One in which others than root may rename."""
    path = public_path / "etc"
    path.mkdir()
    os.chown(path, uid, gid)
    path.chmod(mode)
    return path


def rename_as_a_stranger(source: Path, target: Path) -> None:
    """A member of the group, who may not read root's file, gives it the target's name."""
    pid = os.fork()
    if pid == 0:
        os.setgroups([])
        os.setgid(GROUP)
        os.setuid(STRANGER)
        readable = os.access(source, os.R_OK)
        os.rename(source, target)
        os._exit(7 if readable else 0)
    assert os.waitpid(pid, 0)[1] == 0


def private(path: Path, text: str = SECRET) -> Path:
    """A file of root's."""
    path.write_text(text)
    path.chmod(0o600)
    return path


WANTED: dict[str, dict[str, Any]] = {
    "a member of the group": {"group": str(GROUP), "mode": 0o640},
    "the owner of the directory": {"owner": str(STRANGER), "group": str(GROUP)},
    "in place": {"group": str(GROUP), "mode": 0o640, "write": "in_place"},
}


@pytest.mark.parametrize("story", WANTED)
def test_a_private_file_that_was_renamed_to_the_target_is_not_opened(public_path: Path, story: str) -> None:
    """Its lines would be copied, as foreign ones, into a file that whoever renamed it may read; it stays as it is."""
    place = directory(public_path, STRANGER if "owner" in story else 0)
    target = place / "web.env"
    rename_as_a_stranger(private(place / "root.env"), target)
    with pytest.raises(SinkError, match=r"web\.env: others can write its directory"):
        publish(
            [env(target, owner="0", **WANTED[story]) if "owner" not in story else env(target, **WANTED[story])], key()
        )
    assert (target.read_text(), target.stat().st_mode & 0o777, target.stat().st_gid) == (SECRET, 0o600, 0)


def test_the_remedy_vouches_for_the_lines(public_path: Path) -> None:
    """A new `group` in a shared directory: the commands of the error, typed as they stand, and it is published."""
    target = private(directory(public_path) / "web server.env")
    sink = env(target, group=str(GROUP), mode=0o640)
    with pytest.raises(SinkError) as caught:
        publish([sink], key())
    command = caught.value.remedy.split("`")[1]
    assert shlex.quote(str(target)) in command
    subprocess.run(["/bin/sh", "-c", command], check=True)
    publish([sink], key())
    assert SECRET in target.read_text() and "LTAI5tKey000001" in target.read_text()


def test_a_file_without_foreign_lines_is_mended_whoever_may_have_put_it_there(public_path: Path) -> None:
    """Nothing of it goes on into the new file: keyturn's own, whose mode somebody changed, and one that is written whole."""
    place = directory(public_path)
    more: dict[str, Any] = {"group": str(GROUP), "mode": 0o640}
    sinks: list[FileSink] = [
        env(place / "a.env", **more),
        ini(place / "a.ini", **more),
        json_file(place / "a.json", **more),
    ]
    publish(sinks, key(1))
    for name in ("a.env", "a.ini"):
        os.chmod(place / name, 0o600)
    private(place / "a.json", '{"password": "hunter2"}')
    publish(sinks, key(1))
    for sink in sinks:
        assert Path(sink.path).stat().st_mode & 0o777 == 0o640
        assert "hunter2" not in Path(sink.path).read_text()


def test_a_first_file_of_the_operators_is_taken_over_in_a_directory_of_roots(public_path: Path) -> None:
    """Nobody else can have put it there: its lines stay, under the owner, group and mode of the config."""
    target = private(directory(public_path, mode=0o750) / "web.env")
    publish([env(target, owner=str(STRANGER), group=str(GROUP), mode=0o640)], key())
    assert SECRET in target.read_text()
    assert (target.stat().st_uid, target.stat().st_gid, target.stat().st_mode & 0o777) == (STRANGER, GROUP, 0o640)


def test_lines_that_the_readers_could_read_already_go_on(public_path: Path) -> None:
    """In a shared directory too: a file that its group, its owner or everybody may read holds nothing back from them."""
    place = directory(public_path)
    for number, (uid, gid, mode) in enumerate([(STRANGER, GROUP, 0o640), (STRANGER, 0, 0o604), (0, GROUP, 0o640)]):
        target = private(place / f"{number}.env")
        os.chown(target, uid, gid)
        target.chmod(mode)
        publish([env(target, owner="0", group=str(GROUP), mode=0o640)], key())
        assert SECRET in target.read_text()
