"""Between the look at a process and the signal to it anything may happen: never a wrong one is told."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from agent.core.errors import NotifyError
from agent.core.events import PublishEvent, Trigger
from agent.core.settings import FilePath
from agent.notifiers import signal_process
from agent.notifiers.signal_process import SignalNotifier, SignalSettings
from agent.system.pidfd import Process
from agent.system.pidfile import NoProcessError

LAST_PID = Path("/proc/sys/kernel/ns_last_pid")


def sleeper(exe: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([exe, "1000"])


def with_number(number: int, exe: Path) -> subprocess.Popen[bytes]:
    """A process that gets this very number: the kernel is told which one it gave last, and afterwards the truth again.

    Else numbers that have just become free would go round at once, in other tests that run meanwhile too.
    """
    last = LAST_PID.read_text()
    try:
        for _ in range(300):
            LAST_PID.write_text(str(number - 1))
            process = sleeper(exe)
            if process.pid == number:
                return process
            end(process)
    finally:
        LAST_PID.write_text(last)
    pytest.skip("others start processes so fast that the number cannot be had")


def end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def first_signal(process: subprocess.Popen[bytes]) -> int:
    """What it got first: a later SIGTERM is delivered after a pending SIGHUP (signal(7): lowest first)."""
    process.send_signal(signal.SIGTERM)
    return -process.wait()


def before_the_signal(monkeypatch: pytest.MonkeyPatch, act: Callable[[], None], *, last_look: bool = False) -> None:
    """Have something happen after every check, and right before the signal is sent.

    The very last look, whether the process still lives, comes after it with `last_look`, else before it too.
    """
    real_send, real_alive = Process.send, Process.alive
    sending: list[bool] = []

    def send(process: Process, number: int) -> None:
        if last_look:
            act()
        else:
            sending.append(True)
        real_send(process, number)

    def alive(process: Process) -> bool:
        found = real_alive(process)
        if sending:
            sending.clear()
            act()
        return found

    monkeypatch.setattr(Process, "send", send)
    monkeypatch.setattr(Process, "alive", alive)


@pytest.fixture
def exe(tmp_path: Path) -> Path:
    return Path(shutil.copy("/bin/sleep", tmp_path / "dependent"))


def notifier(tmp_path: Path, process: subprocess.Popen[bytes], exe: Path | None = None) -> SignalNotifier:
    path = tmp_path / "dependent.pid"
    path.write_text(f"{process.pid}\n")
    path.chmod(0o644)
    program = FilePath(exe) if exe else None
    return SignalNotifier(SignalSettings(type="signal", pid_file=FilePath(path), exe=program))


@pytest.mark.skipif(not os.access(LAST_PID, os.W_OK), reason="choosing a number needs root")
@pytest.mark.parametrize("by_exe", [False, True])
def test_a_number_that_is_recycled_between_look_and_signal(
    tmp_path: Path, exe: Path, event: PublishEvent, monkeypatch: pytest.MonkeyPatch, by_exe: bool
) -> None:
    """The process that was looked at ends, and another gets its very number: that one hears nothing."""
    meant, newcomers = sleeper(exe), []
    one = notifier(tmp_path, meant, exe if by_exe else None)

    def swap() -> None:
        end(meant)
        newcomers.append(with_number(meant.pid, exe))

    before_the_signal(monkeypatch, swap)
    with pytest.raises(NoProcessError, match="does not run"):
        one.tell(event, threading.Event())
    assert newcomers[0].pid == meant.pid
    assert first_signal(newcomers[0]) == signal.SIGTERM


def test_a_process_that_ends_between_look_and_signal(
    tmp_path: Path, exe: Path, event: PublishEvent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it is not reaped yet: an error that is tried again, and by then the pid file names the new one."""
    meant = sleeper(exe)
    one = notifier(tmp_path, meant)

    def die() -> None:
        meant.kill()
        os.waitid(os.P_PID, meant.pid, os.WEXITED | os.WNOWAIT)

    before_the_signal(monkeypatch, die, last_look=True)
    with pytest.raises(NoProcessError) as caught:
        one.tell(event, threading.Event())
    assert caught.value.remedy
    meant.wait()
    monkeypatch.undo()
    fresh = sleeper(exe)
    notifier(tmp_path, fresh).tell(event, threading.Event())
    assert fresh.wait() == -signal.SIGHUP


