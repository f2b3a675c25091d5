"""What commands print of what a daemon, a source or a hook says: no line can be forged, and no terminal driven."""

from __future__ import annotations

import io
import time
from datetime import UTC, datetime
from typing import Any

import pytest

from agent.cli import refresh_output, rotate_output
from agent.cli.main import main
from agent.cli.status_output import status_lines
from agent.core.errors import KeyturnError

HOSTILE = "up\x1b]0;owned\x07\nuploader: fresh\r\x9b2J"
NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
NOTIFY = {"type": HOSTILE, "target": HOSTILE, "last_outcome": HOSTILE, "owed": True, "pickup": HOSTILE}
CREDENTIAL = {
    **dict.fromkeys(("state", "access_key_id", "last_error"), HOSTILE),
    **dict.fromkeys(("published_at", "expires_at", "next_refresh_at"), "2026-11-22T12:00:00Z"),
    "generation": 1,
    "verified": True,
    "consecutive_failures": 1,
    "sinks": [{"type": HOSTILE, "target": HOSTILE, "in_sync": False}],
    "notify": [NOTIFY],
}
AGENT = {"version": HOSTILE, "pid": 1, "started_at": HOSTILE, "config": HOSTILE}
REFUSED = {**AGENT, "config_refused_at": HOSTILE, "config_problems": [HOSTILE, HOSTILE]}
ROW = {
    **dict.fromkeys(("credential", "outcome", "access_key_id", "error"), HOSTILE),
    "generation": 1,
    "notify": [NOTIFY],
}
RESULT = {
    **dict.fromkeys(("credential", "old_access_key_id", "new_access_key_id", "error"), HOSTILE),
    "notes": [HOSTILE],
    "generation": 1,
    "safe": False,
    "all_moved": False,
    "left_behind": [dict.fromkeys(("credential", "dependent", "reason", "move"), HOSTILE)],
    "assumed": [{"credential": HOSTILE, "dependent": HOSTILE}],
    "old_key": "active",
}


def test_status_is_shown_line_by_line() -> None:
    """One line for the agent, the table's head, the credential, each of its three troubles, and the sum."""
    whole: dict[str, Any] = {"agent": AGENT, "credentials": {HOSTILE: CREDENTIAL}}
    lines = list(status_lines(whole, NOW))
    assert len(lines) == 7
    assert all(line.isprintable() for line in lines), lines


def test_a_refused_config_is_shown_with_each_problem() -> None:
    """Behind the line of the agent, a line for each; an older daemon that does not say leaves them out."""
    lines = list(status_lines({"agent": REFUSED, "credentials": {HOSTILE: CREDENTIAL}}, NOW))
    assert len(lines) == 9
    assert all("refused" in line and line.isprintable() for line in lines[1:3]), lines


def test_all_moved_names_who_is_only_assumed(capsys: pytest.CaptureFixture[str]) -> None:
    """Some of many; an older daemon, which does not say, leaves the clause out."""
    done = RESULT | {"safe": True, "time_to_safe_ms": 4200, "all_moved": True, "left_behind": [], "notes": []}
    del done["error"]
    told = [{"credential": "uploader", "dependent": f"signal {name}"} for name in "abcdefg"]
    rotate_output.rotated(done | {"assumed": told})
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.endswith("; only assumed: signal a, signal b, signal c, signal d, signal e, and 2 more")
    del done["assumed"]
    rotate_output.rotated(done)
    assert "assumed" not in capsys.readouterr().out


def test_the_outcome_of_an_emergency_is_out_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in a pipe: the document of `--report` is written behind it, which takes a while and says so on standard error."""
    pipe = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(pipe, encoding="utf-8"))
    rotate_output.rotated(RESULT)
    assert pipe.getvalue().decode().splitlines()[-1].startswith("not safe: ")


def test_outcomes_are_shown_line_by_line(capsys: pytest.CaptureFixture[str]) -> None:
    """What `refresh` did: a line each for the outcome, the error and the dependent. `rotate`: a line for each thing it says."""
    refresh_output.refreshed({"credentials": [ROW]})
    rotate_output.rotated(RESULT)
    rotate_output.RotateProgress()({"at_ms": 1, "name": HOSTILE, "outcome": HOSTILE, "detail": HOSTILE})
    printed = capsys.readouterr()
    for stream, count in ((printed.out, 6), (printed.err, 2)):
        lines = stream.split("\n")
        assert len(lines) == count + 1
        assert all(line.isprintable() for line in lines), lines


def test_a_rotation_that_waits_for_somebody_has_a_line() -> None:
    """With what to do; one that waits for its time has none, and no line can be forged."""
    stopped = {"waits_for": HOSTILE, "remedy": HOSTILE, "stopped": True}
    waits = {"waits_for": "the key before", "remedy": None, "stopped": False}
    shown = [
        list(status_lines({"agent": AGENT, "credentials": {"batch": {**CREDENTIAL, "rotation": one}}}, NOW))
        for one in (stopped, waits)
    ]
    assert [len(lines) for lines in shown] == [8, 7]
    assert all(line.isprintable() for line in shown[0])


def test_the_fleet_is_told_before_the_last_line(capsys: pytest.CaptureFixture[str]) -> None:
    """How many other hosts proved the new key, and which did not."""
    rows = [
        {"host": "web-2", "state": "live", "moved": True, "at_ms": 3, "why": None},
        {
            "host": "web-3",
            "state": "absent",
            "moved": False,
            "at_ms": None,
            "why": "it has not fetched the new version",
        },
    ]
    rotate_output.rotated({**RESULT, "fleet": rows})
    *_before, fleet, _last = capsys.readouterr().out.splitlines()
    assert (
        fleet == "fleet: 1 of 2 other hosts proved the new key; not web-3 (absent; it has not fetched the new version)"
    )


def test_an_error_tells_its_times_in_the_zone_of_whoever_reads_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a terminal or in a file; the journal of systemd, like every log, has them as they are."""
    monkeypatch.setenv("TZ", "Asia/Shanghai")
    time.tzset()
    monkeypatch.setattr(
        "agent.cli.main._run", lambda _options: (_ for _ in ()).throw(KeyturnError("begun at 2026-11-30T17:30:00Z"))
    )
    assert main(["status"]) == 1
    assert "begun at 2026-12-01 01:30:00 UTC+08:00" in capsys.readouterr().err
    monkeypatch.setattr("agent.cli.main.journal_prefix", lambda *_args: "<3>")
    assert main(["status"]) == 1
    assert "<3>keyturn: begun at 2026-11-30T17:30:00Z" in capsys.readouterr().err
    monkeypatch.undo()
    time.tzset()
