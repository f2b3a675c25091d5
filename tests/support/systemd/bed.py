"""A real systemd as PID 1 of namespaces of its own, for tests of units: up in half a second, gone without a trace.

    python -m tests.support.systemd.bed systemctl list-units       one command in a new machine, which then is gone

`bed.sh` does what needs root. It ends with the pipe that it reads from: a test run that is killed takes its
beds with it. Needs root, a writable cgroup v2 mount (controllers are not needed), overlayfs, and what Debian
has; `missing()` says what a machine lacks. Not enforced inside: MemoryMax, TasksMax and CPUQuota (no
controllers), negative OOMScoreAdjust; the clock cannot be set (time namespaces leave CLOCK_REALTIME alone).
"""

from __future__ import annotations

import fcntl
import functools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

SCRIPT = Path(__file__).with_name("bed.sh")
PREFIX = "keyturn-bed-"
BOOT_S = STOP_S = 60.0
COMMAND_S = 60.0
TTL_S = 3600
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DROPPED = "-sys_module,-sys_rawio,-sys_time,-mknod,-syslog,-wake_alarm,-block_suspend,-mac_admin,-mac_override"
"""What no process of a bed may do, PID 1's children and the commands of `run` alike: these act on the host itself. No
namespace keeps the clock apart: with CAP_SYS_TIME a `date -s` inside sets the time of the host."""
NEEDED = {
    "/lib/systemd/systemd": "systemd",
    "/usr/bin/dbus-daemon": "dbus",
    "/usr/lib/polkit-1/polkitd": "polkitd",
    "/usr/sbin/logrotate": "logrotate",
    "/usr/bin/nsenter": "util-linux",
}
"""A file, and the Debian package that has it."""


class BedError(AssertionError):
    """The bed does not do what it must."""


@dataclass(frozen=True)
class Result:
    """What became of a command."""

    returncode: int
    stdout: str
    stderr: str

    @property
    def both(self) -> str:
        """Output and errors."""
        return self.stdout + self.stderr


class Bed:
    """One machine and its file tree; a context manager."""

    def __init__(self, binds: Sequence[tuple[Path, str]] = (), ttl_s: int = TTL_S) -> None:
        """Build the tree, and boot nothing yet.

        Args:
            binds: (directory or file of the host, absolute path inside); shown read-only.
            ttl_s: the bed ends by itself after so long.

        Raises:
            BedError: the tree cannot be built.
        """
        sweep()
        self.directory = Path(tempfile.mkdtemp(prefix=PREFIX))
        self.cgroup = _cgroup_mount() / self.directory.name
        (self.directory / "binds").write_text("".join(f"{source}\t{target}\n" for source, target in binds))
        with (self.directory / "console.log").open("wb") as log:
            apart = ["unshare", "--mount", "--propagation", "private", "--"]
            self._keeper = subprocess.Popen(
                [*apart, "/bin/bash", str(SCRIPT), "keep", str(self.directory), str(self.cgroup), str(ttl_s)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env={**os.environ, "BED_DROPPED": DROPPED},
                start_new_session=True,  # Ctrl-C is the tests' affair, and ends the pipe
                bufsize=0,
            )
        self.leader = 0

    def __enter__(self) -> Bed:
        """Boot."""
        try:
            self.boot()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Power off and leave nothing."""
        self.close()

    # -- life ---------------------------------------------------------------------------------------

    def boot(self) -> None:
        """Boot, and wait until systemd has done what it wants to do at a start.

        Raises:
            BedError: it does not come up; with what the console and the journal say.
        """
        assert self._keeper.stdin is not None
        leader_file = self.directory / "leader"
        leader_file.unlink(missing_ok=True)
        try:
            self._keeper.stdin.write(b"boot\n")
        except BrokenPipeError:
            raise BedError(f"the bed cannot be built: {self.console}") from None
        end = time.monotonic() + BOOT_S
        while not self._is_up(leader_file):
            if time.monotonic() > end or self._keeper.poll() is not None:
                raise BedError(f"systemd does not come up: {self.console}")
            time.sleep(0.02)

    def _is_up(self, leader_file: Path) -> bool:
        if not leader_file.exists():
            return False
        self.leader = int(leader_file.read_text())
        if not (self.root / "run/systemd/private").exists():
            return False
        return self.run("systemctl", "is-system-running").stdout.strip() in ("running", "degraded")

    @property
    def alive(self) -> bool:
        """Whether a machine runs."""
        return bool(self.leader) and _state_of(self.leader) not in ("", "Z")

    @property
    def root(self) -> Path:
        """The running machine's / as the host sees it. Links with absolute targets lead astray."""
        return Path(f"/proc/{self.leader}/root")

    @property
    def console(self) -> str:
        """What the machine said before it had a journal."""
        log = self.directory / "console.log"
        return log.read_text(errors="replace")[-4000:] if log.exists() else "(no console)"

    def power_off(self) -> None:
        """As `systemctl poweroff`: every unit is stopped.

        Raises:
            BedError: it does not end.
        """
        if self.alive:
            os.kill(self.leader, signal.SIGRTMIN + 4)  # systemd(1): starts poweroff.target
        self._wait_for_the_end()

    def cut_power(self) -> None:
        """Every process dies at once. The tree is in memory, so nothing that was written is lost."""
        os.kill(self.leader, signal.SIGKILL)
        self._wait_for_the_end()

    def _wait_for_the_end(self) -> None:
        end = time.monotonic() + STOP_S
        while self.alive:
            if time.monotonic() > end:
                raise BedError(f"the machine does not end: {self.console}")
            time.sleep(0.02)
        self.leader = 0

    def close(self) -> None:
        """End the machine and remove everything."""
        with suppress(BedError):
            self.power_off()
        assert self._keeper.stdin is not None
        self._keeper.stdin.close()
        self._keeper.wait(STOP_S)

    # -- use ----------------------------------------------------------------------------------------

    def run(self, *command: str, user: str = "root", stdin: str = "", timeout_s: float = COMMAND_S) -> Result:
        """Run a command inside to its end. A child that it leaves behind is not waited for.

        Raises:
            BedError: it does not come to its end; it was killed.
        """
        become = [] if user == "root" else ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "--"]
        inside = ["timeout", "-k", "2", f"{timeout_s:g}", *become, *command]
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, tempfile.TemporaryFile() as given:
            given.write(stdin.encode())
            given.seek(0)
            done = subprocess.run(
                [*self._enter(), *inside],
                stdin=given,
                stdout=out,
                stderr=err,
                env={"PATH": PATH, "LANG": "C.UTF-8", "SYSTEMD_COLORS": "0", "SYSTEMD_PAGER": "", "HOME": "/root"},
                check=False,
            )
            result = Result(done.returncode, _all_of(out), _all_of(err))
        if done.returncode in (124, 137):
            raise BedError(f"{command} takes longer than {timeout_s:g} s: {result.both}")
        return result

    def do(self, *command: str, user: str = "root", stdin: str = "", timeout_s: float = COMMAND_S) -> str:
        """Run a command that must succeed; its output.

        Raises:
            BedError: it failed.
        """
        result = self.run(*command, user=user, stdin=stdin, timeout_s=timeout_s)
        if result.returncode:
            raise BedError(f"{' '.join(command)}: status {result.returncode}: {result.both}")
        return result.stdout

    def _enter(self) -> list[str]:
        if not self.alive:
            raise BedError(f"no machine runs: {self.console}")
        spaces = ("mount", "uts", "ipc", "net", "pid", "cgroup", "root", "wd")
        enter = ["nsenter", f"--target={self.leader}", *(f"--{space}" for space in spaces), "--"]
        return [*enter, "setpriv", "--inh-caps=-all", f"--bounding-set={DROPPED}", "--"]

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file of root's; directories on the way are made."""
        place = self.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch(mode=0o600)
        place.chmod(mode)
        place.write_text(text)

    def read(self, path: str) -> str:
        """What a file holds; "" where there is none."""
        place = self.root / path.lstrip("/")
        return place.read_text() if place.exists() else ""