def test_a_process_that_forks_is_told_and_its_children_are_not(
    tmp_path: Path, event: PublishEvent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a pid file the one that it names is meant, and not its group: whoever it started before the signal hears nothing."""
    ready, heard = tmp_path / "ready", tmp_path / "heard"
    child = f"trap 'echo child >> {heard}' HUP; echo $$ > {ready}; while :; do sleep 0.1; done"
    script = f'trap "echo parent >> {heard}; exit 7" HUP; /bin/sh -c "$CHILD" & while :; do sleep 0.1; done'
    meant = subprocess.Popen(["/bin/sh", "-c", script], env={"CHILD": child, "PATH": os.environ["PATH"]})
    forked = []

    def wait_for_the_child() -> None:
        while not (ready.exists() and ready.read_text().endswith("\n")):
            assert meant.poll() is None
        forked.append(int(ready.read_text()))

    before_the_signal(monkeypatch, wait_for_the_child)
    notifier(tmp_path, meant).tell(event, threading.Event())
    try:
        assert meant.wait() == 7
        time.sleep(0.3)
        assert heard.read_text() == "parent\n"
    finally:
        os.kill(forked[0], signal.SIGKILL)


def test_with_an_executable_a_process_that_ends_meanwhile_does_not_keep_the_others_from_hearing(
    tmp_path: Path, exe: Path, event: PublishEvent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two run it; the first dies at the last moment and needs no news; the second hears, at the same try."""
    first, second = sleeper(exe), sleeper(exe)
    one = SignalNotifier(SignalSettings(type="signal", exe=FilePath(exe)))
    before_the_signal(monkeypatch, lambda: end(first))
    try:
        one.tell(event, threading.Event())
        assert second.wait() == -signal.SIGHUP
    finally:
        end(second)


class Family:
    """Three processes of one executable; `stubborn` are those that may not be signalled, `sent` counts the signals."""

    def __init__(self, directory: Path, patch: pytest.MonkeyPatch) -> None:
        self.exe = Path(shutil.copy("/bin/sleep", directory / "family"))
        self.processes = [sleeper(self.exe) for _ in range(3)]
        self.pids = [process.pid for process in self.processes]
        self.stubborn: set[int] = set()
        self.sent: list[int] = []
        self.notifier = SignalNotifier(SignalSettings(type="signal", exe=FilePath(self.exe)))
        patch.setattr(Process, "send", lambda process, number: self._send(process, number))

    def _send(self, process: Process, _number: int) -> None:
        if process.pid in self.stubborn:
            raise PermissionError(1, "Operation not permitted")
        if not process.alive():
            raise ProcessLookupError(3, "No such process")
        self.sent.append(process.pid)

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


@pytest.fixture
def family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Family]:
    """Three that run."""
    found = Family(tmp_path, monkeypatch)
    monkeypatch.setattr(signal_process, "pids", lambda: iter(found.pids))  # in this order
    yield found
    found.close()


def test_one_that_may_not_be_signalled_keeps_no_other_from_its_news(
    family: Family, event: PublishEvent, cancel: threading.Event
) -> None:
    """All others are told, then the error says whom it is about; and who was told is not told again by a retry."""
    first, second, third = family.pids
    family.stubborn = {first}
    for _ in range(3):
        with pytest.raises(NotifyError, match=f"may not signal process {first} of"):
            family.notifier.tell(event, cancel)
    assert family.sent == [second, third]
    family.stubborn = set()
    detail = family.notifier.tell(event, cancel).detail
    assert family.sent == [second, third, first]
    assert all(f"pid {pid}" in detail for pid in family.pids)


def test_newer_news_and_a_file_put_right_are_told_to_all(
    family: Family, event: PublishEvent, cancel: threading.Event
) -> None:
    """Whom a try has told is remembered for the retries of these news only."""
    family.stubborn = {family.pids[0]}
    newer, repaired = replace(event, generation=8), replace(event, generation=8, trigger=Trigger.DRIFT)
    for news in (event, newer, repaired):
        with pytest.raises(NotifyError):
            family.notifier.tell(news, cancel)
    assert family.sent == family.pids[1:] * 3
    family.stubborn = set()
    for _ in range(2):
        family.sent.clear()
        family.notifier.tell(event, cancel)
        assert family.sent == family.pids


def test_one_that_ends_between_look_and_signal_is_no_error(
    family: Family, event: PublishEvent, cancel: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It needs no news; with nobody left there is nobody to be told."""
    look = SignalNotifier._processes
    ends = [family.processes[0]]

    def looking(notifier: SignalNotifier, held: ExitStack) -> list[Process]:
        found = look(notifier, held)
        for process in ends:
            process.kill()
            process.wait()
        return found

    monkeypatch.setattr(SignalNotifier, "_processes", looking)
    detail = family.notifier.tell(event, cancel).detail
    assert family.sent == family.pids[1:] and f"pid {family.pids[0]}" not in detail
    ends += family.processes[1:]
    with pytest.raises(NoProcessError, match="does not run"):
        family.notifier.tell(event, cancel)
