"""What the journal shows: one line per event, with fields to select by, and errors as errors."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.support.processes import eventually
from tests.support.systemd.machine import UNIT, Machine


def text(entry: dict[str, Any]) -> str:
    """The message; journalctl gives bytes as numbers where it is no plain text."""
    assert isinstance(entry["MESSAGE"], str), "no control characters, no binary"
    return str(entry["MESSAGE"])


def test_one_line_per_event_with_its_fields(running: Machine) -> None:
    """A rotation is `published` and `notified`, an entry each: named credential, event and generation, and no secret."""
    since = running.cursor()
    newest = running.cloud.rotate()
    running.picked_up(newest)
    eventually(lambda: [each for each in running.entries(since) if text(each).startswith("notified")])
    entries = [each for each in running.entries(since, "CREDENTIAL=uploader")]
    assert [text(each).split()[0] for each in entries] == ["published", "notified"]
    for entry in entries:
        assert (entry["PRIORITY"], entry["SYSLOG_IDENTIFIER"]) == ("6", "keyturn")
        assert "\n" not in text(entry)
    assert entries[0]["GENERATION"] == "2"
    assert entries[0]["ACCESS_KEY_ID"] == newest


def test_the_journal_is_selected_by_credential_as_the_operator_does_it(running: Machine) -> None:
    """`journalctl -u keyturn CREDENTIAL=uploader` shows that credential's lines, CREDENTIAL=other none."""
    shown = running.journal("-o", "cat", "CREDENTIAL=uploader")
    assert "published" in shown
    assert not re.search("^started", shown, re.M), "what is about no credential is left out"
    assert running.journal("-o", "cat", "CREDENTIAL=other") in ("", "-- No entries --\n")


def test_what_is_temporary_is_a_warning_and_said_once(machine: Machine) -> None:
    """`journalctl -p err` stays empty while a source fails for a while: one `fetch failed`, however often it is tried.

    What an error is, and that it has that priority: test_reloading.py.
    """
    since = machine.cursor()
    machine.start()
    machine.cloud.fail(503)
    eventually(lambda: machine.status()["consecutive_failures"] > 2, "tried again, by more than one refresh")
    machine.cloud.clear()
    eventually(lambda: "1 of 1" in machine.show("StatusText"))
    assert machine.journal(since, "-o", "cat", "-p", "err") in ("", "-- No entries --\n")
    (failure,) = [each for each in machine.entries(since) if text(each).startswith("fetch failed")]
    assert (failure["PRIORITY"], failure["CREDENTIAL"]) == ("4", "uploader")


def test_an_outage_is_one_line(running: Machine) -> None:
    """Nothing listens any more at the source: of all lines that come while it is tried again and again, one tells of it."""
    since = running.cursor()
    running.cloud.go()
    try:
        eventually(lambda: running.status()["consecutive_failures"] > 3, "tried again and again")
        (failure,) = running.entries(since)
    finally:
        running.cloud.come()
    assert text(failure).startswith("fetch failed") and "connection refused" in text(failure)
    assert (failure["PRIORITY"], failure["CREDENTIAL"]) == ("4", "uploader")
    eventually(lambda: "1 of 1" in running.show("StatusText"))
    assert [text(each).split()[0] for each in running.entries(since)] == ["fetch", "recovered"]


@pytest.mark.parametrize("form", ["auto", "json"])
def test_whatever_the_format_a_start_and_a_stop_are_a_handful_of_lines(machine: Machine, form: str) -> None:
    """started, published, ready, notified, stopped, in this order as far as one causes the other; no line is torn or empty."""
    machine.configure(agent=f'log_format = "{form}"')
    since = machine.cursor()
    machine.start()
    machine.picked_up(machine.cloud.current())
    eventually(lambda: [each for each in machine.entries(since) if "notified" in text(each)])
    machine.systemctl("stop", UNIT)
    lines = [text(each) for each in machine.entries(since)]
    words = ("started", "published", "ready", "notified", "stopped")
    assert len(lines) == len(words), lines
    where = {
        word: next(place for place, line in enumerate(lines) if word in line.split("status=")[0]) for word in words
    }
    assert where["started"] < where["published"] < where["notified"] < where["stopped"]
    assert where["started"] < where["ready"]
