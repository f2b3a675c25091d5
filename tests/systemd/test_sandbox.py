"""The sandbox as a real systemd makes it: what is written in the unit and the drop-in is what the service gets.

A program that only sleeps stands in for keyturn; tests/systemd has the daemon itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.system.files import MISSING_CREDENTIAL
from agent.systemd_setup import render
from agent.systemd_setup.check_command import check_command
from agent.systemd_setup.needs import DEFAULT_CONFIG
from tests.support.hosts import PROVIDER, needs, sink
from tests.support.systemd.bed import Bed, missing

SHIPPED = Path(__file__).parents[2] / "systemd"
SLEEPS = "[Service]\nType=exec\nExecStart=\nExecStart=/bin/sleep infinity\nWatchdogSec=0\n"  # exec: in its sandbox when started
ODD = "/srv/a b:c/%n/q'uo\"te"
ALICE = "/home/alice/.app"
NEEDS = needs(
    sink("/etc/app/c.ini", group="adm", mode="0640"),
    sink("/srv/a b:c/%n/q'uo\\\"te/c.ini"),
    sink(f"{ALICE}/c.ini", owner="root"),
    sink("/run/app/c.ini"),
    sink("/srv/not there/c.ini"),
    provider=PROVIDER.replace("/etc/keyturn/id", "${CREDENTIALS_DIRECTORY}/ops-id"),
)
MAY = ["/etc/app", ODD, ALICE, "/run/app", "/run/keyturn", "/var/lib/keyturn", "/var/log/keyturn", "/tmp"]
MAY_NOT = ["/etc", "/etc/keyturn", "/run", "/run/lock", "/srv", "/usr", "/var", "/opt", "/run/systemd"]


@pytest.fixture(scope="module")
def bed() -> Iterator[Bed]:
    """A machine on which the unit runs with a drop-in."""
    if why := missing():
        pytest.skip(why)
    with Bed() as made:
        for name in ("sysusers", "tmpfiles"):
            made.write(f"/usr/lib/{name}.d/keyturn.conf", (SHIPPED / f"keyturn.{name}.conf").read_text())
        made.do("systemd-sysusers")
        made.do("systemd-tmpfiles", "--create", "keyturn.conf")
        made.do("mkdir", "-p", "/etc/app", ODD, ALICE, f"{ALICE}/../.ssh", "/run/app")
        made.write("/lib/systemd/system/keyturn.service", (SHIPPED / "keyturn.service").read_text())
        drop_ins = "/etc/systemd/system/keyturn.service.d"
        made.write(f"{drop_ins}/50-keyturn.conf", render.drop_in(NEEDS, DEFAULT_CONFIG))
        made.write(f"{drop_ins}/90-test.conf", SLEEPS)
        made.write("/etc/keyturn/client_key_password", "s3cret", 0o600)
        made.do("systemctl", "daemon-reload")
        made.do("systemctl", "start", "keyturn")
        yield made


def inside(bed: Bed, *command: str) -> tuple[int, str]:
    """Run something as root within what the service sees of the file system."""
    pid = bed.do("systemctl", "show", "--value", "--property=MainPID", "keyturn").strip()
    done = bed.run("nsenter", f"--target={pid}", "--mount", "--", *command)
    return done.returncode, done.both


@pytest.mark.parametrize("directory", MAY)
def test_a_directory_of_a_sink_can_be_written(bed: Bed, directory: str) -> None:
    """However its name is spelt; one that does not exist did not keep the unit from starting."""
    assert inside(bed, "touch", f"{directory}/probe") == (0, "")


@pytest.mark.parametrize("directory", MAY_NOT)
def test_nothing_else_can(bed: Bed, directory: str) -> None:
    """Not even by root: it is read-only. /run too, which ProtectSystem=strict alone leaves open here, and the config."""
    code, said = inside(bed, "touch", f"{directory}/probe")
    assert code and "Read-only file system" in said


def test_of_the_homes_only_the_sinks_directory_is_seen(bed: Bed) -> None:
    """Alice's .ssh is not there."""
    assert inside(bed, "ls", "-A", "/home/alice") == (0, ".app\n")
    assert inside(bed, "ls", "-A", "/home", "/root")[1].split() == ["/home:", "alice", "/root:"]


def test_a_missing_credential_is_marked_and_the_others_are_there(bed: Bed) -> None:
    """The unit started all the same (without SetCredential= systemd 252 ends it with 243/CREDENTIALS)."""
    directory = "/run/credentials/keyturn.service"
    for name in ("client_key.json", "ops-id"):
        assert inside(bed, "cat", f"{directory}/{name}") == (0, MISSING_CREDENTIAL.decode())
    assert inside(bed, "cat", f"{directory}/client_key_password") == (0, "s3cret")


def test_the_first_command_of_a_reload_brings_no_credential_and_the_second_does(bed: Bed) -> None:
    """systemd 252 writes the files when the unit starts, and before each command of a list but the first."""
    override = "/etc/systemd/system/keyturn.service.d/91-test.conf"
    bed.write("/etc/keyturn/client_key_password", "rotated", 0o600)
    for count, given in ((1, "s3cret"), (2, "rotated")):
        bed.write(override, "[Service]\nExecReload=\n" + count * "ExecReload=/bin/true\n")
        bed.do("systemctl", "daemon-reload")
        bed.do("systemctl", "reload", "keyturn")
        assert inside(bed, "cat", "/run/credentials/keyturn.service/client_key_password") == (0, given)


KINDS = (
    "Ambient", "Bind", "Capab", "Config", "Device", "Group", "Keyring", "LimitCORE", "LimitNOFILE", "Load", "Lock", "Logs",
    "MemoryDeny", "NoNew", "Private", "Proc", "Protect", "ReadO", "ReadW", "RemoveIPC", "Restrict", "SetCred", "State",
    "Suppl", "SystemCall", "TasksMax", "UMask", "User",
)  # fmt: skip
NOT_KINDS = ("StateChange",)


def test_the_check_command_runs_in_the_same_sandbox(bed: Bed) -> None:
    """Every property that systemd knows of the two units is the same."""
    fragments = {"50-keyturn.conf": "", "90-test.conf": SLEEPS}
    unit = (SHIPPED / "keyturn.service").read_text()
    command = check_command(unit, fragments, render.drop_in(NEEDS, DEFAULT_CONFIG), "/c")
    sleeping = command.replace("--pipe --wait", "").partition(" /usr/bin/keyturn ")[0] + " /bin/sleep infinity"
    bed.do("sh", "-c", sleeping)
    shown = {unit: properties(bed, unit) for unit in ("keyturn", "keyturn-check")}
    bed.do("systemctl", "stop", "keyturn-check")
    assert len(shown["keyturn"]) > 45 and shown["keyturn"] == shown["keyturn-check"]


def properties(bed: Bed, unit: str) -> dict[str, str]:
    lines = (line.partition("=") for line in bed.do("systemctl", "show", unit).splitlines())
    return {key: value for key, _equals, value in lines if key.startswith(KINDS) and not key.startswith(NOT_KINDS)}
