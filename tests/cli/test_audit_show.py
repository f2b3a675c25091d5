"""`audit show` for people and for programs: what a line says, which records are chosen, and how it ends."""

from __future__ import annotations

import gzip
import json
import os
import pty
import re
import signal
import subprocess
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from agent.audit.log import AuditLog
from agent.cli.audit_line import BAD, GOOD, SO_SO, Columns, mood
from agent.cli.main import main
from agent.core.errors import EXIT_DONE, EXIT_USAGE
from agent.core.events import Event
from tests.support.processes import KEYTURN, eventually

CHINA = timezone(timedelta(hours=8))
OLD, NEW = "LTAI5tOld", "LTAI5tNew"


class Host:
    """A config and a log of three files, one of them compressed, with seven records of two credentials."""

    def __init__(self, directory: Path) -> None:
        self.log, self.config = directory / "audit.jsonl", directory / "keyturn.toml"
        self.config.write_text(
            f'[agent]\nstate_directory = "{directory}/s"\nruntime_directory = "{directory}/r"\n'
            f'[agent.audit]\npath = "{self.log}"\n[credentials.uploader]\n[credentials.billing]\n'
        )
        self.config.chmod(0o600)
        self.minute = 0
        audit = self.writer()
        for count in (3, 2, 2):
            for _ in range(count):
                self.minute += 1
                name = "billing" if self.minute == 4 else "uploader"
                audit.record(
                    Event.PUBLISHED, credential=name, generation=self.minute, access_key_id=f"LTAI5t{self.minute}"
                )
            if count > 2:
                archive = self.log.with_name("audit.jsonl-1.gz")
                archive.write_bytes(gzip.compress(self.log.read_bytes()))
                self.log.unlink()
            elif not self.log.with_name("audit.jsonl-2").exists():
                self.log.rename(self.log.with_name("audit.jsonl-2"))
        audit.close()

    def writer(self) -> AuditLog:
        return AuditLog(
            self.log, self.log.with_name("head"), lambda: datetime(2026, 11, 22, 3, self.minute, 5, tzinfo=UTC)
        )

    def show(self, *options: str) -> int:
        return main(["--config", str(self.config), "audit", "show", *options])


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def shown(capsys: pytest.CaptureFixture[str]) -> list[int]:
    return [json.loads(line)["seq"] for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ((), [1, 2, 3, 4, 5, 6, 7]),
        (("--tail", "3"), [5, 6, 7]),
        (("--tail", "6"), [2, 3, 4, 5, 6, 7]),
        (("--tail", "0"), []),
        (("--tail", str(10**30)), [1, 2, 3, 4, 5, 6, 7]),
        (("--tail", "99", "--credential", "billing"), [4]),
        (("--tail", "1", "--since", "2026-11-22T03:02:00Z", "--credential", "uploader"), [7]),
        (("--since", "2026-11-22T03:06:00Z"), [6, 7]),
        (("--key", "LTAI5t3"), [3]),
        (("--key", "LTAI5t"), []),
    ],
)
def test_the_records_that_were_asked_for_are_shown_oldest_first(
    host: Host, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], wanted: list[int]
) -> None:
    """From all files, the compressed too, whatever is combined."""
    assert host.show("--json", *options) == EXIT_DONE
    assert shown(capsys) == wanted


