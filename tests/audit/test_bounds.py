"""Reading the log as root: nothing but regular files, and no file takes more than a bounded time and memory."""

from __future__ import annotations

import gzip
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.audit.log import AuditLog
from agent.audit.proof import verify_against
from agent.core.errors import AuditError
from agent.core.events import Event

NOW = datetime(2026, 11, 22, tzinfo=UTC)
LIMIT_S = 60.0
MEMORY = 1 << 30


def bomb_of(content: bytes, times: int) -> Callable[[Path], None]:
    """A file that unpacks to so many times the content: gzip's members follow each other, so it is packed once."""

    def write(path: Path) -> None:
        path.write_bytes(gzip.compress(content, 9) * times)

    return write


def lines_of(line: bytes) -> Callable[[Path], None]:
    return bomb_of(line * ((1 << 20) // len(line)), 1 << 8)


def sparse(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 40)


TRAPS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "a FIFO": ("audit.jsonl", os.mkfifo),
    "a link to a device": ("audit.jsonl", lambda path: path.symlink_to("/dev/zero")),
    "a link to a file": ("audit.jsonl", lambda path: path.symlink_to("/etc/passwd")),
    "a directory": ("audit.jsonl", Path.mkdir),
    "a sparse file": ("audit.jsonl", sparse),
    "one line of a gigabyte, packed": ("audit.jsonl.1.gz", bomb_of(bytes(1 << 20), 1 << 10)),
    "empty lines, packed": ("audit.jsonl.1.gz", lines_of(b"\n")),
    "rubbish, packed": ("audit.jsonl.1.gz", lines_of(b"{}\n")),
    "one record over and over, packed": ("audit.jsonl.1.gz", lines_of(b'{"seq":1}\n')),
    "one whole record over and over, packed": (
        "audit.jsonl.1.gz",
        lines_of(b'{"event":"published","hash":"%064d","prev":"%064d","seq":1}\n' % (0, 0)),
    ),
}


@pytest.mark.parametrize("action", ["show", "verify"])
@pytest.mark.parametrize("name", TRAPS)
def test_no_trap_hangs_or_fills_the_memory(tmp_path: Path, name: str, action: str) -> None:
    """In a gigabyte of memory, within a minute, with one sentence that names the file."""
    where, set_up = TRAPS[name]
    set_up(tmp_path / where)
    code = (
        "import sys; from pathlib import Path\nfrom agent.audit.proof import verify_against\nfrom agent.audit.reader import read\n"
        "path = Path(sys.argv[1])\n"
        "if sys.argv[2] == 'show':\n"
        "    print(sum(1 for _ in read(path, print)))\n"
        "else:\n"
        "    verdict = verify_against(path, path.with_name('head'))\n"
        "    print(verdict.whole, len(verdict.problems), *verdict.problems[-2:])\n"
    )

    def bounded() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))

    said = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "audit.jsonl"), action],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        preexec_fn=bounded,
    )
    assert said.returncode == 0, said.stderr
    if action == "verify":
        assert said.stdout.startswith("False ") and where in said.stdout
        assert int(said.stdout.split()[1]) <= 1010


@pytest.mark.parametrize("name", ["a FIFO", "a link to a device", "a directory"])
def test_the_log_is_opened_only_as_a_regular_file(tmp_path: Path, name: str) -> None:
    """A start ends with a sentence, at once."""
    TRAPS[name][1](tmp_path / "audit.jsonl")
    with pytest.raises(AuditError, match=r"audit\.jsonl"):
        AuditLog(tmp_path / "audit.jsonl", tmp_path / "head", lambda: NOW)


def test_a_record_that_no_reader_would_take_is_not_written(tmp_path: Path) -> None:
    """What is written can be proved: the writer keeps to the readers' limit."""
    log = AuditLog(tmp_path / "audit.jsonl", tmp_path / "head", lambda: NOW)
    with pytest.raises(AuditError, match="longer than"):
        log.record(Event.ROTATION_REQUESTED, reason="x" * (256 * 1024))
    log.record(Event.ROTATION_REQUESTED, reason="x" * (200 * 1024))
    log.close()
    assert verify_against(tmp_path / "audit.jsonl", tmp_path / "head").whole


def test_a_name_with_the_signs_of_a_pattern_has_its_own_rotated_files(tmp_path: Path) -> None:
    """`[` and `*` in the configured name mean themselves."""
    path = tmp_path / "audit[1]*.jsonl"
    log = AuditLog(path, tmp_path / "head", lambda: NOW)
    log.record(Event.PUBLISHED)
    path.rename(tmp_path / "audit[1]*.jsonl.1")
    (tmp_path / "audit1x.jsonl.1").write_text("of somebody else\n")
    log.record(Event.PUBLISHED)
    log.close()
    verdict = verify_against(path, tmp_path / "head")
    assert verdict.whole and verdict.records == 2


@pytest.mark.parametrize("depth", [900, 100_000])
def test_a_deeply_nested_line_is_a_finding(tmp_path: Path, depth: int) -> None:
    """It ends no proof."""
    line = '{"seq":1,"hash":"","prev":' + "[" * depth + "]" * depth + "}"
    (tmp_path / "audit.jsonl").write_text(line + "\n" + json.dumps({"seq": 1}) + "\n")
    assert not verify_against(tmp_path / "audit.jsonl", tmp_path / "head").whole
