"""A history that keyturn did not write is never continued, and is seen for ever; what a crash leaves is only noted."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.audit import head
from agent.audit.chain import canonical, digest
from agent.audit.head import read_head
from agent.audit.log import AuditLog
from agent.audit.proof import Verdict, verify_against
from agent.core.events import Event

NOW = datetime(2026, 11, 22, 3, 4, 5, 678901, tzinfo=UTC)


class History:
    """A log that is written, left, falsified and opened again."""

    def __init__(self, directory: Path) -> None:
        self.path, self.head_path = directory / "audit.jsonl", directory / "audit-head"
        self.log = self.open()

    def open(self) -> AuditLog:
        return AuditLog(self.path, self.head_path, lambda: NOW)

    def fill(self, count: int) -> None:
        for _ in range(count):
            self.log.record(Event.PUBLISHED, credential="uploader", generation=1)

    def leave(self, how: str) -> None:
        """Stop, or be killed: nothing is said then, and the lock is gone."""
        if how == "stopped":
            self.log.close()
        else:
            os.close(self.log._file.fd)
            self.log._file.fd = -1
            self.log._memory.close()

    def start(self) -> None:
        self.log = self.open()

    @property
    def records(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.path.read_bytes().splitlines()]

    def write(self, records: list[dict[str, object]], path: Path | None = None) -> None:
        (path or self.path).write_bytes(b"".join(canonical(each) + b"\n" for each in records))

    def verdict(self) -> Verdict:
        return verify_against(self.path, self.head_path)


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    made = History(tmp_path)
    yield made
    made.log.close()


def chained(records: list[dict[str, object]], before: dict[str, object] | None = None) -> list[dict[str, object]]:
    """The records as somebody would write them who knows the format: numbers, hashes and links fit."""
    previous, seq = (str(before["hash"]), int(str(before["seq"]))) if before else ("0" * 64, 0)
    made = []
    for number, record in enumerate(records, seq + 1):
        forged = {**record, "seq": number, "prev": previous}
        forged["hash"] = previous = digest(forged)
        made.append(forged)
    return made


def edited(records: list[dict[str, object]]) -> list[dict[str, object]]:
    return [{**record, "credential": "innocent"} for record in records]


REWRITTEN: dict[str, Callable[[History], None]] = {
    "as long as before": lambda h: h.write(chained(edited(h.records))),
    "longer": lambda h: h.write(chained(edited(h.records) * 3)),
    "only the last record": lambda h: h.write([*h.records[:-1], *chained(edited(h.records[-1:]), h.records[-2])]),
    "only the last record, and more behind it": lambda h: h.write(
        [*h.records[:-1], *chained(edited(h.records[-1:]) * 4, h.records[-2])]
    ),
    "and rotated": lambda h: (
        h.write(chained(edited(h.records)), h.path.with_name("audit.jsonl.1")),
        h.path.unlink(),
    )[1],
    "the content, with the hash that is known": lambda h: h.write(
        [*h.records[:-1], {**h.records[-1], "credential": "innocent"}]
    ),
}


@pytest.mark.parametrize("how", ["stopped", "killed"])
@pytest.mark.parametrize("name", REWRITTEN)
def test_a_rewritten_history_is_never_adopted(history: History, name: str, how: str) -> None:
    """`verify` finds it before the next start and after it; the record of the start names the seq and both hashes."""
    history.fill(5)
    known = history.log.head
    history.leave(how)
    REWRITTEN[name](history)
    assert not history.verdict().whole
    history.start()
    (remark,) = history.log.remarks
    assert f"seq {known.seq} has the hash " in remark and known.hash in remark
    history.fill(1)
    assert history.log.head.seq == known.seq + 1, "it goes on behind what keyturn wrote"
    assert history.records[-1]["prev"] == known.hash
    assert not history.verdict().whole


def test_the_break_stays_in_the_state_whatever_becomes_of_the_log(history: History) -> None:
    """Neither many records and starts later, nor with the right log put back, does the fact go away."""
    history.fill(5)
    known, right = history.log.head, history.records
    history.leave("stopped")
    history.write(chained(edited(right)))
    history.start()
    history.fill(1)
    history.write([*right, history.records[-1]])
    for _ in range(3):
        history.fill(3)
        history.leave("stopped")
        history.start()
        assert history.log.remarks == []
    remembered = read_head(history.head_path)
    assert remembered is not None
    (found,) = remembered.breaks
    assert (found.seq, found.expected) == (5, known.hash) and found.found != known.hash
    (problem,) = history.verdict().problems
    assert "seq 5 " in problem and found.found in problem and known.hash in problem
    assert verify_against(history.path, history.head_path, first_seq=6).problems != (problem,), "named by --from-seq"


@pytest.mark.parametrize("how", ["stopped", "killed"])
@pytest.mark.parametrize("count", [1, 3])
def test_records_that_were_appended_while_keyturn_was_away_are_found(history: History, how: str, count: int) -> None:
    """They fit the chain, and yet nobody announced them."""
    history.fill(3)
    known = history.log.head
    history.leave(how)
    history.write([*history.records, *chained(edited(history.records[:count]), history.records[-1])])
    assert len(history.verdict().problems) == count
    assert ":4: seq 4 " in history.verdict().problems[0]
    history.start()
    assert any("seq 4 with the hash" in remark for remark in history.log.remarks)
    history.fill(1)
    assert history.records[-1]["prev"] == known.hash
    assert not history.verdict().whole


def test_records_that_were_appended_while_keyturn_runs_are_found(history: History) -> None:
    """At the next record of its own, and by the state from then on."""
    history.fill(3)
    history.write([*history.records, *chained(edited(history.records[:1]), history.records[-1])])
    history.fill(1)
    remembered = read_head(history.head_path)
    assert remembered is not None and [found.seq for found in remembered.breaks] == [4]
    assert not history.verdict().whole


def test_what_a_kill_leaves_is_taken_for_ours(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed between a record and its acknowledgement: announced, so no finding, no note, no remark."""
    history.fill(2)
    history.log.record(Event.CREDENTIAL_FETCHED, flush=False)
    monkeypatch.setattr(history.log._memory, "acknowledge", lambda _head: None)
    history.fill(1)
    history.leave("killed")
    assert (history.verdict().problems, history.verdict().notes) == ((), ())
    history.start()
    assert (history.log.remarks, history.log.head.seq) == ([], 4)


