"""agent/system/reserved_file.py: what is written later was seen to be writable before, and never goes through a link."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.core.errors import KeyturnError
from agent.system.reserved_file import ReservedFile


def test_it_is_written_whole_for_its_user_alone_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    """Nothing stands there before, 0600 afterwards whatever the umask, and again over what it wrote."""
    file = ReservedFile(str(tmp_path / "a.md"))
    assert list(tmp_path.iterdir()) == []
    file.write(b"one")
    file.write(b"two")
    file.close()
    assert (tmp_path / "a.md").read_bytes() == b"two"
    assert (tmp_path / "a.md").stat().st_mode & 0o777 == 0o600
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("kind", ["link", "dangling", "directory", "fifo"])
def test_what_is_no_regular_file_is_refused_beforehand(tmp_path: Path, kind: str) -> None:
    """A link leads elsewhere, and a device or a directory would be lost: neither is written nor replaced."""
    target, place = tmp_path / "target", tmp_path / "a.md"
    if kind == "directory":
        place.mkdir()
    elif kind == "fifo":
        os.mkfifo(place)
    else:
        if kind == "link":
            target.write_text("precious")
        place.symlink_to(target)
    with pytest.raises(KeyturnError, match=str(place)):
        ReservedFile(str(place))
    assert place.is_symlink() or place.is_dir() or place.is_fifo()
    assert kind != "link" or target.read_text() == "precious"


def test_a_link_that_is_put_there_meanwhile_is_refused_too(tmp_path: Path) -> None:
    """What was seen at the beginning is looked at again."""
    file = ReservedFile(str(tmp_path / "a.md"))
    (tmp_path / "target").write_text("precious")
    (tmp_path / "a.md").symlink_to(tmp_path / "target")
    with pytest.raises(KeyturnError):
        file.write(b"lost")
    file.close()
    assert (tmp_path / "target").read_text() == "precious"


def test_the_directory_that_was_seen_is_the_one_that_is_written(tmp_path: Path) -> None:
    """Somebody who renames it meanwhile does not lead the file elsewhere."""
    (tmp_path / "here").mkdir()
    (tmp_path / "elsewhere").mkdir()
    file = ReservedFile(str(tmp_path / "here" / "a.md"))
    (tmp_path / "here").rename(tmp_path / "there")
    (tmp_path / "here").symlink_to(tmp_path / "elsewhere")
    file.write(b"x")
    file.close()
    assert (tmp_path / "there" / "a.md").exists()
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("path", ["missing/a.md", "file/a.md", "", "a.md/", "."])
def test_a_place_where_nothing_can_be_written_is_said(
    tmp_path: Path, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory that is not there, a file in its place, no name at all."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(KeyturnError):
        ReservedFile(path)
