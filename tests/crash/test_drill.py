"""A drill seen by the kernel: every call that it makes, in a network of its own; and one that is killed."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.system.lock import StateLock
from tests.support.drills import RealHost
from tests.support.processes import ROOT

OWNER = "nobody" if os.geteuid() == 0 else str(os.geteuid())
CHANGES = [
    "creat", "rename", "renameat", "renameat2", "unlink", "unlinkat", "rmdir", "mkdir", "mkdirat", "link", "linkat",
    "symlink", "symlinkat", "mknod", "mknodat", "chmod", "fchmod", "fchmodat", "chown", "lchown", "fchown", "fchownat",
    "truncate", "ftruncate", "utimensat", "utime", "utimes", "setxattr", "fsetxattr", "lsetxattr", "mount", "umount2",
]  # fmt: skip
NETWORK = ("connect", "sendto", "sendmsg", "sendmmsg", "bind")
HERE = re.compile(r'"127\.[0-9.]+"|"::1"|AF_NETLINK|AF_UNSPEC|sun_path="(/var)?/run/nscd/|sun_path="/var/lib/sss/')
"""Loopback, the kernel, and those whom the C library asks for the names of users."""
SIGNALS = ("kill", "tkill", "pidfd_send_signal", "rt_sigqueueinfo")
WATCHED = ",".join(["%network", "%process", "open", "openat", "openat2", *CHANGES, *SIGNALS])
CALL = re.compile(r"^\d+\s+(?:<\.\.\. )?(\w+)\((.*)")
AT = re.compile(r"^(?:AT_FDCWD(?:<[^>]*>)?|\d+<(?P<directory>[^>]*)>), \"(?P<name>[^\"]*)\", (?P<flags>[A-Z_|0-9x]+)")
PLACES = re.compile(r'"(/[^"]*)"|\d+<(/[^>]*)>')


@pytest.fixture
def host(tmp_path: Path) -> RealHost:
    """The host that must not be touched."""
    made = RealHost(tmp_path)
    made.configure(made.usual(OWNER))
    return made


@pytest.fixture
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The temporary directory of the drills."""
    made = tmp_path_factory.mktemp("outside") / "scratch"
    made.mkdir()
    yield made


def environ(scratch: Path) -> dict[str, str]:
    own = {"TMPDIR": str(scratch), "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    return {**os.environ, **own, "https_proxy": "http://203.0.113.1:3128"}


def command(host: RealHost, *words: str) -> list[str]:
    return [sys.executable, "-m", "agent", *host.arguments(*words)]


def wrong_calls(trace: list[str], scratch: Path) -> list[str]:
    """Every call that changes something outside of the scratch directory, leaves loopback, or starts or signals somebody."""
    wrong, executed = [], 0
    for line in trace:
        match = CALL.match(line)
        if match is None:
            continue
        name, rest = match[1], match[2]
        if " = -1 " in line and name not in NETWORK:  # it changed nothing; a connection goes on in the background
            continue
        if name.startswith("open"):
            at = AT.match(rest) or re.match(r"^\"(?P<name>[^\"]*)\", (?P<flags>[A-Z_|]+)(?P<directory>)", rest)
            assert at is not None, line
            place = at["name"] if at["name"].startswith("/") else f"{at['directory']}/{at['name']}"
            if re.search("WRONLY|RDWR|CREAT|TRUNC|TMPFILE", at["flags"]) and not _inside(place, scratch):
                wrong.append(line)
        elif name in CHANGES:
            places = [one or other for one, other in PLACES.findall(rest)]
            if not places or not all(_inside(place, scratch) for place in places):
                wrong.append(line)
        elif _reaches_others(name, rest):
            wrong.append(line)
        executed += name in ("execve", "execveat")
    return wrong if executed == 1 else [*wrong, f"{executed} programs were run"]


def _reaches_others(name: str, rest: str) -> bool:
    if name in NETWORK:
        return "sa_family" in rest and not HERE.search(rest)
    return name in (*SIGNALS, "fork", "vfork") or (name.startswith("clone") and "CLONE_THREAD" not in rest)


def _inside(place: str, scratch: Path) -> bool:
    return place.startswith(f"{scratch}/") or place == "/dev/null"


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_the_kernel_sees_nothing_outside(host: RealHost, scratch: Path) -> None:
    """No name, mode or owner outside of the scratch directory changes, no address but loopback is spoken to, nobody is
    started or signalled: of all its calls, beside a daemon that holds the lock, and, as root, where there is no other network."""
    trace = scratch.parent / "trace"
    argv = ["strace", "-f", "-y", "-s", "4096", "-e", f"trace={WATCHED}", "-o", str(trace)]
    argv += command(host, "--disable-old", "--json")
    if os.geteuid() == 0 and shutil.which("ip") and shutil.which("unshare"):
        argv = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh", *argv]
    host.published(uploader="LTAIreal", static="LTAIreal")
    lock = StateLock(host.directory / "state")
    before = host.snapshot()
    try:
        with (scratch.parent / "stderr").open("w+") as stderr:  # as in a unit of systemd
            found = os.fstat(stderr.fileno())
            service = {**environ(scratch), "JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
            done = subprocess.run(
                argv, cwd="/", env=service, stdout=subprocess.PIPE, stderr=stderr, text=True, check=False
            )
        after = host.snapshot()
    finally:
        lock.release()
    result = json.loads(done.stdout)
    assert [one["credential"] for one in result["left_behind"]] == ["static"]
    assert after == before and list(scratch.iterdir()) == []
    lines = trace.read_text(errors="replace").splitlines()
    assert len([line for line in lines if str(scratch) in line]) > 50
    assert wrong_calls(lines, scratch) == []
    assert len(wrong_calls(lines, host.directory)) > 50  # what is looked for is seen


@pytest.mark.parametrize(
    ("number", "after_lines"),
    [
        *((signal.SIGKILL, lines) for lines in (1, 2, 3, 5, 8)),
        *((signal.SIGINT, lines) for lines in (1, 3)),
        (signal.SIGTERM, 2),
        (signal.SIGHUP, 4),
    ],
)
def test_an_end_at_any_moment_leaves_a_directory_at_most(
    host: RealHost, scratch: Path, number: signal.Signals, after_lines: int
) -> None:
    """Nothing at all where it could still act; and what kill -9 left the next drill removes."""
    before = host.snapshot()
    with subprocess.Popen(
        command(host, "--disable-old"), cwd="/", env=environ(scratch), stdout=subprocess.PIPE
    ) as drill:
        assert drill.stdout is not None
        for _line in range(after_lines):
            drill.stdout.readline()
        drill.send_signal(number)
        drill.stdout.read()
    assert drill.returncode in (-number, 130, 0)  # it may have ended just before
    left = [path.name for path in scratch.iterdir()]
    assert len(left) <= 1 and all(name.startswith("keyturn-drill-") for name in left)
    assert drill.returncode == -number or left == []
    done = subprocess.run(command(host), cwd="/", env=environ(scratch), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert list(scratch.iterdir()) == []
    assert host.snapshot() == before
