"""`keyturn status --watch`: for a terminal, for a pipe, for a program; over restarts, until Ctrl-C."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import KEYTURN
from tests.support.vm import PATIENCE_S, Vm, eventually

pytestmark = pytest.mark.slow


class Watching:
    """A `status --watch` of its own process."""

    def __init__(self, vm: Vm, *options: str, terminal: bool = False) -> None:
        self._out, self._err = vm.directory / "watch.out", vm.directory / "watch.err"
        ours, theirs = pty.openpty() if terminal else (-1, os.open(self._out, os.O_CREAT | os.O_WRONLY, 0o600))
        with self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [*KEYTURN, "--config", str(vm.config), "status", "--watch", *options],
                stdin=subprocess.DEVNULL,
                stdout=theirs,
                stderr=err,
                env={**vm.environ, "TERM": "xterm", "LINES": "24", "COLUMNS": "200"},
                cwd="/",
            )
        os.close(theirs)
        if terminal:
            threading.Thread(target=self._copy, args=(ours,), daemon=True).start()

    def _copy(self, descriptor: int) -> None:
        with self._out.open("wb", buffering=0) as file:
            while True:
                try:
                    file.write(os.read(descriptor, 4096))
                except OSError:  # EIO: the other end is closed
                    return

    @property
    def text(self) -> str:
        return self._out.read_text() if self._out.exists() else ""

    @property
    def errors(self) -> str:
        return self._err.read_text()

    def shows(self, words: str, times: int = 1) -> None:
        eventually(lambda: self.text.count(words) >= times or self.process.poll() is not None, words)
        assert self.text.count(words) >= times, (self.text, self.errors)

    def interrupted(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(PATIENCE_S)


@pytest.fixture
def configured(vm: Vm) -> Iterator[Vm]:
    """A VM with one credential."""
    vm.configure(vm.credential())
    yield vm


def test_a_pipe_gets_plain_blocks_until_ctrl_c(configured: Vm) -> None:
    """Each look with its time and the table, no control characters; Ctrl-C is the proper end: 0, and not a word."""
    configured.daemon().ready()
    watching = Watching(configured)
    watching.shows("-- 20", times=2)
    assert watching.interrupted() == 0
    assert "\x1b" not in watching.text
    assert watching.text.count("uploader") >= 2
    assert watching.errors == ""


def test_a_terminal_is_drawn_anew(configured: Vm) -> None:
    """Each look begins at the top of a cleared screen; the last picture stays when it ends."""
    configured.daemon().ready()
    watching = Watching(configured, terminal=True)
    watching.shows("\x1b[H\x1b[2J", times=2)
    watching.shows("credential", times=2)
    assert watching.interrupted() == 0
    eventually(lambda: watching.text.endswith("\n\n"))  # read with plain line ends; the prompt begins a line of its own
    assert "Traceback" not in watching.text + watching.errors


def test_it_goes_on_over_a_restart_of_the_daemon(configured: Vm) -> None:
    """Away, back, and restarted between two looks: each is said, and the table goes on from the disk meanwhile."""
    vm = configured
    daemon = vm.daemon().ready()
    watching = Watching(vm)
    watching.shows(f"pid {daemon.pid}")
    assert daemon.stop() == 0
    watching.shows(f"the daemon (pid {daemon.pid}) went away")
    watching.shows("not running; from the state on disk")
    again = vm.daemon().ready()
    watching.shows(f"the daemon runs (pid {again.pid})")
    again.kill()
    third = vm.daemon().ready()
    watching.shows(f"(pid {third.pid}")
    assert watching.interrupted() == 0


def test_it_goes_on_while_the_config_is_broken(configured: Vm) -> None:
    """A config that is being edited is a sentence, and no end."""
    vm = configured
    assert vm.keyturn("once").returncode == 0
    watching = Watching(vm)
    watching.shows("not running")
    good = vm.config.read_text()
    vm.config.write_text("x = ")
    eventually(lambda: "not valid TOML" in watching.errors)
    vm.config.write_text(good)
    before = watching.text.count("not running")
    watching.shows("not running", times=before + 1)
    assert watching.interrupted() == 0


def test_json_is_one_object_a_line(configured: Vm) -> None:
    """A program reads line by line; without a daemon the pid is null."""
    daemon = configured.daemon().ready()
    watching = Watching(configured, "--json")
    watching.shows("\n", times=2)
    daemon.stop()
    watching.shows('"pid": null')
    assert watching.interrupted() == 0
    found = [json.loads(line) for line in watching.text.splitlines()]
    assert found[0]["agent"]["pid"] == daemon.pid and found[-1]["agent"]["pid"] is None
    assert all(set(each) == {"agent", "credentials"} for each in found)


def test_what_is_wrong_at_the_beginning_ends_it(vm: Vm, tmp_path: Path) -> None:
    """A config that is bad from the start is not watched for ever."""
    vm.config.write_text("x = ")
    watching = Watching(vm)
    assert watching.process.wait(PATIENCE_S) == 78
    assert "not valid TOML" in watching.errors
