"""What `check` says of a sink before anything is written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.sinks.check import inspect
from tests.support.mounts import bind_mount, with_mounts
from tests.support.sinks import env, ini, session


def test_a_good_place_is_ok_and_nothing_is_written(tmp_path: Path) -> None:
    """`check` writes nothing."""
    (finding,) = inspect(env(tmp_path / "a.env"))
    assert finding.level == "ok" and list(tmp_path.iterdir()) == []


def test_a_directory_that_a_group_may_write_is_a_warning(tmp_path: Path) -> None:
    """Not refused, since such groups are often meant, but said."""
    tmp_path.chmod(0o770)
    (finding,) = inspect(env(tmp_path / "a.env"))
    assert finding.level == "warning" and "group" in finding.text and "chmod g-w" in finding.remedy


def test_a_refusal_is_an_error_with_its_remedy(tmp_path: Path) -> None:
    """What a publish would refuse, `check` reports."""
    (finding,) = inspect(env(tmp_path / "none" / "a.env"))
    assert finding.level == "error" and finding.remedy.startswith("make it: `install -d")


def test_a_session_for_the_python_sdk_is_a_warning_only_when_there_is_one(tmp_path: Path) -> None:
    """The kind of value decides whether the format suits its readers."""
    sink = ini(tmp_path / "a.ini")
    assert [finding.level for finding in inspect(sink)] == ["ok"]
    assert [finding.level for finding in inspect(sink, session())] == ["warning"]


def test_in_place_is_a_warning(tmp_path: Path) -> None:
    """It trades away what everything else here is for."""
    (finding,) = inspect(env(tmp_path / "a.env", write="in_place"))
    assert finding.level == "warning" and "half written" in finding.text


@with_mounts
def test_a_mount_point_is_an_error_unless_written_in_place(tmp_path: Path) -> None:
    """`check` says beforehand what the switch would say at the worst moment."""
    path = tmp_path / "a.env"
    path.touch()
    bind_mount(path, path)
    (finding,) = inspect(env(path))
    assert finding.level == "error" and "mount point" in finding.text
    assert 'write = "in_place"' in finding.remedy
    assert [finding.level for finding in inspect(env(path, write="in_place"))] == ["warning"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may do everything")
def test_a_missing_right_is_an_error(tmp_path: Path) -> None:
    """A directory that we may not write, and an owner that we may not give files to."""
    sink = env(tmp_path / "a.env", owner="root")
    tmp_path.chmod(0o500)
    try:
        texts = [finding.text for finding in inspect(sink) if finding.level == "error"]
    finally:
        tmp_path.chmod(0o700)
    assert len(texts) == 2 and "create files" in texts[0] and "give a file to root" in texts[1]
