"""The bed's own promises: it leaves nothing behind however it ends, and what runs inside is a real systemd."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.processes import ROOT, eventually
from tests.support.systemd import bed
from tests.support.systemd.bed import Bed, BedError

pytestmark = pytest.mark.usefixtures("possible")

CAP_SYS_TIME = 25
"""linux/capability.h"""


@pytest.fixture(scope="module")
def one() -> Iterator[Bed]:
    """A bed for those who do not end it."""
    with Bed() as made:
        yield made


def traces(name: str) -> list[str]:
    """What there is of a bed on this host."""
    found = [str(place) for place in (Path(tempfile.gettempdir()) / name, bed._cgroup_mount() / name) if place.exists()]
    found += [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if name in line]
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = process.read_bytes()
        except OSError:
            continue  # it ended meanwhile
        if name.encode() in command:
            found.append(f"{process}: {command!r}")
    return found


def test_a_bed_leaves_nothing_behind() -> None:
    """No process, mount, control group or file; and what was written inside was never written to the host."""
    with Bed() as one:
        leader, name = one.leader, one.directory.name
        for place in ("/usr/bin", "/etc", "/var/lib", "/root", "/tmp", "/opt"):
            one.do("touch", f"{place}/{name}")
        assert traces(name)
    assert traces(name) == []
    assert not Path(f"/proc/{leader}").exists()
    assert not [str(place) for place in Path("/").glob(f"*/{name}")]
    assert not Path(f"/usr/bin/{name}").exists() and not Path(f"/var/lib/{name}").exists()


ANOTHER = """\
import sys, time
from tests.support.systemd.bed import Bed
bed = Bed(ttl_s=int(sys.argv[1]))
bed.boot()
print(bed.directory.name, bed._keeper.pid, flush=True)
time.sleep(1000)
"""


@pytest.fixture
def another() -> object:
    """Starts a test run of its own with a bed; gives its process, the bed's name and the keeper's pid."""
    started: list[subprocess.Popen[str]] = []

    def start(ttl_s: int = 600) -> tuple[subprocess.Popen[str], str, int]:
        run = subprocess.Popen([sys.executable, "-c", ANOTHER, str(ttl_s)], stdout=subprocess.PIPE, text=True, cwd=ROOT)
        started.append(run)
        assert run.stdout is not None
        name, keeper = run.stdout.readline().split()
        return run, name, int(keeper)

    yield start
    for run in started:
        run.kill()
        run.wait()


Start = Callable[..., tuple["subprocess.Popen[str]", str, int]]


def test_a_killed_test_run_takes_its_bed_with_it(another: Start) -> None:
    """SIGKILL of the run: its bed sees the end of the pipe, and cleans up as always."""
    run, name, _keeper = another()
    assert traces(name)
    run.kill()
    run.wait()
    eventually(lambda: not traces(name))


def test_a_killed_keeper_takes_the_machine_with_it_and_is_swept(another: Start) -> None:
    """SIGKILL of the keeper: every process dies with it, and the next bed removes the directory and the control group."""
    _run, name, keeper = another()
    leader = int((Path(tempfile.gettempdir()) / name / "leader").read_text())
    os.kill(keeper, signal.SIGKILL)
    eventually(lambda: bed._state_of(leader) in ("", "Z"))
    assert (Path(tempfile.gettempdir()) / name).exists(), "nobody was left to remove it"

    def swept() -> bool:
        bed.sweep()
        return not [trace for trace in traces(name) if "cmdline" not in trace]

    eventually(swept)


def test_a_bed_ends_when_its_time_is_up(another: Start) -> None:
    """A forgotten bed does not run for ever, even while whoever started it lives on."""
    run, name, _keeper = another(ttl_s=3)
    eventually(lambda: not traces(name))
    assert run.poll() is None


def test_beds_stand_side_by_side(one: Bed) -> None:
    """Two at once know nothing of each other: files, units, the port of a service on loopback."""
    serve = ("systemd-run", "--unit=mine", "python3", "-m", "http.server", "--bind", "127.0.0.1", "8000")
    with Bed() as two:
        for each in (one, two):
            each.write("/etc/mark", "mine")
            each.do(*serve)
        one.do("rm", "/etc/mark")
        one.do("systemctl", "stop", "mine")
        assert two.read("/etc/mark") == "mine"
        assert two.run("systemctl", "is-active", "mine").stdout == "active\n"


def test_the_tree_outlives_a_boot_and_a_power_cut() -> None:
    """What was written is there after a reboot and after a cut; the journal knows three boots."""
    with Bed() as one:
        one.write("/etc/kept", "kept")
        one.power_off()
        assert not one.alive
        one.boot()
        one.cut_power()
        one.boot()
        assert one.read("/etc/kept") == "kept"
        eventually(lambda: len(one.do("journalctl", "--list-boots", "--quiet", "--no-pager").splitlines()) >= 3)


def test_commands_come_back_as_they_ended(one: Bed) -> None:
    """Status, output, errors, input, the user; a child left behind holds nothing up, and one that hangs is ended."""
    done = one.run("sh", "-c", "cat; echo wrong >&2; exit 7", stdin="given\n")
    assert (done.returncode, done.stdout, done.stderr) == (7, "given\n", "wrong\n")
    assert one.do("id", "-un", user="daemon") == "daemon\n"
    began = time.monotonic()
    one.do("sh", "-c", "sleep 500 & echo begun")
    assert time.monotonic() - began < 100, "it waited for the child"
    with pytest.raises(BedError, match="longer than"):
        one.run("sleep", "500", timeout_s=0.2)


def test_what_a_service_needs_is_there(one: Bed) -> None:
    """LoadCredential= has the content, the sandbox holds, systemd is content."""
    one.write("/etc/secret", "the secret", 0o600)
    wanted = ["-p", "LoadCredential=it:/etc/secret", "-p", "User=daemon", "-p", "ProtectSystem=strict"]
    script = "cat $CREDENTIALS_DIRECTORY/it; touch /var/x 2>&1 || true"
    out = one.do("systemd-run", "--quiet", "--wait", "--pipe", *wanted, "sh", "-c", script)
    assert out.startswith("the secret") and "Read-only file system" in out
    # Never try to set it: where that works, it is the machine's own clock, and everything on it is lost in time.
    bounding = int(one.do("sed", "-n", "s/^CapBnd:\\t//p", "/proc/self/status"), 16)
    assert not bounding & (1 << CAP_SYS_TIME), "the bed could set the machine's clock"
    assert one.do("systemctl", "is-system-running") == "running\n"


OF_THE_HOST = {"sys_module": 16, "sys_rawio": 17, "sys_time": 25, "mknod": 27, "syslog": 34}
"""Numbers of capability.h."""


def test_nothing_inside_can_reach_the_host_itself(one: Bed) -> None:
    """PID 1, its units and the commands of `run`, as root: no capability to set the host's clock, load a module, make a device.

    Looked up and not tried: no namespace would keep the host's clock from being set.
    """
    look = ("sed", "-n", "s/^Cap\\(Prm\\|Eff\\|Bnd\\|Inh\\|Amb\\):\\t//p")
    unit = one.do("systemd-run", "--quiet", "--wait", "--pipe", *look, "/proc/self/status")
    for found in (one.do(*look, "/proc/1/status"), one.do(*look, "/proc/self/status"), unit):
        sets = [int(line, 16) for line in found.split()]
        assert len(sets) == 5 and any(sets)
        for name, number in OF_THE_HOST.items():
            assert not any(each >> number & 1 for each in sets), name
