"""Pid files as they are met: of one process, of several, of none yet; on one line, on several, with other things below."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.core.errors import NotifyError
from agent.core.events import PublishEvent
from agent.core.settings import FilePath
from agent.notifiers.signal_process import SignalNotifier, SignalSettings
from agent.system.pidfile import NoProcessError


class Workers:
    """Three processes of one program and one of another; SIGHUP ends them, so that their status says who was told."""

    def __init__(self, directory: Path) -> None:
        worker, other = (shutil.copy("/bin/sleep", directory / name) for name in ("worker", "other"))
        self.all = [subprocess.Popen([program, "1000"]) for program in (worker, worker, worker, other)]
        self.numbers = [str(process.pid) for process in self.all]
        self.pid_file = directory / "workers.pid"

    def notifier(self, text: str) -> SignalNotifier:
        self.pid_file.write_text(text)
        self.pid_file.chmod(0o644)
        return SignalNotifier(SignalSettings(type="signal", pid_file=FilePath(self.pid_file)))

    def told(self) -> list[int]:
        """Who got SIGHUP before the SIGTERM that is sent now; of both, the kernel delivers SIGHUP first (signal(7))."""
        for process in self.all:
            process.send_signal(signal.SIGTERM)
        return [number for number, process in enumerate(self.all) if process.wait() == -signal.SIGHUP]


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Workers]:
    made = Workers(tmp_path)
    yield made
    for process in made.all:
        process.kill()
        process.wait()


TEXTS = {
    "one": ("{0}", [0]),
    "one with blanks": (" {0} \n\n", [0]),
    "one without a line end, another below": ("{0}\n{1}", [0, 1]),
    "two on a line": ("{0} {1}\n", [0, 1]),
    "three, one a line": ("{0}\n{1}\n{2}\n", [0, 1, 2]),
    "CRLF": ("{0}\r\n{1}\r\n", [0, 1]),
    "one twice": ("{0}\n{0}\n", [0]),
    "PostgreSQL's": ("{0}\n/var/lib/data\n1700000000\n{1}\n/run\n*\n", [0]),
    "one that has ended beside": ("{0}\n4194304\n", [0]),
}


@pytest.mark.parametrize("what", TEXTS)
def test_everybody_in_the_file_is_told(workers: Workers, event: PublishEvent, what: str) -> None:
    """Each process that the file names gets the signal, and nobody else."""
    text, whom = TEXTS[what]
    told = workers.notifier(text.format(*workers.numbers)).tell(event, threading.Event())
    assert workers.told() == whom
    assert all(workers.numbers[number] in told.detail for number in whom)


REFUSED = {
    "of another program": "{0}\n{3}\n",
    "init besides": "{0} 1\n",
    "keyturn itself besides": f"{{0}} {os.getpid()}\n",
    "a word besides": "{0} worker\n",
    "longer than any": "{0} " * 1000,
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_file_that_may_hold_something_else_than_pids_tells_nobody(
    workers: Workers, event: PublishEvent, what: str
) -> None:
    """A port or a time among the numbers could be the pid of anybody."""
    with pytest.raises(NotifyError) as caught:
        workers.notifier(REFUSED[what].format(*workers.numbers)).tell(event, threading.Event())
    assert not isinstance(caught.value, NoProcessError) and str(workers.pid_file) in caught.value.problem
    assert workers.told() == []


@pytest.mark.parametrize("text", ["", "\n", " \t\n\n"])
def test_an_empty_file_is_one_of_a_dependent_that_does_not_run(workers: Workers, text: str) -> None:
    """nginx starting, or gone: `check` warns, and does not advise to change the file's mode."""
    (found,) = workers.notifier(text).inspect()
    assert found.level == "warning" and "chmod" not in str(found) and "0644" not in str(found)


def test_none_of_several_is_left(workers: Workers, event: PublishEvent) -> None:
    """All have ended: there is nobody to tell, and the error says so."""
    one = workers.notifier("\n".join(workers.numbers[:2]))
    workers.told()
    with pytest.raises(NoProcessError):
        one.tell(event, threading.Event())
