"""agent/cli/rotate_report.py: when a report is written, and that nothing about it touches the emergency."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from agent.cli.rotate_report import RotateReport
from agent.core.errors import KeyturnError, UsageError
from agent.emergency.request import Request

REQUEST = Request("uploader", "key on a pastebin", None, "LTAI5tLeaked")  # type: ignore[arg-type]
RESULT = {
    "credential": "uploader",
    "old_access_key_id": "LTAI5tLeaked",
    "new_access_key_id": "LTAI5tNew",
    "version_id": "v2",
    "generation": 2,
    "old_key": "disabled",
    "safe": True,
    "time_to_safe_ms": 900,
    "steps": [
        {"name": "publish", "outcome": "done", "ms": 1, "at_ms": 500},
        {"name": "disable_old", "outcome": "done", "ms": 1, "at_ms": 800},
        {"name": "prove_refused", "outcome": "done", "ms": 1, "at_ms": 900, "detail": "refused with X"},
    ],
    "left_behind": [
        {
            "credential": "uploader",
            "dependent": "systemd a",
            "reason": "not told",
            "why": "x",
            "move": "systemctl restart a",
        }
    ],
    "notes": ["--force overrides"],
}


def report(directory: Path, name: str = "a.json") -> RotateReport:
    """A report for which there is no config, and so no audit log to be read."""
    return RotateReport(str(directory / name), str(directory / "keyturn.toml"))


def test_an_emergency_that_was_not_asked_for_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A no to the question, or a config that cannot be read: no document of what never happened."""
    one = report(tmp_path)
    one.failed(KeyturnError("nothing was done"))
    one.write()
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().err == ""


def test_without_the_log_the_result_is_told(tmp_path: Path) -> None:
    """Times since the command, who is left behind, the notes; and that nobody read the log."""
    one = report(tmp_path)
    one.asked(REQUEST)
    one.ended(RESULT)
    one.write()
    told = json.loads((tmp_path / "a.json").read_text())
    assert told["exposure_ms"] == {"to_disabled": 800, "to_refused": 900}
    assert (told["old"]["refusal"], told["new_access_key_id"]) == ("refused with X", "LTAI5tNew")
    assert told["left_behind"][0]["move"] == "systemctl restart a"
    assert [one["how"] for one in told["dependents"]] == ["not told"]
    assert told["notes"] == ["--force overrides"]
    assert told["basis"]["log"] == ""
    assert told["attempts"][0]["leaked"] == "LTAI5tLeaked"
    assert told["attempts"][0]["actor"]["pid"] == os.getpid()


@pytest.mark.parametrize("name", ["a.md", "a.html", "A.MD"])
def test_what_never_began_is_told_too(tmp_path: Path, name: str) -> None:
    """The daemon refused, or could not be reached: the error is what there is, in every format."""
    one = report(tmp_path, name)
    one.asked(REQUEST)
    one.step({"name": "preflight", "outcome": "done", "ms": 1, "at_ms": 2})
    one.step({"name": "", "outcome": "waiting", "detail": "KMS", "at_ms": 3})
    one.failed(KeyturnError("the daemon closed the connection"))
    one.write()
    text = (tmp_path / name).read_text()
    assert "the daemon closed the connection" in text
    assert "preflight" in text
    assert "waiting" not in text


def test_a_fault_of_the_document_is_said_and_raised_to_nobody(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The outcome of the emergency is printed and stays what it is."""
    one = report(tmp_path)
    one.asked(REQUEST)
    monkeypatch.setattr("agent.cli.rotate_document.written", lambda *_: 1 / 0)
    one.write()
    said = capsys.readouterr().err
    assert "ZeroDivisionError" in said
    assert "keyturn audit incident --credential uploader" in said


def test_a_name_that_says_no_format_is_refused(tmp_path: Path) -> None:
    """Before anything else."""
    with pytest.raises(UsageError):
        report(tmp_path, "a.txt")