def test_a_key_is_found_wherever_a_record_names_it(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    """As the key, as the one before, in a sentence, in a list; not as a part of another id."""
    audit = host.writer()
    for fields in (
        {"access_key_id": "LTAI5tX"},
        {"previous_access_key_id": "LTAI5tX", "access_key_id": "LTAI5tY"},
        {"error": "STS refused AccessKey LTAI5tX for 60 s"},
        {"left_behind": [{"dependent": "a", "why": "still on LTAI5tX."}]},
        {"access_key_id": "LTAI5tXX"},
    ):
        audit.record(Event.NOTIFIED, **fields)
    audit.close()
    assert host.show("--json", "--key", "LTAI5tX") == EXIT_DONE
    assert shown(capsys) == [8, 9, 10, 11]


def test_the_json_of_a_record_is_what_it_always_was(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    """Every field, in the order of the log, in one line."""
    host.show("--json", "--tail", "1")
    (line,) = host.log.read_text().splitlines()[-1:]
    assert capsys.readouterr().out == json.dumps(json.loads(line)) + "\n"


def test_mistakes_are_one_sentence(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    """A number that is none, a credential that nobody knows, also with --tail."""
    assert host.show("--tail", "-1") == EXIT_USAGE
    assert host.show("--tail", "3", "--credential", "uplaoder") == EXIT_USAGE
    assert capsys.readouterr().err.endswith("--credential uploader\n")


@pytest.mark.parametrize("options", [("--key", "LTAI5tNobodys"), ("--credential", "billing", "--since", "2027-01-01")])
def test_that_nothing_was_found_is_said(
    host: Host, capsys: pytest.CaptureFixture[str], options: tuple[str, ...]
) -> None:
    """Whatever was asked for; it is no failure, and standard output stays empty."""
    assert host.show("--json", *options) == EXIT_DONE
    out, err = capsys.readouterr()
    assert out == "" and str(host.log) in err
    host.show("--key", "LTAI5t3")
    assert capsys.readouterr().err == ""


def test_a_secret_in_the_place_of_a_key_is_refused_without_repeating_it(
    host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    """As `audit incident --key` and `rotate --leaked` do."""
    secret = "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0"
    assert host.show("--key", secret) == EXIT_USAGE
    out, err = capsys.readouterr()
    assert "--key" in err and secret not in out + err


def test_a_copy_needs_no_config(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    """As an auditor has it: the newest file is named, the rotated ones lie beside it."""
    host.config.unlink()
    assert host.show("--json", "--log", str(host.log), "--credential", "billing") == EXIT_DONE
    assert shown(capsys) == [4]
    assert host.show("--log", str(host.log), "--credential", "biling") == EXIT_USAGE


def test_a_log_that_was_just_rotated_is_there(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    """Between the rename and the next record only the rotated files are."""
    host.log.rename(host.log.with_name("audit.jsonl-3"))
    assert host.show("--json") == EXIT_DONE
    assert shown(capsys) == [1, 2, 3, 4, 5, 6, 7]


RECORD: dict[str, Any] = {
    "seq": 41,
    "time": "2026-11-22T20:04:05.678901Z",
    "event": "published",
    "credential": "uploader",
    "generation": 7,
    "access_key_id": NEW,
    "previous_access_key_id": OLD,
    "reason": "laptop stolen",
    "actor": {"uid": 1000, "user": "alice", "pid": 1},
    "sinks": ["/etc/a.ini [default]", "/run/a.env"],
    "trigger": "emergency",
    "duration_ms": 12,
}


def test_a_line_has_the_local_time_the_columns_and_the_most_telling_facts() -> None:
    """In a pipe the time names its zone, because whoever reads it may be elsewhere."""
    columns = Columns(["uploader", "billing-db"], None, CHINA)
    assert columns.line(RECORD) == (
        f"   41  2026-11-23 04:04:05+08:00  published           uploader    gen 7  {OLD} -> {NEW}  "
        '"laptop stolen"  by alice  /etc/a.ini [default] and 1 more  emergency  12 ms'
    )
    assert columns.line({"seq": 1, "event": "agent_started", "time": RECORD["time"]}).endswith("agent_started")


@pytest.mark.parametrize("width", [20, 50, 60, 80, 132, 200])
def test_a_terminal_gets_lines_that_fit_and_align(width: int) -> None:
    """Whatever letters a reason has; a letter of Chinese is two columns."""
    columns = Columns(["uploader", "计费"], width, CHINA)
    lines = [columns.line({**RECORD, "credential": name, "reason": "密钥泄露" * 30}) for name in ("uploader", "计费")]
    assert all(sum(2 if ord(each) > 0x2E80 else 1 for each in line) <= max(width, 48) for line in lines)
    if width >= 80:
        assert {sum(2 if ord(c) > 0x2E80 else 1 for c in line.partition("gen 7")[0]) for line in lines} == {47}
        assert all("…" in line for line in lines)


def test_a_terminal_is_told_the_day_once_and_its_zone() -> None:
    """Before the first record of each day, so that the lines have room for what happened; summer time has its own name."""
    columns = Columns(["uploader"], 100, ZoneInfo("Europe/Berlin"))
    times = [
        "2026-10-24T21:59:59Z",
        "2026-10-24T22:00:00Z",
        "2026-10-25T00:30:00Z",
        "2026-10-25T01:30:00Z",
        "2026-10-26T12:00:00Z",
    ]
    lines = [line for time in times for line in columns.lines({**RECORD, "time": time})]
    assert [line for line in lines if line.startswith("--")] == [
        "-- 2026-10-24, CEST (UTC+02:00)", "-- 2026-10-25, CEST (UTC+02:00)", "-- 2026-10-26, CET (UTC+01:00)",
    ]  # fmt: skip
    clocks = [line[7:25].split("  ")[0] for line in lines if not line.startswith("--")]
    assert clocks == ["23:59:59", "00:00:00", "02:30:00", "02:30:00 UTC+01:00", "13:00:00"]
    assert len(list(columns.lines({**RECORD, "time": "\x1b]0;x\x07"}))) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"event": "x\x1b[2J\nforged", "credential": "\r\x00"},
        {"actor": "root", "sinks": "none", "generation": [1, {"a": 2}], "error": {"b": None}, "time": "\x1b]0;x\x07"},
        {"left_behind": [{"dependent": "a\nb"}, 7, None], "steps": {"x": []}, "time": None, "seq": -1},
    ],
)
def test_a_record_that_a_stranger_forged_is_one_harmless_line(change: dict[str, Any]) -> None:
    """Whatever types it has."""
    line = Columns(["uploader"], 100, CHINA).line({**RECORD, **change})
    assert line.isprintable()


def test_every_event_is_good_bad_or_neither_and_an_error_is_bad() -> None:
    """Each that a credential can have is decided; an error in the record counts, but for a remark on the log."""
    neither = {"agent_started", "agent_stopped", "config_reloaded", "credential_fetched"}
    assert {*GOOD, *BAD, *SO_SO, *neither} == set(map(str, Event))
    assert mood({"event": "rotation_ended", "error": "x"}) == "bad"
    assert mood({"event": "agent_started", "error": "x"}) == "so-so"
    assert mood({"event": "agent_started"}) is None


def test_on_a_terminal_it_follows_the_log_in_colour_until_ctrl_c(host: Host) -> None:
    """Ten records to begin with, then what comes, over a rotation; Ctrl-C is the proper end. NO_COLOR is respected."""
    for extra, colour in ({"NO_COLOR": "1"}, False), ({}, True):
        ours, theirs = pty.openpty()
        environ = {**os.environ, "COLUMNS": "90", "LINES": "24", **extra}
        process = subprocess.Popen(
            [*KEYTURN, "--config", str(host.config), "audit", "show", "--follow", "--tail", "2"],
            stdin=subprocess.DEVNULL, stdout=theirs, stderr=subprocess.PIPE, env=environ,
        )  # fmt: skip
        os.close(theirs)
        text = ""

        def has(word: str, ours: int = ours) -> bool:
            nonlocal text
            text += os.read(ours, 65536).decode()
            return word in text

        eventually(lambda: has("gen 7"))
        host.log.rename(host.log.with_name(f"audit.jsonl-{3 + len(extra)}"))
        audit = host.writer()
        audit.record(Event.STALE, credential="billing", generation=99)
        audit.close()
        eventually(lambda: has("gen 99"))
        process.send_signal(signal.SIGINT)
        _out, errors = process.communicate(timeout=20)
        os.close(ours)
        assert (process.returncode, errors) == (EXIT_DONE, b"")
        assert ("\x1b[31mstale" in text) is colour
        assert all(len(re.sub(r"\x1b\[\d+m", "", line)) <= 90 for line in text.splitlines())


def test_a_reader_that_goes_away_is_no_fault(host: Host) -> None:
    """`audit show | head -1` says nothing on standard error."""
    command = f"{' '.join(KEYTURN)} --config {host.config} audit show"
    done = subprocess.run(
        ["sh", "-c", f"{{ {command}; {command}; }} | head -n 1"], capture_output=True, text=True, check=False
    )
    assert done.stdout.startswith("    1  ")
    assert done.stderr == ""
