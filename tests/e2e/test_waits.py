"""No command is silent: what it waits for is said within 5 s and then every 10 s, with try, cause and next try."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from tests.support.processes import KEYTURN
from tests.support.station import Station
from tests.support.vm import Vm, eventually

pytestmark = pytest.mark.slow

FIRST_S, AGAIN_S = 5.0, 10.0
SLACK_S = 4.0
"""For a machine that has other work."""


@dataclass
class Heard:
    """What a command said, and when, in seconds since it was started."""

    process: subprocess.Popen[str]
    began: float = field(default_factory=time.monotonic)
    lines: list[tuple[float, str, str]] = field(default_factory=list)

    def listen(self) -> None:
        for name in ("stdout", "stderr"):
            threading.Thread(target=self._read, args=(name,), daemon=True).start()

    def _read(self, name: str) -> None:
        for line in getattr(self.process, name):
            self.lines.append((time.monotonic() - self.began, name, line.rstrip("\n")))

    def said(self, words: str) -> list[float]:
        return [at for at, _name, line in self.lines if words in line]

    def on(self, stream: str) -> list[str]:
        return [line for _at, name, line in self.lines if name == stream]


@pytest.fixture
def started(vm: Vm) -> Iterator[list[Heard]]:
    """The commands of this test, ended with it."""
    made: list[Heard] = []
    yield made
    for one in made:
        one.process.kill()
        one.process.wait()


def start(vm: Vm, started: list[Heard], *arguments: str) -> Heard:
    command = [*KEYTURN, "--config", str(vm.config), *arguments]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=vm.environ, cwd="/")
    started.append(Heard(process))
    started[-1].listen()
    return started[-1]


def hanging(vm: Vm) -> str:
    return vm.hook(["/bin/sleep", "60"], extra='timeout = "60s"')


@pytest.mark.parametrize("through", ["the daemon", "the command itself"])
def test_a_refresh_with_a_hook_that_hangs_names_it(vm: Vm, started: list[Heard], through: str) -> None:
    """Which dependent, which try, for how long; on standard error, so that `--json` is one object."""
    vm.configure(vm.credential(notify=hanging(vm)))
    if through == "the daemon":
        vm.daemon().ready()
        vm.cloud.rotate("uploader-ak")
    heard = start(vm, started, "refresh", "--json")
    eventually(lambda: len(heard.said("exec /bin/sleep")) >= 2)
    first, second = heard.said("exec /bin/sleep")[:2]
    assert first <= FIRST_S + SLACK_S and second - first <= AGAIN_S + SLACK_S, heard.lines
    assert not any("try 1" in line for line in heard.on("stderr")), "nothing was tried before"
    assert not heard.on("stdout")
    assert not heard.said("an answer of the daemon"), "it is not silent: it has just said what it waits for"


def test_once_says_what_it_tries_again(vm: Vm, started: list[Heard]) -> None:
    """A source that is down: how often it was tried, why that failed, and when the next try comes."""
    vm.configure(vm.credential())
    vm.cloud.fail_next(503, action="GetSecretValue", times=1000)
    heard = start(vm, started, "once", "--retry-for", "60s")
    eventually(lambda: bool(heard.said("waits for")))
    assert heard.said("waits for")[0] <= FIRST_S + SLACK_S
    (line,) = [line for line in heard.on("stderr") if "waits for" in line][:1]
    assert "credentials.uploader" in line and "failed" in line and "try" in line and "503" in line, line


@pytest.mark.parametrize("through", ["the daemon", "the command itself"])
def test_a_rotation_with_kms_down_says_so(station: Station, started: list[Heard], through: str) -> None:
    """The call, the try, the cause and the next try; with --json nothing is on standard output but the object."""
    vm = station.vm
    vm.configure(vm.credential(), station.table)
    if through == "the daemon":
        vm.daemon().ready()
    else:
        assert vm.keyturn("once").returncode == 0
    vm.cloud.fail_next(503, action="RotateSecret", times=1000)
    heard = start(vm, started, "rotate", "uploader", "--reason", "leaked", "--yes", "--json")
    eventually(lambda: bool(heard.said("KMS RotateSecret")))
    assert heard.said("waits for")[0] <= FIRST_S + SLACK_S, heard.lines
    line = next(line for line in heard.on("stderr") if "KMS RotateSecret" in line)
    assert "try" in line and ("503" in line or "ServiceUnavailable" in line), line
    vm.cloud.faults.clear()
    assert heard.process.wait(60) == 0
    eventually(lambda: bool(heard.on("stdout")))
    assert json.loads("\n".join(heard.on("stdout")))["credential"] == "uploader"


def test_a_daemon_that_is_stopped_is_not_waited_for_in_silence(vm: Vm, started: list[Heard]) -> None:
    """It takes the connection and says nothing: the command says that it is the daemon that is silent."""
    vm.configure(vm.credential())
    daemon = vm.daemon().ready()
    os.kill(daemon.process.pid, signal.SIGSTOP)
    heard = start(vm, started, "refresh")
    try:
        eventually(lambda: bool(heard.said("waits for")))
    finally:
        os.kill(daemon.process.pid, signal.SIGCONT)
    assert heard.said("the daemon")[0] <= FIRST_S + SLACK_S
    assert heard.process.wait(60) == 0


def test_nothing_is_said_of_what_takes_no_time(vm: Vm, started: list[Heard]) -> None:
    """A refresh that goes well has nothing on standard error."""
    vm.configure(vm.credential())
    vm.daemon().ready()
    heard = start(vm, started, "refresh")
    assert heard.process.wait(60) == 0
    assert not heard.said("waits for")
