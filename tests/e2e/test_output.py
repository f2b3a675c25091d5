"""What becomes of the output never steers the work, and never shows a traceback."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from tests.support.processes import KEYTURN
from tests.support.vm import Vm

OUTPUTS = {
    "a full disk": "exec >/dev/full",
    "a closed descriptor": "exec >&-",
    "a reader that left": "",
}


def run(vm: Vm, how: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = " ".join([*KEYTURN, "--config", str(vm.config), *words])
    script = f"{OUTPUTS[how]}; {command}" if OUTPUTS[how] else f"{{ {command}; echo rc $? >&2; }} | true"
    env = {**os.environ, **vm.environ}
    return subprocess.run(["sh", "-c", script], env=env, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("how", OUTPUTS)
def test_output_that_cannot_be_written_is_at_most_a_sentence(vm: Vm, how: str) -> None:
    """status, once and audit on a full disk, a closed descriptor or a pipe whose reader left: no fault, no traceback."""
    vm.configure(vm.credential())
    assert vm.keyturn("once").returncode == 0
    for words in (["once"], ["status"], ["audit", "show"], ["audit", "verify"], ["check", "--offline"]):
        done = run(vm, how, *words)
        assert "fault of keyturn" not in done.stderr and "Traceback" not in done.stderr, (words, done.stderr)
        assert "Exception ignored" not in done.stderr, (words, done.stderr)


@pytest.mark.parametrize("words", [["audit", "show", "--since", "1h"], ["audit", "verify"]])
def test_a_foreign_line_in_the_audit_is_no_fault(vm: Vm, words: list[str]) -> None:
    """A line with a foreign time, or nested without end, is shown or named, and does not end the command."""
    vm.configure(vm.credential())
    assert vm.keyturn("once").returncode == 0
    with (vm.log_directory / "audit.jsonl").open("a") as stream:
        stream.write(json.dumps({"seq": 99, "time": "yesterday", "event": "x"}) + "\n" + "[" * 100_000 + "\n")
    done = vm.keyturn(*words)
    assert "fault of keyturn" not in done.stderr
    assert done.returncode == (1 if "verify" in words else 0)


def test_a_reason_cannot_forge_a_line(vm: Vm) -> None:
    """Newlines and escape sequences of whoever may use the socket are shown escaped."""
    vm.configure(vm.credential())
    assert vm.keyturn("once").returncode == 0
    vm.keyturn("rotate", "uploader", "--reason", "new\nline \x1b[31mred")
    shown = vm.keyturn("audit", "show").stdout
    assert "new\\nline \\x1b[31mred" in shown
    assert "\x1b" not in shown
