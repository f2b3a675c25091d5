"""The proof of a log that is being written: however long it takes to read it, and whatever was appended meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.audit.log import AuditLog
from agent.audit.proof import MAX_BEHIND, Verdict, verify_against
from agent.core.events import Event
from agent.system.clock import Clock

MANY = 3 * MAX_BEHIND
"""Records that are written while the log is read once: more than a head may have behind it."""


@pytest.fixture
def log(tmp_path):
    log = AuditLog(tmp_path / "audit.jsonl", tmp_path / "audit-head", Clock().now)
    write(log, 50)
    yield log
    log.close()


def write(log: AuditLog, count: int) -> None:
    log.record_all([(Event.NOTIFIED, {"credential": "a", "generation": number}) for number in range(count)])


def proved(log: AuditLog, meanwhile: Callable[[], object]) -> tuple[Verdict, list[list[int]]]:
    """Prove it, while something happens at the beginning of each reading; return the numbers that each reading saw, too."""
    readings: list[list[int]] = []

    def begin() -> Callable[[dict[str, Any]], None]:
        seen: list[int] = []
        readings.append(seen)

        def see(record: dict[str, Any]) -> None:
            seen.append(record["seq"])
            if record["seq"] == 1:
                meanwhile()

        return see

    return verify_against(log.path, log.path.parent / "audit-head", onlooker=begin), readings


def test_a_long_reading_of_a_busy_log_is_no_alarm(log):
    """What was appended meanwhile is read, and the log not once more: else a log that takes minutes is never proved."""
    verdict, readings = proved(log, lambda: write(log, MANY))
    assert (verdict.problems, verdict.records, len(readings)) == ((), 50 + MANY, 1)
    assert readings[0] == list(range(1, 50 + MANY + 1))


def test_what_somebody_else_appends_meanwhile_is_found(log):
    """A record that keyturn did not write, behind those that it did."""

    def forge() -> None:
        write(log, MANY)
        last = log.path.read_text().splitlines()[-1]
        with log.path.open("a") as file:
            file.write(last + "\n")

    verdict, _readings = proved(log, forge)
    assert not verdict.whole


def test_a_rotation_meanwhile_takes_another_reading(log):
    """The file that was read has another name then; each record is seen once in the reading that counts."""
    turns: list[Path] = []

    def rotate() -> None:
        if not turns:
            turns.append(log.path.rename(log.path.with_name("audit.jsonl.1")))
        write(log, MANY)

    verdict, readings = proved(log, rotate)
    assert verdict.whole
    assert readings[-1] == list(range(1, verdict.records + 1))


def test_half_a_line_that_is_finished_meanwhile_is_no_crash(log):
    """A record of which only the beginning was there when its file was read is a whole one in the end."""
    log.record(Event.NOTIFIED, credential="a")
    whole = log.path.read_bytes()
    verdict, _ = proved(log, lambda: log.path.write_bytes(whole[:-40]) and None)
    assert not verdict.whole  # its end is missing, and the state knows

    class Once:
        done = False

    def finish() -> None:
        log.path.write_bytes(whole)
        Once.done = True

    log.path.write_bytes(whole[:-40])
    verdict, _ = proved(log, finish)
    assert Once.done and verdict.whole and not verdict.notes
