"""Directories: what is trusted, and what is refused on the way."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.core.errors import EXIT_NOT_PERMITTED
from agent.system.trusted_directory import PathRefusedError, open_directory, reopen_directory

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user")
needs_user = pytest.mark.skipif(os.geteuid() == 0, reason="root may enter every directory")


def test_a_checked_directory_stays_the_same_one(tmp_path: Path) -> None:
    """Held open, it does not follow its name."""
    (tmp_path / "a").mkdir()
    with open_directory(str(tmp_path / "a")) as directory:
        (tmp_path / "a").rename(tmp_path / "b")
        (tmp_path / "b" / "file").write_text("x")
        assert directory.stat("file") is not None


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o703])
def test_a_directory_that_everyone_can_write_is_refused(tmp_path: Path, mode: int) -> None:
    """Sticky or not."""
    tmp_path.chmod(mode)
    with pytest.raises(PathRefusedError, match="everyone can write this directory"):
        open_directory(str(tmp_path))


def test_an_ancestor_that_everyone_can_write_is_refused_unless_sticky(tmp_path: Path) -> None:
    """/tmp is fine; the same without its sticky bit is not."""
    below = tmp_path / "open" / "private"
    below.mkdir(parents=True)
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(PathRefusedError, match="everyone can write a directory above it"):
        open_directory(str(below))
    (tmp_path / "open").chmod(0o1777)
    open_directory(str(below)).close()


def test_links_of_root_and_our_own_are_followed(tmp_path: Path) -> None:
    """Absolute, relative, with `..`, and one behind another: like /var/run."""
    (tmp_path / "real" / "sub").mkdir(parents=True)
    (tmp_path / "absolute").symlink_to(tmp_path / "real")
    (tmp_path / "relative").symlink_to("real/../absolute")
    with open_directory(str(tmp_path / "relative" / "sub")) as directory:
        found = (tmp_path / "real" / "sub").stat()
        assert directory.identity == (found.st_dev, found.st_ino)


@needs_root
def test_a_link_of_somebody_else_is_refused(tmp_path: Path) -> None:
    """Its owner would decide where root writes."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    os.chown(tmp_path / "link", 12345, 12345, follow_symlinks=False)
    with pytest.raises(PathRefusedError, match="uid 12345 owns a symbolic link on the way"):
        open_directory(str(tmp_path / "link"))


def test_a_loop_of_links_ends(tmp_path: Path) -> None:
    """As the kernel ends it."""
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(PathRefusedError, match="too many symbolic links"):
        open_directory(str(tmp_path / "a"))


def test_a_missing_directory_says_how_to_make_it(tmp_path: Path) -> None:
    """The remedy is the very command."""
    with pytest.raises(PathRefusedError) as caught:
        open_directory(str(tmp_path / "no"), lambda: "install -d -o app -m 0750")
    assert caught.value.remedy == f"make it: `install -d -o app -m 0750 {tmp_path}/no`"


@pytest.mark.parametrize("path", ["file", "file/below"])
def test_a_file_is_no_directory(tmp_path: Path, path: str) -> None:
    """Neither at the end nor on the way."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(PathRefusedError, match="not a directory"):
        open_directory(str(tmp_path / path))


@needs_user
def test_a_directory_that_may_not_be_entered_exits_77(tmp_path: Path) -> None:
    """Not permitted is told from missing."""
    (tmp_path / "closed" / "below").mkdir(parents=True)
    (tmp_path / "closed").chmod(0)
    try:
        with pytest.raises(PathRefusedError) as caught:
            open_directory(str(tmp_path / "closed" / "below"))
    finally:
        (tmp_path / "closed").chmod(0o700)
    assert caught.value.exit_code == EXIT_NOT_PERMITTED


def test_refusals_leave_no_descriptor_open(tmp_path: Path) -> None:
    """Whichever way the walk ends."""
    before = set(os.listdir("/proc/self/fd"))
    (tmp_path / "a").symlink_to("a")
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    for name in ("a", "no", "open", "open/below", "a/b"):
        with pytest.raises(PathRefusedError):
            open_directory(str(tmp_path / name))
    open_directory(str(tmp_path)).close()
    assert set(os.listdir("/proc/self/fd")) == before


def test_a_directory_is_reopened_only_as_the_one_that_was_walked_to(tmp_path: Path) -> None:
    """Another directory in its place, or one that everyone can write meanwhile, is not taken for it."""
    path = tmp_path / "app"
    path.mkdir()
    with open_directory(str(path)) as walked:
        again = reopen_directory(str(path), walked.identity)
        assert again is not None and again.identity == walked.identity
        again.close()
        path.chmod(0o777)
        assert reopen_directory(str(path), walked.identity) is None
        path.rename(tmp_path / "away")
        assert reopen_directory(str(path), walked.identity) is None
        path.mkdir()
        assert reopen_directory(str(path), walked.identity) is None
