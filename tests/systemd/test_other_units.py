"""What is shipped beside keyturn.service: the timer for those who prefer one, and the rotation of the audit log."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from agent.systemd_setup import daemon_or_timer
from tests.support.processes import eventually
from tests.support.systemd.install import ROOT
from tests.support.systemd.machine import INI, UNIT, Machine

TIMER, ONCE = "keyturn-once.timer", "keyturn-once.service"


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
    unit = "keyturn-once.service"
    since = machine.cursor()
    machine.cloud.fail(403)  # which is not tried again
    assert machine.systemctl("start", unit).returncode != 0
    machine.cloud.clear()
    (failure,) = machine.entries(since, unit=unit)
    assert failure["MESSAGE"].startswith("fetch failed")
    assert (failure["PRIORITY"], failure["CREDENTIAL"]) == ("3", "uploader")


def test_the_timer_and_the_daemon_are_not_at_work_together(running: Machine) -> None:
    """Starting the timer stops the daemon, and the other way round."""
    assert running.systemctl("start", TIMER).returncode == 0
    eventually(lambda: running.show("ActiveState") == "inactive")
    assert running.systemctl("start", UNIT).returncode == 0
    assert running.show("ActiveState", TIMER) == "inactive"
    assert running.show("ActiveState") == "active"
    newest = running.cloud.rotate()
    running.picked_up(newest)


@pytest.mark.parametrize("how", [f"systemctl start {UNIT}", daemon_or_timer.TO_DAEMON])
def test_the_daemon_does_not_wait_for_a_run_of_the_timer_s(machine: Machine, how: str) -> None:
    """In an outage a run goes on for minutes; whoever wants the daemon has it at once, and no unit is failed."""
    machine.cloud.fail(503)
    machine.bed.do("systemctl", "start", TIMER)
    machine.bed.do("systemctl", "start", "--no-block", ONCE)
    eventually(lambda: machine.cloud.failures("GetSecretValue"))
    machine.bed.do("sh", "-euc", how, timeout_s=15)
    assert (machine.show("ActiveState"), machine.show("ActiveState", ONCE)) == ("active", "inactive")
    assert machine.systemctl("--failed", "--plain", "--no-legend").stdout == ""
    machine.cloud.clear()
    machine.picked_up(machine.cloud.rotate())


def test_one_of_the_two_is_enabled_and_check_says_so(running: Machine) -> None:
    """As the units tell to do it: after a boot what was chosen runs; with both enabled `check` warns, with what mends it."""
    try:
        running.bed.do("systemctl", "enable", UNIT, TIMER)
        warned = running.keyturn("check", "--offline").stdout
        assert (
            f"both enabled, and only one of them runs after a boot; for the daemon, `{daemon_or_timer.TO_DAEMON}`"
            in warned
        )
        assert f"for the timer, `{daemon_or_timer.TO_TIMER}`" in warned
        for remedy, chosen, other in (
            (daemon_or_timer.TO_TIMER, TIMER, UNIT),
            (daemon_or_timer.TO_DAEMON, UNIT, TIMER),
        ):
            running.bed.do("sh", "-euc", remedy)
            assert "both enabled" not in running.keyturn("check", "--offline").stdout
            states = [
                (running.show("UnitFileState", unit), running.show("ActiveState", unit)) for unit in (chosen, other)
            ]
            assert states == [("enabled", "active"), ("disabled", "inactive")]
    finally:
        running.bed.do("systemctl", "disable", UNIT, TIMER)


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
        eventually(
            lambda: f"-{int(time.time())}" not in machine.bed.do("ls", "/var/log/keyturn"), "names are by the second"
        )
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
