"""How keyturn.service ends, wanted or not, and that nothing is lost either way."""

from __future__ import annotations

import json

from tests.support.processes import eventually
from tests.support.systemd.machine import INI, UNIT, Machine

WEDGE = """\
[credentials.wedge]
verify = "off"
[credentials.wedge.provider]
type = "wedge"
[[credentials.wedge.sinks]]
type = "json"
path = "/etc/uploader/wedge.json"
"""
GATED_HOOK = """\
[[credentials.uploader.notify]]
type = "exec"
command = ["/bin/sh", "-c", "test -e /run/test/open || exec sleep 600; true"]
timeout = "900s"
"""
"""A hook that hangs until the test opens the gate."""
QUICK = "RestartSec=100ms\nWatchdogSec=3s\n"
PROMPT_S = 15.0
"""Far above the three seconds that the daemon gives its workers; systemd kills what takes longer, and says `timeout`."""


def hooks(machine: Machine) -> str:
    """The processes of hanging hooks."""
    return machine.bed.run("pgrep", "-fx", "sleep 600").stdout


def test_a_wedged_scheduler_is_killed_and_started_again(machine: Machine) -> None:
    """The loop's thread stands still in a process that is otherwise alive: the watchdog is not fed, systemd restarts it."""
    machine.plugin("wedge")
    machine.configure(WEDGE)
    machine.drop_in(QUICK)
    machine.start()
    machine.picked_up(machine.cloud.current())
    pid = machine.pid
    machine.bed.write("/run/test/wedge", str(pid))
    eventually(lambda: "Watchdog timeout" in machine.journal())
    eventually(lambda: machine.show("ActiveState") == "active" and machine.pid not in (0, pid))
    eventually(lambda: machine.show("StatusText") == "2 of 2 credentials fresh")
    assert int(machine.show("NRestarts")) >= 1
    newest = machine.cloud.rotate()
    machine.picked_up(newest)
    assert [record["generation"] for record in machine.audit("published") if record["credential"] == "wedge"] == [1]


def test_a_stopped_process_is_killed_and_started_again(machine: Machine) -> None:
    """SIGSTOP, as a debugger or a hypervisor might leave it: the watchdog sees that too."""
    machine.drop_in(QUICK)
    machine.start()
    machine.picked_up(machine.cloud.current())
    pid = machine.pid
    machine.systemctl("kill", "--signal=STOP", "--kill-whom=main", UNIT)
    eventually(lambda: machine.pid not in (0, pid) and machine.show("ActiveState") == "active")
    assert "Watchdog timeout" in machine.journal()
    newest = machine.cloud.rotate()
    machine.picked_up(newest)


def test_it_stops_within_seconds_with_a_hook_running_and_kms_hanging(machine: Machine) -> None:
    """Neither a hook nor a call nor a third party's provider that hangs keeps the watchdog hungry, or the unit from stopping.

    `systemctl stop` succeeds in seconds, without SIGKILL; the hook's process is gone; what it was owed is told after
    the next start, of the same generation.
    """
    machine.plugin("wedge")
    machine.configure(WEDGE, notify=GATED_HOOK)
    machine.drop_in(QUICK + f"TimeoutStopSec={PROMPT_S:g}s\n")
    machine.start()
    machine.picked_up(machine.cloud.current())
    eventually(lambda: hooks(machine))
    since = machine.cloud.number()
    machine.cloud.fault("hang")
    machine.bed.write("/run/test/hang", "")
    eventually(lambda: machine.cloud.calls("GetSecretValue", since))
    fed = {machine.show("WatchdogTimestampMonotonic")}
    eventually(lambda: len(fed.add(machine.show("WatchdogTimestampMonotonic")) or fed) > 2, "it moves all the while")
    assert machine.systemctl("stop", UNIT).returncode == 0
    assert (machine.show("Result"), machine.show("ExecMainStatus")) == ("success", "0")
    assert hooks(machine) == ""
    assert machine.audit()[-1]["event"] == "agent_stopped"
    assert machine.show("NRestarts") == "0", "the watchdog found no fault"
    machine.cloud.clear()
    machine.bed.write("/run/test/open", "")
    machine.bed.do("rm", "/run/test/hang")
    machine.start()
    eventually(machine.told_all)
    assert machine.status()["generation"] == 1


def test_kill_9_loses_nothing_and_makes_no_new_generation(machine: Machine) -> None:
    """Killed while a hook runs: systemd restarts it, the files are untouched, what is owed is told, the chain is whole."""
    machine.configure(notify=GATED_HOOK)
    machine.drop_in(QUICK)
    machine.start()
    machine.picked_up(machine.cloud.current())
    eventually(lambda: hooks(machine))
    eventually(lambda: [each["owed"] for each in machine.status()["notify"]] == [False, True])
    told, file, pid = machine.tally()["told"], machine.bed.do("stat", "-c", "%i %y", INI), machine.pid
    machine.bed.write("/run/test/open", "")
    machine.systemctl("kill", "--signal=KILL", UNIT)
    eventually(lambda: machine.pid not in (0, pid) and machine.show("ActiveState") == "active")
    eventually(machine.told_all)
    assert machine.bed.do("stat", "-c", "%i %y", INI) == file
    assert [record["generation"] for record in machine.audit("published")] == [1]
    assert machine.tally()["told"] == told, "the application had been told, and is not told twice"
    assert machine.keyturn("audit", "verify").returncode == 0
    assert hooks(machine) == "", "systemd ended what the killed process had started"


def test_kill_9_again_and_again_while_keys_rotate(running: Machine) -> None:
    """Whatever it was doing: the newest key is in use at the end, generations have no gap, no request was refused."""
    running.drop_in("RestartSec=100ms")
    for _ in range(4):
        newest = running.cloud.rotate()
        running.systemctl("kill", "--signal=KILL", UNIT)
    running.picked_up(newest)
    running.cloud.retire()
    answered = running.tally()["answered"]
    eventually(lambda: running.tally()["answered"] > answered + 5, "the old keys are dead, and nobody uses them")
    generations = [record["generation"] for record in running.audit("published", "publish_recovered")]
    assert generations == list(range(1, len(generations) + 1))
    assert running.keyturn("audit", "verify").returncode == 0


def test_a_stopped_unit_leaves_its_directories_as_they_should_be(running: Machine) -> None:
    """The socket goes with the runtime directory; `status` answers from the disk and says so by 69."""
    assert running.systemctl("stop", UNIT).returncode == 0
    assert running.bed.run("test", "-e", "/run/keyturn/control.sock").returncode != 0
    done = running.keyturn("status", "--json")
    assert done.returncode == 69
    assert json.loads(done.stdout)["credentials"]["uploader"]["generation"] == 1