def test_a_kill_after_a_rotation_is_no_break(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    """The known record lies in the rotated file, what follows it in the new one; also where the old one was archived."""
    history.fill(2)
    rotated = history.path.with_name("audit.jsonl.1")
    history.path.rename(rotated)
    monkeypatch.setattr(history.log._memory, "acknowledge", lambda _head: None)
    history.fill(1)
    history.leave("killed")
    assert history.verdict().whole
    rotated.rename(rotated.parent / "archived")
    history.start()
    assert (history.log.remarks, history.log.head.seq) == ([], 3)


def test_after_a_power_cut_records_that_nothing_proves_are_noted(
    history: History, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The head in the page cache is lost, the flushed records are not: no tampering, and the start says it."""
    history.fill(1)
    before = history.head_path.read_bytes()
    history.fill(2)
    history.leave("killed")
    history.head_path.write_bytes(before)
    boot = tmp_path / "boot"
    boot.write_text("another\n")
    monkeypatch.setattr(head, "BOOT_ID", boot)
    verdict = history.verdict()
    assert verdict.whole and ":2: from seq 2 on" in verdict.notes[0]
    history.start()
    assert len(history.log.remarks) == 1 and history.log.head.seq == 3
    history.fill(1)
    assert (history.verdict().problems, history.verdict().notes) == ((), ())


def test_a_rewritten_history_is_found_after_a_power_cut_too(
    history: History, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The hash at the number that is known does not depend on announcements."""
    history.fill(3)
    history.leave("killed")
    history.write(chained(edited(history.records) * 2))
    boot = tmp_path / "boot"
    boot.write_text("another\n")
    monkeypatch.setattr(head, "BOOT_ID", boot)
    assert not history.verdict().whole
    history.start()
    assert history.log.head.seq == 3 and len(history.log.remarks) == 1


@pytest.mark.parametrize("rotated", [False, True])
def test_a_torn_last_line_is_noted(history: History, rotated: bool) -> None:
    """It was never acknowledged: a crash. That holds also where logrotate came before the next start."""
    history.fill(2)
    history.leave("killed")
    with history.path.open("ab") as stream:
        stream.write(b'{"seq":3,"half')
    if rotated:
        history.path.rename(history.path.with_name("audit.jsonl.1"))
        history.start()
        history.fill(1)
    verdict = history.verdict()
    assert verdict.whole and len(verdict.notes) == 1 and ":3: half a record of 14 bytes" in verdict.notes[0]


def test_a_torn_line_that_was_acknowledged_is_a_finding(history: History) -> None:
    """Cutting the end of a record off is no crash: the state knows that it was whole."""
    history.fill(3)
    history.leave("killed")
    os.truncate(history.path, history.path.stat().st_size - 10)
    assert any("the end is missing: seq 3 to 3" in problem for problem in history.verdict().problems)


def test_a_lost_memory_is_said_at_the_start(history: History) -> None:
    """Who takes the state's memory away is seen in the record of the start."""
    history.fill(2)
    history.leave("stopped")
    history.head_path.unlink()
    history.start()
    assert ["does not remember" in remark for remark in history.log.remarks] == [True]


def test_an_older_keyturn_can_go_on(history: History) -> None:
    """0.1.0 reads `seq` and `hash` of the state, and finds them where they were."""
    history.fill(2)
    history.leave("stopped")
    content = head.read_slots(history.head_path, 1 << 18)
    assert content is not None
    assert json.loads(content)["seq"] == 2 and json.loads(content)["hash"] == history.records[-1]["hash"]
