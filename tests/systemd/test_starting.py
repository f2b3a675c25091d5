"""How keyturn.service starts: ready after the first pass, and up in whatever state the machine and the cloud are."""

from __future__ import annotations

import time

from tests.support.processes import eventually
from tests.support.systemd.machine import CONFIG, INI, UNIT, Machine

GATE = """\
[credentials.gate]
verify = "off"
[credentials.gate.provider]
type = "process"
command = ["/bin/cat", "/run/test/gate"]
[[credentials.gate.sinks]]
type = "json"
path = "/etc/uploader/gate.json"
"""
"""A credential whose source answers when the test writes into a fifo."""
ANSWER = '{"mode": "AK", "access_key_id": "LTAI5tGate", "access_key_secret": "' + "s" * 30 + '"}'


def test_ready_comes_after_the_first_pass(machine: Machine) -> None:
    """While one source has not answered, the unit is `activating`; then `systemctl start` returns and STATUS= says how it is."""
    machine.bed.do("mkfifo", "-m", "0644", "/run/test/gate")
    machine.configure(GATE)
    assert machine.systemctl("start", "--no-block", UNIT).returncode == 0
    machine.picked_up(machine.cloud.current())  # everything else is done
    assert machine.show("ActiveState") == "activating"
    assert machine.systemctl("is-active", "keyturn").stdout == "activating\n"
    machine.bed.do("sh", "-c", f"echo '{ANSWER}' >/run/test/gate")
    eventually(lambda: machine.show("ActiveState") == "active")
    eventually(lambda: machine.show("StatusText") == "2 of 2 credentials fresh")


def test_a_first_pass_may_take_longer_than_the_units_limit(machine: Machine) -> None:
    """A source that answers behind TimeoutStartSec=: systemd waits, shows for whom, and nothing is started a second time."""
    machine.drop_in("TimeoutStartSec=3s")
    machine.bed.do("mkfifo", "-m", "0644", "/run/test/gate")
    machine.configure(GATE)
    assert machine.systemctl("start", "--no-block", UNIT).returncode == 0
    eventually(lambda: machine.show("StatusText") == "starting: 1 of 2 credentials answered; waiting for gate")
    pid = machine.pid
    time.sleep(6)  # twice the limit: the absence of something takes time to see
    assert (machine.show("ActiveState"), machine.pid) == ("activating", pid)
    machine.bed.do("sh", "-c", f"echo '{ANSWER}' >/run/test/gate")
    eventually(lambda: machine.show("ActiveState") == "active")
    assert (machine.pid, machine.show("NRestarts")) == (pid, "0")
    eventually(lambda: machine.show("StatusText") == "2 of 2 credentials fresh")


def test_status_says_in_words_how_it_is(running: Machine) -> None:
    """`systemctl status` shows how many credentials are fresh, names the one that is not, and follows what happens."""

    def shown(text: str) -> bool:
        return f'Status: "{text}"' in running.systemctl("status", UNIT).stdout

    eventually(lambda: shown("1 of 1 credentials fresh"))
    running.cloud.fail(503)
    eventually(lambda: shown("0 of 1 credentials fresh; uploader failing"))
    running.cloud.clear()
    eventually(lambda: shown("1 of 1 credentials fresh"))


def test_an_invalid_config_ends_it_with_78_and_a_sentence(machine: Machine) -> None:
    """`systemctl start` fails, the status is EX_CONFIG, the journal names the key, and no restart hammers on."""
    machine.bed.write(CONFIG, machine.bed.read(CONFIG).replace("poll_interval", "pol_interval"), 0o640)
    since = machine.cursor()
    assert machine.systemctl("start", UNIT).returncode != 0
    assert machine.show("ExecMainStatus") == "78"
    assert machine.show("ActiveState") == "failed"
    assert machine.show("NRestarts") == "0"
    (line,) = [line for line in machine.journal(since, "-o", "cat").splitlines() if "pol_interval" in line]
    assert "poll_interval" in line, "the nearest known key is named"


