"""What the machine does not give, and requests of a shape that nobody sends: a sentence with a remedy, never "a fault"."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.fakes import PATIENCE_S
from tests.support.vm import Vm

pytestmark = pytest.mark.slow

COMMANDS = (("once", "--retry-for", "0s"), ("run",), ("rotate", "uploader", "--reason", "x", "--yes"), ("refresh",))


def under(vm: Vm, limits: str, *command: str) -> tuple[int, str]:
    """Run a command of a machine behind `ulimit` or `umask`; return its exit code and what it says."""
    done = subprocess.run(
        ["sh", "-c", f'{limits}; exec "$@"', "sh", sys.executable, "-m", "agent", "--config", str(vm.config), *command],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "NO_COLOR": "1"},
    )
    return done.returncode, done.stderr


@pytest.fixture
def ready(vm: Vm) -> Vm:
    """A machine whose config is written."""
    vm.configure(vm.agent(), vm.credential(), vm.json())
    return vm


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
@pytest.mark.parametrize(
    ("limits", "remedy"), [("ulimit -n 10", "LimitNOFILE="), ("ulimit -f 0", "LimitFSIZE=")], ids=["files", "size"]
)
def test_a_limit_of_the_process_is_named(limits: str, remedy: str, command: tuple[str, ...], ready: Vm) -> None:
    """Exit 1, one sentence that names the limit, and nothing published."""
    code, said = under(ready, limits, *command)
    assert (code, len(said.splitlines())) == (1, 1)
    assert remedy in said and "fault of keyturn" not in said
    assert not list(ready.app.iterdir())


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
@pytest.mark.parametrize("what", ["fifo", "device"])
def test_an_audit_log_that_is_no_file_is_refused(what: str, command: tuple[str, ...], ready: Vm) -> None:
    """At once and by its path; with what it says nothing could be proved."""
    path = ready.log_directory / "audit.jsonl"
    if what == "fifo":
        os.mkfifo(path)
    elif os.geteuid() == 0:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    else:
        pytest.skip("only root makes a device")
    code, said = under(ready, "true", *command)
    assert (code, f"{path} is not a regular file" in said, "fault" in said) == (1, True, False)


@pytest.mark.parametrize("what", ["directory", "fifo", "link to itself"])
def test_a_remembered_head_that_is_no_file_is_told(what: str, ready: Vm) -> None:
    """`audit verify` cannot prove the end of the log by it, and says so, and what to do."""
    assert ready.keyturn("once").returncode == 0
    head = ready.state / "audit-head"
    head.unlink()
    make = {"directory": head.mkdir, "fifo": lambda: os.mkfifo(head), "link to itself": lambda: head.symlink_to(head)}
    make[what]()
    code, said = under(ready, "true", "audit", "verify")
    assert (code, "fault" in said, len(said.splitlines())) == (1, False, 2), said


def test_an_umask_that_shuts_us_out_shuts_nobody_out(ready: Vm) -> None:
    """Directories and files stay usable for keyturn's user; what the umask takes from others stays taken."""
    state = ready.state
    assert not state.exists()
    assert under(ready, "umask 0777", "once")[0] == 0
    for path in (state, *state.rglob("*")):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode & 0o600 == 0o600 and not mode & 0o077, path
        assert mode & 0o100 or path.is_file(), path


SHAPES = (
    {"command": "refresh", "names": 5},
    {"command": "refresh", "names": None},
    {"command": "refresh", "names": "uploader"},
    {"command": "refresh", "names": {"uploader": 1}},
    {"command": "refresh", "names": [["uploader"]]},
    {"command": "refresh", "names": ["\ud800"]},
    {"command": ["refresh"]},
    {"command": "rotate", "credential": 5, "reason": ["x"], "leaked": 7},
    {"command": "rotate", "credential": "uploader", "reason": {}},
    {},
)


def test_a_request_of_another_shape_is_a_wrong_usage(ready: Vm) -> None:
    """Whoever may use the socket gets a sentence and exit code 2, and the log has no fault in it."""
    daemon = ready.daemon().ready()
    for shape in SHAPES:
        answer = asked(ready.run_directory / "control.sock", shape)
        assert answer["exit_code"] == 2 and "see its log" not in answer["error"], shape
    assert "fault of keyturn" not in daemon.log


def asked(path: Path, request: object) -> dict[str, object]:
    with socket.socket(socket.AF_UNIX) as channel:
        channel.settimeout(PATIENCE_S)
        channel.connect(str(path))
        channel.sendall(json.dumps(request).encode() + b"\n")
        answer: dict[str, object] = json.loads(channel.makefile().readline())
        return answer
