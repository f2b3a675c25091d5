"""`audit incident` with a copy of a log, as an auditor has it: no config, no state."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agent.cli.main import main
from agent.core.errors import EXIT_DONE, EXIT_FAILED, EXIT_USAGE
from tests.support.written_logs import two_years

NOWHERE = "/nonexistent/keyturn.toml"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A log of two years, with emergencies in it, and nothing else."""
    log = two_years(tmp_path)
    log.head.unlink()
    return log.path


def call(*arguments: str) -> int:
    return main(["--config", NOWHERE, "audit", "incident", *arguments])


def basis(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    code = call("--format", "json", *arguments)
    return code, json.loads(capsys.readouterr().out)["basis"]


def test_a_copy_needs_neither_config_nor_state(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The chain is proved, its end is not: that is no failure, and the document says it."""
    code, found = basis(capsys, "--log", str(copy))
    assert (code, found["whole"], found["is_copy"], found["end_proved"]) == (EXIT_DONE, True, True, False)
    assert call("--log", str(copy)) == EXIT_DONE
    assert f"keyturn audit verify --log {copy}" in capsys.readouterr().out
    assert call("--log", str(copy), "--list") == EXIT_DONE
    assert "uploader" in capsys.readouterr().out


def test_the_end_of_a_copy_is_proved_by_a_known_head(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An end that was cut off is a failure, and so is a head where the state has it."""
    head = json.loads(copy.read_text().splitlines()[-1])
    known = f"{head['seq']}:{head['hash']}"
    code, found = basis(capsys, "--log", str(copy), "--head", known)
    assert (code, found["end_proved"]) == (EXIT_DONE, True)
    copy.write_text("".join(copy.read_text().splitlines(keepends=True)[:-1]))
    code, found = basis(capsys, "--log", str(copy), "--head", known)
    assert (code, found["whole"], found["end_proved"]) == (EXIT_FAILED, False, False)
    assert call("--head", known) == EXIT_USAGE


def test_a_part_of_a_copy_may_be_named_by_its_first_number(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without it the document says from where on it was proved; with it, what is missing before is a failure."""
    copy.write_text("".join(copy.read_text().splitlines(keepends=True)[3:]))
    assert basis(capsys, "--log", str(copy))[1]["verified_from"] == 4
    assert basis(capsys, "--log", str(copy), "--from-seq", "4")[0] == EXIT_DONE
    code, found = basis(capsys, "--log", str(copy), "--from-seq", "1")
    assert (code, found["whole"], found["verified_from"]) == (EXIT_FAILED, False, 1)


def test_hmacs_of_a_copy_are_checked(copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By a key that never made one: the log did not verify."""
    key = tmp_path / "key"
    key.write_text("0123456789abcdef" * 4)
    key.chmod(0o600)
    code, found = basis(capsys, "--log", str(copy), "--hmac-key-file", str(key))
    assert (code, found["whole"]) == (EXIT_FAILED, False)
    assert any("HMAC" in problem for problem in found["problems"])


@pytest.mark.parametrize("command", ["incident", "show"])
def test_a_copy_that_is_not_there_is_named(copy: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    """Nothing, or a directory."""
    for path in (copy.with_name("none.jsonl"), copy.parent):
        assert main(["--config", NOWHERE, "audit", command, "--log", str(path)]) == EXIT_FAILED
        assert str(path) in capsys.readouterr().err
