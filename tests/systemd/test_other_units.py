"""What is shipped beside keyturn.service: the timer for those who prefer one, and the rotation of the audit log."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from bed_install import ROOT
from bed_machine import INI, UNIT, Machine, eventually


def test_once_does_a_whole_pass_as_a_oneshot(machine: Machine) -> None:
    """`systemctl start keyturn-once`: fetched, published, the application reloaded, done; a second one changes nothing."""
    done = machine.systemctl("start", "keyturn-once.service")
    assert done.returncode == 0, done.both + machine.journal(unit="keyturn-once.service")
    machine.picked_up(machine.cloud.current())
    file = machine.bed.do("stat", "-c", "%i %y", INI)
    newest = machine.cloud.rotate()
    assert machine.systemctl("start", "keyturn-once.service").returncode == 0
    machine.picked_up(newest)
    assert machine.bed.do("stat", "-c", "%i %y", INI) != file
    assert [record["generation"] for record in machine.audit("published")] == [1, 2]


def test_once_is_logged_with_fields(machine: Machine) -> None:
    """What keyturn-once does and what fails is one entry per event, with priority and credential, as of the daemon."""
    unit, mine = "keyturn-once.service", "_SYSTEMD_UNIT=keyturn-once.service"
    since = machine.cursor()
    machine.cloud.fail(403)  # which is not tried again
    assert machine.systemctl("start", unit).returncode != 0
    machine.cloud.clear()
    lines = machine.journal(since, "-o", "json", mine, unit=unit).splitlines()
    (failure,) = map(json.loads, lines)
    assert failure["MESSAGE"].startswith("fetch failed")
    assert (failure["PRIORITY"], failure["CREDENTIAL"]) == ("3", "uploader")


def test_the_timer_and_the_daemon_are_not_at_work_together(running: Machine) -> None:
    """Starting the timer stops the daemon, and the other way round, also while a run of the timer's is under way."""
    assert running.systemctl("start", "keyturn-once.timer").returncode == 0
    eventually(lambda: running.show("ActiveState") == "inactive")
    running.systemctl("start", UNIT)  # may find that run at work, and is then tried again by Restart=
    assert running.show("ActiveState", "keyturn-once.timer") == "inactive"
    eventually(lambda: running.show("ActiveState") == "active")
    newest = running.cloud.rotate()
    running.picked_up(newest)


SNIPPET = "/etc/logrotate.d/keyturn"


@pytest.fixture
def logrotate(running: Machine) -> Machine:
    """Skips where Debian's logrotate is not installed."""
    if not Path("/usr/sbin/logrotate").exists():
        pytest.skip("logrotate is not installed")
    running.bed.write(SNIPPET, (ROOT / "systemd" / "keyturn.logrotate").read_text())
    return running


def test_logrotate_does_not_break_the_audit_chain(logrotate: Machine) -> None:
    """Rotated twice under a running daemon, compressed on the way: every record is there, and `audit verify` says whole."""
    machine = logrotate
    for _ in range(3):
        newest = machine.cloud.rotate()
        machine.picked_up(newest)
        done = machine.bed.run("logrotate", "--force", SNIPPET)
        assert done.returncode == 0, done.both
    newest = machine.cloud.rotate()
    machine.picked_up(newest)
    eventually(lambda: machine.audit("published"))
    logs = machine.bed.do("ls", "/var/log/keyturn").split()
    assert len(logs) == 4 and any(name.endswith(".gz") for name in logs), logs
    done = machine.keyturn("audit", "verify")
    assert done.returncode == 0, done.both
    shown = machine.keyturn("audit", "show", "--json").stdout
    assert shown.count('"event": "published"') + shown.count('"event":"published"') == 5
    assert machine.show("ActiveState", UNIT) == "active"
