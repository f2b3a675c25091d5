"""The two-slot record: the newest whole one is found, whatever happened to the other."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.system.two_slot_file import SLOT_BYTES, SlotFile, read_slots

LIMIT = 1 << 20


def test_a_record_is_there_after_reopening(tmp_path: Path) -> None:
    """Every write is the newest one, for a new process and for a reader."""
    path = tmp_path / "a.slots"
    slots = SlotFile(path)
    assert read_slots(path, LIMIT) is None
    for number in range(5):
        slots.write(b"record %d" % number)
        assert read_slots(path, LIMIT) == b"record %d" % number
    assert path.stat().st_mode & 0o777 == 0o600


def test_writes_after_the_first_keep_the_inode_and_the_size(tmp_path: Path) -> None:
    """That is why they are cheap: no name and no metadata to make durable."""
    slots = SlotFile(tmp_path / "a")
    slots.write(b"x")
    before = (tmp_path / "a").stat()
    slots.write(b"y" * 5000)
    after = (tmp_path / "a").stat()
    assert (after.st_ino, after.st_size, after.st_blocks) == (before.st_ino, before.st_size, before.st_blocks)


@pytest.mark.parametrize("size", [SLOT_BYTES - 200, SLOT_BYTES, 5 * SLOT_BYTES, 0])
def test_a_record_that_outgrows_its_slot_moves_to_a_larger_file(tmp_path: Path, size: int) -> None:
    """Whole before, whole after, and smaller ones still fit."""
    slots = SlotFile(tmp_path / "a")
    for payload in (b"small", b"x" * size, b"y" * size, b"small again"):
        slots.write(payload)
        assert read_slots(tmp_path / "a", LIMIT) == payload


@pytest.mark.parametrize("size", [SLOT_BYTES, LIMIT // 2, LIMIT - 1, LIMIT])
def test_a_reader_takes_every_record_up_to_its_limit(tmp_path: Path, size: int) -> None:
    """The limit is the record's: the file around it, with two slots, is larger and read all the same."""
    slots = SlotFile(tmp_path / "a")
    slots.write(b"x" * size)
    slots.write(b"y" * size)
    assert (tmp_path / "a").stat().st_size > size
    assert read_slots(tmp_path / "a", LIMIT) == b"y" * size


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(cut=st.integers(0, SLOT_BYTES), noise=st.binary(max_size=64))
def test_a_torn_write_leaves_the_record_before(tmp_path: Path, cut: int, noise: bytes) -> None:
    """Any prefix of the new record over the old slot, with rubbish behind it: old or new, never between."""
    path = tmp_path / "a"
    path.unlink(missing_ok=True)
    slots = SlotFile(path)
    for number in range(3):
        slots.write(b"record %d" % number)
    before = path.read_bytes()
    slots.write(b"record 3")
    after = path.read_bytes()
    slots.close()
    changed = SLOT_BYTES if before[:SLOT_BYTES] == after[:SLOT_BYTES] else 0
    torn = after[: changed + cut] + (noise + before[changed + cut + len(noise) :])[: len(before) - changed - cut]
    path.write_bytes(torn[: len(before)])
    assert read_slots(path, LIMIT) in (b"record 2", b"record 3")


@pytest.mark.parametrize("content", [b"", b"\n", b"keyturn-slot 1 2\n", b"keyturn-slot x y z\n", b"\xff" * 300])
def test_rubbish_is_no_record_and_can_be_overwritten(tmp_path: Path, content: bytes) -> None:
    """A damaged file says nothing, and does not stop the next write."""
    path = tmp_path / "a"
    path.write_bytes(content)
    assert read_slots(path, LIMIT) is None
    slots = SlotFile(path)
    slots.write(b"new")
    assert read_slots(path, LIMIT) == b"new"


def test_a_failed_write_does_not_count(tmp_path: Path) -> None:
    """After an error the record before is the newest, here and on disk, and the next write succeeds."""
    slots = SlotFile(tmp_path / "a")
    slots.write(b"one")
    slots.write(b"two")

    def broken(fd: int) -> None:
        raise OSError(errno.EIO, "injected")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fdatasync", broken)
        with pytest.raises(OSError):
            slots.write(b"three")
    assert read_slots(tmp_path / "a", LIMIT) == b"two"
    slots.write(b"four")
    assert read_slots(tmp_path / "a", LIMIT) == b"four"


def test_a_closed_file_is_written_on_where_it_was_left(tmp_path: Path) -> None:
    """Without reading it again: the newest flushed record is never written over."""
    path = tmp_path / "a"
    slots = SlotFile(path)
    for number in range(6):
        slots.write(b"record %d" % number, flush=number % 2 == 0)
        slots.close()
        assert read_slots(path, LIMIT) == b"record %d" % number
        kept = path.read_bytes()
        assert b"record %d" % (number - number % 2) in kept


def test_a_file_that_somebody_else_touched_is_read_again(tmp_path: Path) -> None:
    """Restored from a backup, emptied, or removed: the next write is the newest record all the same."""
    path = tmp_path / "a"
    slots = SlotFile(path)
    slots.write(b"one")
    slots.close()
    old = path.read_bytes()
    for number in range(3):
        slots.write(b"then %d" % number)
        slots.close()
    for content in (old, b"", None):
        path.unlink() if content is None else path.write_bytes(content)
        slots.write(b"next")
        slots.close()
        assert read_slots(path, LIMIT) == b"next"
    slots.write(b"last")
    assert read_slots(path, LIMIT) == b"last"