def _all_of(file: object) -> str:
    file.seek(0)  # type: ignore[attr-defined]
    return bytes(file.read()).decode(errors="replace")  # type: ignore[attr-defined]


def _state_of(pid: int) -> str:
    """The letter of proc(5), "" for nobody."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def _cgroup_mount() -> Path:
    """Where a cgroup v2 tree is mounted.

    Raises:
        BedError: nowhere.
    """
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _dash, right = line.partition(" - ")
        if right.startswith("cgroup2 "):
            return Path(left.split()[4])
    raise BedError("no cgroup v2 is mounted")


# -- whether it can be had ------------------------------------------------------------------------------


@functools.cache
def missing() -> str:
    """Why no bed can be made here, "" where one can."""
    if os.geteuid() != 0:
        return "a bed needs root"
    lacking = sorted({package for file, package in NEEDED.items() if not Path(file).exists()} - {"logrotate"})
    if lacking:
        return f"a bed needs Debian's {', '.join(lacking)}"
    return _trial()


def _trial() -> str:
    """Ask the kernel for what a container may refuse; a bed that then does not boot is a fault and no reason to skip."""
    with tempfile.TemporaryDirectory() as scratch:
        asked = ("--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--fork", "--propagation=private")
        done = subprocess.run(
            ["unshare", *asked, "--", "/bin/sh", "-euc", TRIAL, "trial", scratch],
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        return f"the kernel or a container refuses what a bed needs: {done.stderr.strip()}"
    try:
        group = _cgroup_mount() / f"{PREFIX}trial-{os.getpid()}"
        group.mkdir()
        group.rmdir()
    except (OSError, BedError) as error:
        return f"a bed needs a writable cgroup v2: {error}"
    return ""


TRIAL = """\
mount -t tmpfs trial "$1"
cd "$1"
mkdir upper work usr proc
mount -t overlay -o lowerdir=/usr,upperdir=upper,workdir=work trial usr
mount -t proc proc proc
mount -t tmpfs trial work
mknod upper/whiteout c 0 0
"""


# -- what a killed run left -----------------------------------------------------------------------------


def sweep() -> None:
    """Remove the directories of beds whose keeper was killed outright (SIGKILL); their machines died with them."""
    for directory in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):
            if directory.stat().st_uid == 0 and _abandoned(directory / "lock"):
                shutil.rmtree(directory)
                group = _cgroup_mount() / directory.name
                for place, _names, _files in os.walk(group, topdown=False):
                    os.rmdir(place)


def _abandoned(lock: Path) -> bool:
    with suppress(FileNotFoundError), lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
    return False  # its keeper has only just begun


def main() -> int:
    """One command in a machine of its own."""
    reason = missing()
    if reason or len(sys.argv) < 2:
        print(reason or __doc__, file=sys.stderr)
        return 2
    with Bed() as bed:
        done = bed.run(*sys.argv[1:])
    sys.stdout.write(done.stdout)
    sys.stderr.write(done.stderr)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
