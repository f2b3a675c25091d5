"""What is known of the file systems below directories, and which of them need a flush."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.system import mounts


@dataclass(frozen=True)
class Open:
    """A directory that is held open."""

    fd: int
    name: str


@pytest.fixture
def three(tmp_path: Path) -> Iterator[list[Open]]:
    with ExitStack() as opened:
        found = []
        for name in ("a", "b", "c"):
            (tmp_path / name).mkdir()
            fd = os.open(tmp_path / name, os.O_RDONLY)
            opened.callback(os.close, fd)
            found.append(Open(fd, name))
        yield found


def test_one_flush_is_enough_where_names_are_durable_in_their_order(
    three: list[Open], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is that of the newest name; where names have no order, or nothing is known, each directory has its own."""
    kind = mounts._mounts.type_of(three[0].fd, os.fstat(three[0].fd).st_dev)
    newest_first = [three[1], three[0], three[1], three[2]]
    for in_order, flushed in (({kind}, ["b"]), (set(), ["b", "a", "c"])):
        monkeypatch.setattr(mounts, "NAMES_IN_ORDER", frozenset(in_order))
        assert [one.name for one in mounts.enough(newest_first)] == flushed


def test_file_systems_are_flushed_each_for_itself(three: list[Open], monkeypatch: pytest.MonkeyPatch) -> None:
    """The order of names ends with the file system: what the newest flush covers is on its own device."""
    elsewhere = os.open("/proc/self/fdinfo", os.O_RDONLY)
    try:
        kinds = {mounts._mounts.type_of(fd, os.fstat(fd).st_dev) for fd in (elsewhere, three[0].fd)}
        monkeypatch.setattr(mounts, "NAMES_IN_ORDER", frozenset(kinds))
        found = mounts.enough([three[0], Open(elsewhere, "proc"), three[1]])
        assert [one.name for one in found] == ["a", "proc"]
    finally:
        os.close(elsewhere)


def test_a_device_that_is_in_no_table_is_known_by_its_mount(three: list[Open]) -> None:
    """A btrfs gives each subvolume a number of its own, which mountinfo does not have."""
    known = mounts._mounts.type_of(three[0].fd, os.fstat(three[0].fd).st_dev)
    assert known is not None
    assert mounts._mounts.type_of(three[0].fd, -1) == known
