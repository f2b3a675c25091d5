"""Heads in the journal: how often they are said, and what `verify` makes of them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.audit.head import Head, read_head
from agent.audit.journal_heads import MESSAGE_ID, PAUSE_S, JournalHeads, told_heads
from agent.audit.log import AuditLog
from agent.audit.proof import Verdict, Witnesses, verify
from agent.core.errors import AuditError
from agent.core.events import Event
from agent.system.journald import Fields


class Host:
    """A log, its journal, and a clock."""

    def __init__(self, directory: Path) -> None:
        self.path, self.head_path, self.now, self.journal = directory / "log", directory / "head", 0.0, list[str]()
        self.log = AuditLog(self.path, self.head_path, lambda: datetime(2026, 11, 22, tzinfo=UTC))
        self.heads = JournalHeads(lambda: self.log.flushed, self.send, lambda: self.now)

    def send(self, fields: Fields) -> bool:
        self.journal.append(json.dumps(dict(fields)))
        return True

    def record(self, count: int = 1, *, flush: bool = True) -> float:
        for _ in range(count):
            self.log.record(Event.NOTIFIED, flush=flush)
        return self.heads.say()

    @property
    def said(self) -> list[int]:
        return [int(json.loads(line)["KEYTURN_AUDIT_SEQ"]) for line in self.journal]

    def verdict(self, *, alone: bool = False) -> Verdict:
        known = None if alone else read_head(self.head_path)
        return verify(self.path, known, witnesses=Witnesses((), told_heads(self.journal, "journal")))


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_a_head_is_said_at_once_then_once_a_second_and_the_last_always(host: Host) -> None:
    """No journal is flooded by a thousand records, and none of them stays unsaid."""
    assert host.record() == 0
    assert host.record(100) == PAUSE_S
    assert host.said == [1]
    host.now = 0.75
    assert host.heads.say() == pytest.approx(0.25)
    host.now = PAUSE_S
    assert host.heads.say() == 0
    assert host.heads.say() == 0
    assert host.said == [1, 101]
    host.record()
    host.heads.say_now()
    assert host.said == [1, 101, 102]
    entry = json.loads(host.journal[-1])
    assert (entry["MESSAGE_ID"], entry["PRIORITY"]) == (MESSAGE_ID, "6")
    assert entry["KEYTURN_AUDIT_HASH"] == host.log.head.hash


def test_a_record_that_is_not_flushed_yet_is_not_said(host: Host) -> None:
    """After a power cut the journal would name a record that no log has."""
    host.record(flush=False)
    assert host.said == []
    host.record()
    assert host.said == [2]


def test_an_untouched_log_fits_its_journal_which_proves_the_end_where_no_state_is(host: Host) -> None:
    """An auditor elsewhere has a copy of the log and of the journal, and no state."""
    for host.now in range(5):
        host.record()
    assert host.verdict().whole
    alone = host.verdict(alone=True)
    assert alone.whole
    assert "the journal proves the end up to seq 5" in alone.notes[0]


@pytest.mark.parametrize(
    ("keep", "found"),
    [
        (slice(0, 3), "the end is missing: the journal names seq 5"),
        (slice(0, 0), "the end is missing"),
        (1, "names seq 2"),
    ],
)
def test_what_is_gone_from_the_log_is_named_by_the_journal(host: Host, keep: slice | int, found: str) -> None:
    """The end, everything, or one record in the middle."""
    for host.now in range(5):
        host.record()
    lines = host.path.read_bytes().splitlines(keepends=True)
    kept = lines[keep] if isinstance(keep, slice) else [line for at, line in enumerate(lines) if at != keep]
    host.path.write_bytes(b"".join(kept))
    assert any(found in problem for problem in host.verdict(alone=True).problems)


def test_a_log_that_was_written_anew_with_its_state_does_not_fit_the_journal(host: Host, tmp_path: Path) -> None:
    """Chain and state agree with each other, and not with what was said."""
    for host.now in range(3):
        host.record()
    (tmp_path / "other").mkdir()
    forged = Host(tmp_path / "other")
    for _ in range(3):
        forged.log.record(Event.NOTIFIED, credential="forged")
    assert verify(forged.path, read_head(forged.head_path)).whole
    forged.journal = host.journal
    assert [
        f"seq {seq} has the hash" in problem for seq, problem in zip((1, 2, 3), forged.verdict().problems, strict=True)
    ]


def test_an_archived_beginning_is_none_of_the_journals_business(host: Host) -> None:
    """Heads of records that were archived elsewhere are passed over."""
    for host.now in range(5):
        host.record()
    host.path.write_bytes(b"".join(host.path.read_bytes().splitlines(keepends=True)[3:]))
    told = told_heads(host.journal, "journal")
    assert verify(host.path, read_head(host.head_path), first_seq=4, witnesses=Witnesses((), told)).whole


@pytest.mark.parametrize(
    "lines",
    [
        [],
        ["rubbish", "[]", "{}", '{"KEYTURN_AUDIT_SEQ": "1", "KEYTURN_AUDIT_HASH": "zz"}'],
        ['{"KEYTURN_AUDIT_SEQ": null, "KEYTURN_AUDIT_HASH": [1]}', "[" * 100_000],
        ['{"KEYTURN_AUDIT_SEQ": "99999999999999999999", "KEYTURN_AUDIT_HASH": "' + "0" * 64 + '"}'],
        [json.dumps({"KEYTURN_AUDIT_SEQ": seq, "KEYTURN_AUDIT_HASH": "ab" * 32}) for seq in ("7", "3")],
    ],
)
def test_a_journal_without_heads_or_of_two_logs_is_one_sentence(lines: list[str]) -> None:
    """Whatever was exported, it is no traceback and no proof."""
    with pytest.raises(AuditError, match=r"^FILE: "):
        told_heads(lines, "FILE")


def test_heads_are_kept_small() -> None:
    """Forty bytes each: a journal of months fits into memory."""
    lines = [json.dumps({"KEYTURN_AUDIT_SEQ": str(n), "KEYTURN_AUDIT_HASH": f"{n:064x}"}) for n in range(1, 1000)]
    told = told_heads(lines, "journal")
    assert told.last == Head(999, f"{999:064x}")
    assert told.before(3) == [Head(1, f"{1:064x}"), Head(2, f"{2:064x}")]
    assert told.of(3) == [Head(3, f"{3:064x}")]
