"""`once`, `check` and the daemon end, at their time or by a signal: whatever they started ends too, also what ignores SIGTERM."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest

from agent.core.errors import EXIT_FAILED
from tests.support.processes import KEYTURN, PATIENCE_S
from tests.support.vm import Vm, eventually

pytestmark = pytest.mark.slow

HANGS = "echo $$ >> {pids}; trap '' TERM HUP INT; while :; do sleep 1; done"


def lives(pid: str) -> bool:
    try:
        return b"State:\tZ" not in Path(f"/proc/{pid}/status").read_bytes()
    except FileNotFoundError:
        return False


def left(pids: Path) -> list[str]:
    """Which hooks are still there, of all that were started."""
    started = pids.read_text().split()
    assert started
    return [pid for pid in started if lives(pid)]


def test_a_try_that_is_under_way_at_the_end_is_stopped(vm: Vm) -> None:
    """--retry-for ends while a hook runs for the second time: both have ended when `once` has."""
    pids = vm.directory / "pids"
    hook = ["/bin/sh", "-c", f"echo $$ >> {pids}; exec sleep 1000"]
    vm.configure(vm.credential(notify=vm.hook(hook, extra='timeout = "1s"')))
    done = vm.keyturn_cold("once", "--retry-for", "5s")
    assert done.returncode == EXIT_FAILED
    assert len(pids.read_text().split()) >= 2
    assert left(pids) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it_with_all_that_it_started(vm: Vm, number: signal.Signals) -> None:
    """cron's, a container's or a terminal's end: the hook, which ignores the signal, is gone before `once` is."""
    pids = vm.directory / "pids"
    vm.configure(vm.credential(notify=vm.hook(["/bin/sh", "-c", HANGS.format(pids=pids)])))
    once = subprocess.Popen([*KEYTURN, "--config", str(vm.config), "once"], env=vm.environ)
    eventually(pids.exists)
    once.send_signal(number)
    assert once.wait(PATIENCE_S) == 130
    assert left(pids) == []
    assert "notified" not in vm.events(), "it is still owed"


@pytest.mark.parametrize("command", ["once", "check", "run"])
def test_the_command_of_a_provider_ends_too(vm: Vm, command: str) -> None:
    """It runs while the signal comes, and nobody would hold it to its limit any more."""
    pids = vm.directory / "pids"
    source = json.dumps(["/bin/sh", "-c", HANGS.format(pids=pids)])
    provider = f'[credentials.slow]\nverify = "off"\nprovider = {{ type = "process", command = {source} }}\n'
    sink = f'[[credentials.slow.sinks]]\ntype = "json"\npath = "{vm.directory}/slow.json"\n'
    vm.configure(provider + sink)
    process = subprocess.Popen([*KEYTURN, "--config", str(vm.config), command], env=vm.environ)
    eventually(pids.exists)
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_S) == (0 if command == "run" else 130)
    eventually(lambda: left(pids) == [])
