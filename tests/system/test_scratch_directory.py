"""A scratch directory is private, ends with its run, and one that a dead run left ends with the next."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.core.errors import KeyturnError
from agent.system.scratch_directory import scratch_directory
from tests.support.processes import ROOT

PREFIX = "keyturn-test-"
HOLDER = """
from agent.system.scratch_directory import scratch_directory
with scratch_directory("keyturn-test-") as scratch:
    (scratch.path / "file").write_text("x")
    print(scratch.path, flush=True)
    input()
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The temporary directory, of this test alone."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


@pytest.fixture
def other(temporary: Path) -> Iterator[subprocess.Popen[str]]:
    """Another run, in its scratch directory."""
    argv = [sys.executable, "-c", HOLDER]
    with subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def told_by(process: subprocess.Popen[str]) -> Path:
    assert process.stdout is not None
    return Path(process.stdout.readline().strip())


def test_it_is_private_and_ends_with_the_run(temporary: Path) -> None:
    """Mode 0700 whatever the umask, and removed with everything in it, after an error too."""
    before = os.umask(0)
    try:
        with pytest.raises(ZeroDivisionError), scratch_directory(PREFIX) as scratch:
            assert stat.S_IMODE(scratch.path.stat().st_mode) == 0o700
            (scratch.path / "a" / "b").mkdir(parents=True)
            raise ZeroDivisionError
    finally:
        os.umask(before)
    assert list(temporary.iterdir()) == []


def test_what_a_killed_run_left_is_removed_by_the_next(temporary: Path, other: subprocess.Popen[str]) -> None:
    """And nothing of one that lives."""
    left = told_by(other)
    with scratch_directory(PREFIX) as mine:
        assert {left, mine.path} == set(temporary.iterdir())
    assert (left / "file").exists()
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert (left / "file").exists()
    with scratch_directory(PREFIX) as mine:
        assert list(temporary.iterdir()) == [mine.path]


def test_what_has_its_name_only_is_left_alone(temporary: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A file, and a link that somebody put there, with what it leads to."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "precious").write_text("x")
    (temporary / f"{PREFIX}link").symlink_to(elsewhere)
    (temporary / f"{PREFIX}file").write_text("x")
    with scratch_directory(PREFIX):
        pass
    assert sorted(path.name for path in temporary.iterdir()) == [f"{PREFIX}file", f"{PREFIX}link"]
    assert (elsewhere / "precious").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a directory to somebody else")
def test_the_directory_of_another_user_is_left_alone(temporary: Path) -> None:
    """Whether its run lives is theirs to say."""
    theirs = temporary / f"{PREFIX}theirs"
    theirs.mkdir(mode=0o700)
    os.chown(theirs, 65534, 65534)
    with scratch_directory(PREFIX):
        assert theirs.exists()


def test_where_none_can_be_made_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the place."""
    monkeypatch.setattr(tempfile, "tempdir", "/proc/1/nowhere")
    with pytest.raises(KeyturnError, match="/proc/1/nowhere"), scratch_directory(PREFIX):
        pass


def test_whom_a_file_can_be_given_to_is_tried() -> None:
    """Oneself always; somebody else as root alone."""
    with scratch_directory(PREFIX) as scratch:
        assert scratch.can_give(os.geteuid(), os.getegid())
        assert scratch.can_give(65534, 65534) is (os.geteuid() == 0)
        assert list(scratch.path.iterdir()) == []
