"""`audit verify` as an auditor elsewhere runs it: a copy of the log, a key, an exported journal, a head that was noted."""

from __future__ import annotations

import io
import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.audit.hmac_key import read_key
from agent.audit.log import AuditLog
from agent.cli.main import main
from agent.core.errors import EXIT_DONE, EXIT_FAILED, EXIT_USAGE
from agent.core.events import Event


class Copy:
    """What the auditor was sent: no config and no state of the host."""

    def __init__(self, directory: Path) -> None:
        self.log, self.key, self.journal = directory / "audit.jsonl", directory / "key", directory / "journal.json"
        self.other = directory / "other"
        for file in (self.key, self.other):
            file.write_text(os.urandom(32).hex() + "\n")
            file.chmod(0o600)
        now = datetime(2026, 11, 22, tzinfo=UTC)
        log = AuditLog(self.log, directory / "elsewhere", lambda: now, None, read_key(self.key))
        records = [log.record(Event.NOTIFIED, credential="uploader") for _ in range(3)]
        self.head = f"3:{records[-1]['hash']}"
        told = {"KEYTURN_AUDIT_SEQ": "3", "KEYTURN_AUDIT_HASH": records[-1]["hash"]}
        self.journal.write_text(json.dumps(told) + "\n")
        log.close()

    def verify(self, *options: object) -> int:
        return main(["audit", "verify", "--log", str(self.log), *map(str, options)])


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    return Copy(tmp_path)


def test_a_copy_is_proved_by_a_head_or_a_journal_and_authenticated_by_the_key(
    copy: Copy, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without either, it is said that its end is not proved."""
    assert copy.verify("--hmac-key-file", copy.key) == EXIT_DONE
    assert "nothing here says whether the log went on" in capsys.readouterr().err
    assert copy.verify("--hmac-key-file", copy.key, "--head", copy.head) == EXIT_DONE
    assert capsys.readouterr() == (f"whole: 3 records in {copy.log}\n", "")
    assert copy.verify("--journal", copy.journal, "--json") == EXIT_DONE
    shown = json.loads(capsys.readouterr().out)
    assert shown["whole"]
    assert len(shown["notes"]) == 2  # the HMACs were not checked; what is behind the journal's head
    monkeypatch.setattr("sys.stdin", io.StringIO(copy.journal.read_text().replace(copy.head[2:], "ab" * 32)))
    assert copy.verify("--journal", "-", "--head", copy.head) == EXIT_FAILED
    assert "the journal names abab" in capsys.readouterr().err


def test_keys_of_earlier_times_are_given_one_after_the_other(copy: Copy, capsys: pytest.CaptureFixture[str]) -> None:
    """The order does not matter; a wrong one alone is said to be wrong."""
    assert copy.verify("--head", copy.head, "--hmac-key-file", copy.other, "--hmac-key-file", copy.key) == EXIT_DONE
    capsys.readouterr()
    assert copy.verify("--head", copy.head, "--hmac-key-file", copy.other) == EXIT_FAILED
    assert "none of the 3 HMACs fits the key" in capsys.readouterr().err


def test_what_cannot_be_meant_is_one_sentence(copy: Copy, capsys: pytest.CaptureFixture[str]) -> None:
    """A head that is none, files that are not there, a key that others can read, a head without a copy."""
    copy.other.chmod(0o644)
    for options, code in (
        (("--head", "3:abc"), EXIT_USAGE),
        (("--journal", copy.log.parent), EXIT_FAILED),
        (("--journal", copy.log), EXIT_FAILED),
        (("--hmac-key-file", copy.other), EXIT_FAILED),
        (("--hmac-key-file", copy.log.parent / "none"), EXIT_FAILED),
        (("--log", copy.log.parent / "none"), EXIT_FAILED),
    ):
        assert copy.verify(*options) == code
        assert capsys.readouterr().err.count("\n") == 1
    assert main(["audit", "verify", "--head", copy.head]) == EXIT_USAGE
