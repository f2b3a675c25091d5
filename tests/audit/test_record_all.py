"""Many records at once: one write and one flush for a group of them, and after every fault a log that stands."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.audit.continuation import MAX_BEHIND
from agent.audit.head import read_head
from agent.audit.log import GROUP, WAITING, AuditLog
from agent.audit.proof import verify
from agent.audit.reader import read
from agent.core.errors import AuditError
from agent.core.events import Event

NOW = datetime(2026, 11, 22, 3, 4, 5, tzinfo=UTC)


class Log:
    """An audit log with its head, which can be killed and opened again."""

    def __init__(self, directory: Path) -> None:
        self.path, self.head_path = directory / "audit.jsonl", directory / "audit-head"
        self.open()

    def open(self) -> None:
        self.log = AuditLog(self.path, self.head_path, lambda: NOW)

    def kill(self) -> None:
        """As if killed: nothing is said, and the lock is gone."""
        os.close(self.log._file.fd)
        self.log._file.fd = -1
        self.log._memory.close()

    def tell(self, count: int) -> None:
        self.log.record_all([(Event.NOTIFIED, {"notified": f"exec /opt/{n}", "outcome": "told"}) for n in range(count)])

    def numbers(self) -> list[int]:
        return [record["seq"] for record in read(self.path, lambda *_why: None)]

    def problems(self) -> tuple[str, ...]:
        return verify(self.path, read_head(self.head_path)).problems


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    made = Log(tmp_path)
    yield made
    made.log.close()


def full_after(count: int) -> Callable[[int, bytes], int]:
    """Return a write that finds the disk full behind half of the record after `count` of them."""
    real = os.write

    def write(fd: int, block: bytes) -> int:
        whole = sum(len(line) + 1 for line in block.split(b"\n")[:count])
        return real(fd, block[: whole + 40])

    return write


def test_many_records_cost_a_write_and_a_flush_for_each_group(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of dependents that were told in one turn do not hold the loop up for thousands of flushes."""
    calls: list[str] = []
    write, flush, ours = os.write, os.fdatasync, log.log._file.fd
    monkeypatch.setattr(os, "write", lambda fd, data: calls.extend(["write"] * (fd == ours)) or write(fd, data))
    monkeypatch.setattr(os, "fdatasync", lambda fd: calls.extend(["flush"] * (fd == ours)) or flush(fd))
    log.tell(2 * GROUP + 1)
    assert calls == ["write", "flush"] * 3
    assert log.numbers() == list(range(1, 2 * GROUP + 2))
    assert log.problems() == ()


@pytest.mark.parametrize("can_cut", [True, False])
def test_a_disk_that_is_full_keeps_the_whole_records(log: Log, monkeypatch: pytest.MonkeyPatch, can_cut: bool) -> None:
    """The error is raised, the first records stand, and the next one follows them; where half a record cannot be cut
    off (chattr +a), it alone is named."""
    log.tell(2)

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full_after(3))
        if not can_cut:
            patch.setattr(os, "ftruncate", refuse)
        with pytest.raises(AuditError):
            log.tell(5)
        patch.undo()
        if not can_cut:
            patch.setattr(os, "ftruncate", refuse)
        log.tell(1)
    assert log.numbers() == [1, 2, 3, 4, 5, 6]
    assert [problem.rpartition(":")[2] for problem in log.problems()] == ([] if can_cut else [" not a whole record"])


def test_a_flush_that_fails_takes_its_group_back(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """What may not be on the disk is not reported as written."""

    def broken(_fd: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", broken)
        with pytest.raises(AuditError):
            log.tell(3)
    log.tell(1)
    assert (log.numbers(), log.problems()) == ([1], ())


def test_a_kill_before_the_acknowledgement_of_a_group_is_no_break(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it was announced, with what had waited for its flush; the count goes on behind it."""
    for _ in range(WAITING):
        log.log.record(Event.CREDENTIAL_FETCHED, flush=False)
    monkeypatch.setattr(log.log._memory, "acknowledge", lambda _head: None)
    log.tell(GROUP)
    log.kill()
    assert WAITING + GROUP <= MAX_BEHIND
    assert log.problems() == ()
    log.open()
    assert (log.log.remarks, log.log.head.seq) == ([], WAITING + GROUP)


def test_no_more_records_wait_for_a_flush_than_a_start_can_judge(log: Log) -> None:
    """Whoever asks for none gets one in time, so that a kill leaves nothing that was not announced."""
    for _ in range(3 * MAX_BEHIND):
        log.log.record(Event.CREDENTIAL_FETCHED, flush=False)
    log.kill()
    assert log.problems() == ()
    log.open()
    assert (log.log.remarks, log.log.head.seq) == ([], 3 * MAX_BEHIND)


def test_an_unknown_field_is_refused_before_anything_is_written(log: Log) -> None:
    """A group is not begun with a record that may not be written."""
    with pytest.raises(ValueError, match="secret"):
        log.log.record_all([(Event.NOTIFIED, {"notified": "exec /opt/a"}), (Event.NOTIFIED, {"secret": "x"})])
    assert log.numbers() == []