def test_it_starts_with_the_source_down_and_serves_what_is_on_disk(running: Machine) -> None:
    """KMS away, then everything away: READY, the file untouched, the application undisturbed; it catches up by itself."""
    file = running.bed.do("stat", "-c", "%i %y %U:%G %a", INI)
    running.cloud.fail(503)
    assert running.systemctl("restart", UNIT).returncode == 0
    answered = running.tally()["answered"]
    eventually(lambda: "failing" in running.show("StatusText"))
    assert running.bed.do("stat", "-c", "%i %y %U:%G %a", INI) == file
    eventually(lambda: running.tally()["answered"] > answered + 10, "the application works on")
    running.cloud.go()
    assert running.systemctl("restart", UNIT).returncode == 0
    assert running.bed.do("stat", "-c", "%i %y %U:%G %a", INI) == file
    newest = running.cloud.rotate()
    running.cloud.clear()
    running.picked_up(newest)


def test_it_starts_with_no_source_ever_reached(machine: Machine) -> None:
    """The very first start, nothing on disk, nobody answers: READY all the same, and the first value comes when it can."""
    machine.cloud.go()
    machine.start()
    assert machine.show("StatusText") == "0 of 1 credentials fresh; uploader failing"
    machine.cloud.come()
    eventually(lambda: "1 of 1" in machine.show("StatusText"))
    assert machine.cloud.current() in machine.bed.read(INI)


def test_it_starts_before_the_time_is_set(running: Machine) -> None:
    """A clock six hours off: every service refuses what is signed; the value on disk stays, no traceback; then all is well.

    The clock of a namespace cannot be set, so the cloud's is: to who signs it is the same.
    """
    file = running.bed.do("stat", "-c", "%i %y", INI)
    assert running.systemctl("stop", UNIT).returncode == 0
    running.cloud.skew(seconds=6 * 3600)
    running.start()
    eventually(lambda: "failing" in running.show("StatusText"))
    refused = [call for call in running.cloud.calls("GetSecretValue") if call["code"].startswith("InvalidTimeStamp")]
    assert refused, "KMS refuses a signature of another time"
    assert running.bed.do("stat", "-c", "%i %y", INI) == file
    assert "clock" in running.status()["last_error"], "the sentence names the cause"
    newest = running.cloud.rotate()
    running.cloud.clear()
    running.picked_up(newest)
    assert running.audit("published")[-1]["generation"] == 2


NO_NETWORK = """\
ExecStartPre=/bin/true
ExecStartPre=+ip link set lo down
"""
"""systemd 252 sets lo up for the first process of a unit with PrivateIPC= (setup_shareable_ns calls loopback_setup)."""


def test_a_machine_that_loses_power_boots_into_service(running: Machine) -> None:
    """Enabled, a cut, a boot with no network: READY, the same generation, nothing lost; then network, then the cloud.

    keyturn is up before the cloud: the source is down at boot, and is found when it comes.
    """
    running.systemctl("enable", UNIT)
    running.drop_in(NO_NETWORK, kept=True)
    file = running.bed.do("stat", "-c", "%i %y", INI)
    assert running.refused() == {}
    running.bed.cut_power()
    running.bed.boot()
    try:
        eventually(lambda: running.show("ActiveState") == "active")
        assert "state DOWN" in running.bed.do("ip", "link", "show", "lo")
        assert running.show("NRestarts") == "0"
        said = [entry["MESSAGE"].split()[0] for entry in running.entries()]
        assert said[:2] == ["started", "ready"], "in this order, although it is ready at once"
        eventually(lambda: "failing" in running.show("StatusText"))
        assert running.bed.do("stat", "-c", "%i %y", INI) == file
    finally:
        running.bed.do("ip", "link", "set", "lo", "up")
        running.systemctl("disable", UNIT)
        running.start_cloud()
        running.systemctl("start", "uploader", "other")
    eventually(lambda: running.show("StatusText") == "1 of 1 credentials fresh")
    assert running.status()["generation"] == 1
    newest = running.cloud.rotate()
    running.picked_up(newest)
    assert [record["generation"] for record in running.audit("published")] == [1, 2]
    assert running.keyturn("audit", "verify").returncode == 0
