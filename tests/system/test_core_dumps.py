"""The kind: a process that holds secrets leaves its memory on a disk, or to others of its user."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import KEYTURN
from tests.support.vm import Vm

CRASH = (sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGQUIT)")
ONE_MIB = 1024 * 1024


def unlimited() -> None:
    """Have the child that runs this leave a core dump, as an operator's `ulimit -c unlimited` does."""
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))


def dumped(status: int) -> bool:
    """Whether a process left a core dump, by the word of wait(2)."""
    return os.WCOREDUMP(status)


def leaves_core(process: subprocess.Popen[bytes]) -> bool:
    _pid, status = os.waitpid(process.pid, 0)
    process.returncode = -os.WTERMSIG(status)
    assert process.returncode == -signal.SIGQUIT
    return dumped(status)


@pytest.fixture
def cores(tmp_path: Path) -> Path:
    """A directory where a process that crashes leaves a core dump; skips where this machine writes none at all."""
    place = tmp_path / "cores"
    place.mkdir()
    if not leaves_core(subprocess.Popen(CRASH, cwd=place, preexec_fn=unlimited)):
        pytest.skip("this machine writes no core dumps")
    for core in place.iterdir():
        core.unlink()
    return place


@pytest.mark.parametrize("command", ["run", "emulator"])
def test_what_holds_a_secret_leaves_no_core_dump(vm: Vm, cores: Path, command: str) -> None:
    """Whatever limit it was started with, and however it ends."""
    vm.configure(vm.agent(), vm.credential())
    more = ["--directory", str(cores.parent / "emulator")] if command == "emulator" else []
    argv = [*KEYTURN, "--config", str(vm.config), command, *more]
    process = subprocess.Popen(
        argv, cwd=cores, env=vm.environ, preexec_fn=unlimited, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert process.stdout is not None
    assert process.stdout.readline()  # it is at work
    limits = Path(f"/proc/{process.pid}/limits").read_text().splitlines()
    process.send_signal(signal.SIGQUIT)
    assert not leaves_core(process)
    assert list(cores.iterdir()) == []
    assert next(line for line in limits if line.startswith("Max core file size")).split()[4] == "0"
    process.stdout.close()


SECRET_COMMANDS = {
    "once": ["once"],
    "check": ["check", "--offline"],
    "rotate": ["rotate", "uploader", "--reason", "a test", "--yes"],
}
DIES_AT_CONFIG = """
import os, signal, sys
from agent.app import wiring
def die(*_):
    os.kill(os.getpid(), signal.SIGQUIT)
wiring.load_settings = die
from agent.cli.main import main
main(sys.argv[1:])
"""


@pytest.mark.parametrize("arguments", SECRET_COMMANDS.values(), ids=SECRET_COMMANDS)
def test_no_command_leaves_one_however_early_it_dies(vm: Vm, cores: Path, arguments: list[str]) -> None:
    """Before it has even read its config."""
    argv = [sys.executable, "-c", DIES_AT_CONFIG, "--config", str(vm.config), *arguments]
    assert not leaves_core(subprocess.Popen(argv, cwd=cores, env=vm.environ, preexec_fn=unlimited))


@pytest.mark.parametrize("soft", [0, ONE_MIB], ids=["none", "a limit"])
def test_a_hook_gets_the_limit_that_keyturn_was_started_with(vm: Vm, tmp_path: Path, soft: int) -> None:
    """Whether a hook leaves a core dump is its operator's to say."""
    told = tmp_path / "limit"
    hook = tmp_path / "hook.sh"
    hook.write_text(f"#!/bin/sh\nulimit -c >> {told}\nulimit -Hc >> {told}\n")
    hook.chmod(0o755)
    vm.configure(vm.agent(), vm.credential(notify=vm.hook([hook])))

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (soft, resource.getrlimit(resource.RLIMIT_CORE)[1]))

    for argv in ([*KEYTURN, "--config", str(vm.config), "once"], [str(hook)]):
        subprocess.run(argv, env=vm.environ, preexec_fn=limited, check=True, capture_output=True)
    by_keyturn, by_hand = told.read_text().split()[:2], told.read_text().split()[2:]
    assert by_keyturn == by_hand
    assert (by_hand[0] == "0") == (soft == 0)


@pytest.mark.skipif(os.geteuid() != 0, reason="plays another user")
def test_its_memory_is_closed_to_others_of_its_user(vm: Vm) -> None:
    """Another process of the same user can neither read it nor trace it: what is in /proc belongs to root then."""
    code = (
        "import os, sys, ctypes; ctypes.CDLL(None)\n"
        "from agent.system import core_dumps, mounts\n"
        "os.setgid(65534); os.setuid(65534); core_dumps.forbid()\n"
        "print(os.stat('/proc/self/mem').st_uid, mounts.mount_id(0) is not None, os.pidfd_open(os.getpid()) > 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=vm.environ, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "True", "True"]
