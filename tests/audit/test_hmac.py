"""Records that are authenticated: what `verify` says with the key, without it, with another, and where HMACs begin or end."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.audit.chain import authenticated, canonical, digest
from agent.audit.head import GENESIS, Remembered, read_head
from agent.audit.hmac_key import HmacKey, read_key
from agent.audit.log import AuditLog
from agent.audit.proof import Verdict, Witnesses, verify
from agent.core.errors import CredentialFileError
from agent.core.events import Event
from agent.system.two_slot_file import SlotFile

NOW = datetime(2026, 11, 22, 3, 4, 5, tzinfo=UTC)
KEY, OTHER = HmacKey(bytes(range(32))), HmacKey(bytes(range(32, 64)))


class Log:
    """A log that is written by several runs, each with a key or none."""

    def __init__(self, directory: Path) -> None:
        self.path, self.head = directory / "audit.jsonl", directory / "audit-head"

    def run(self, key: HmacKey | None, count: int = 2) -> None:
        log = AuditLog(self.path, self.head, lambda: NOW, None, key)
        for _ in range(count):
            log.record(Event.NOTIFIED, credential="uploader", reason="Schlüssel")
        log.close()

    def verdict(self, *keys: HmacKey, alone: bool = False) -> Verdict:
        return verify(self.path, None if alone else read_head(self.head), witnesses=Witnesses(keys))

    @property
    def records(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.path.read_bytes().splitlines()]

    def forge(self, change: Callable[[list[dict[str, object]]], None]) -> None:
        """Change records as somebody would who may write log and state, and has no key: with a chain that holds."""
        records, before = self.records, GENESIS
        change(records)
        for record in records:
            record["prev"] = before
            record["hash"] = before = digest(record)
        self.path.write_bytes(b"".join(canonical(record) + b"\n" for record in records))
        self.head.unlink()
        SlotFile(self.head).write(Remembered(len(records), before).as_bytes(), flush=False)


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path)


def test_the_hmac_covers_the_record_and_the_hash_covers_the_hmac(log: Log) -> None:
    """So a keyturn without the key verifies the chain as ever, and an HMAC cannot be taken away from a record."""
    log.run(KEY)
    for record in log.records:
        assert KEY.fits(authenticated(record), record["hmac"])
        assert record["hash"] == digest(record)
    verdict = log.verdict()
    assert verdict.whole
    assert "2 records have an HMAC, which was not checked" in verdict.notes[0]
    assert log.verdict(KEY) == Verdict(2, (str(log.path),), ())


def test_who_has_no_key_can_rewrite_log_and_state_and_is_found(log: Log) -> None:
    """The chain holds after an edit, the state agrees, and each HMAC from the edit on is wrong."""
    log.run(KEY, 4)
    log.forge(lambda records: records[1].update(credential="other"))
    assert log.verdict().whole
    found = zip((2, 3, 4), log.verdict(KEY).problems, strict=True)
    assert all(f"seq {seq}: its HMAC does not fit" in problem for seq, problem in found)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda records: [record.pop("hmac") for record in records], "no record has an HMAC"),
        (lambda records: [record.pop("hmac") for record in records[2:]], "seq 3: has no HMAC"),
        (lambda records: [record.update(hmac="0" * 64) for record in records], "none of the 4 HMACs fits"),
        (lambda records: records[2].update(hmac="é"), "seq 3: its HMAC"),
        (lambda records: records[2].update(hmac=7), "seq 3: its HMAC"),
    ],
)
def test_hmacs_that_were_stripped_or_invented_are_found(
    log: Log, change: Callable[[list[dict[str, object]]], None], found: str
) -> None:
    """All of them, those of the end, or rubbish in their place."""
    log.run(KEY, 4)
    log.forge(change)
    assert found in log.verdict(KEY).problems[0]


def test_records_before_the_key_are_a_note_and_the_first_hmac_holds_them(log: Log) -> None:
    """A key that was configured later authenticates what is before it too, from then on."""
    log.run(None, 3)
    log.run(KEY)
    verdict = log.verdict(KEY)
    assert verdict.whole
    assert "seq 1 to 3 have no HMAC" in verdict.notes[0]
    log.forge(lambda records: records[1].update(credential="other"))
    assert "none of the 2 HMACs fits" in log.verdict(KEY).problems[0]


def test_a_log_in_which_hmacs_stop_is_a_problem_for_who_has_the_key_and_else_a_note(log: Log) -> None:
    """Nobody but the operator knows whether he took the key out of the config; a run with the key again mends nothing."""
    log.run(KEY)
    log.run(None)
    log.run(KEY)
    problems = log.verdict(KEY).problems
    assert len(problems) == 1
    assert "seq 3: has no HMAC, and the record before it has one" in problems[0]
    verdict = log.verdict()
    assert verdict.whole
    assert "seq 3: has no HMAC" in verdict.notes[1]


def test_another_key_is_called_that_and_keys_follow_each_other(log: Log) -> None:
    """A wrong key is one sentence, however long the log is; a key that was replaced is given along with the new one."""
    log.run(KEY, 200)
    problems = log.verdict(OTHER).problems
    assert len(problems) == 1
    assert "none of the 200 HMACs fits the key" in problems[0]
    log.run(OTHER)
    assert log.verdict(OTHER, KEY).whole
    assert "seq 1: its HMAC does not fit" in log.verdict(OTHER).problems[0]


def test_without_the_state_the_end_stays_unproved(log: Log) -> None:
    """An HMAC shows who wrote what is there, not that nothing was behind it."""
    log.run(KEY)
    assert "the end cannot be proved" in log.verdict(KEY, alone=True).problems[0]


@pytest.mark.parametrize(
    ("content", "mode", "said"),
    [
        (b"short", 0o600, "holds 5 bytes"),
        (b"ab" * 32, 0o600, "again and again"),
        (bytes(range(32)), 0o640, "mode 0640"),
        (b"x" * 5000, 0o600, "larger than"),
        (None, 0o600, "is missing"),
    ],
)
def test_a_key_file_that_is_none_is_refused(tmp_path: Path, content: bytes | None, mode: int, said: str) -> None:
    """Too short, too plain, too open, too large, absent: each is one sentence, and none shows the key."""
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)
        path.chmod(mode)
    with pytest.raises(CredentialFileError, match=said) as caught:
        read_key(path)
    assert "short" not in str(caught.value).replace("shorter", "")
    assert "abab" not in str(caught.value)


def test_a_key_is_the_bytes_of_its_file_without_the_line_end_and_never_printed(tmp_path: Path) -> None:
    """`openssl rand -hex 32 >FILE` makes one; systemd may hand it over."""
    path = tmp_path / "audit-hmac"
    path.write_bytes(os.urandom(32).hex().encode() + b"\n")
    path.chmod(0o600)
    key = read_key(path)
    assert key.sign(b"x") == HmacKey(path.read_bytes().strip()).sign(b"x")
    assert path.read_text().strip() not in repr(key)
