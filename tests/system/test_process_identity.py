"""A process is held, not guessed: pid files, pidfds and executables."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.core.errors import NotifyError
from agent.system.pidfd import Process
from agent.system.pidfile import NoProcessError, read_pid_file
from agent.system.procfs import group_is_empty, read_stat
from agent.system.signals import signal_name, signal_number

ROOT = os.geteuid() == 0


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """An executable that nobody else on this machine runs."""
    return Path(shutil.copy("/bin/sleep", tmp_path / "dependent"))


@pytest.fixture
def dependent(program: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A running process of that executable."""
    process = subprocess.Popen([program, "1000"])
    yield process
    process.kill()
    process.wait()


def test_a_signal_reaches_the_process_that_is_held(dependent: subprocess.Popen[bytes]) -> None:
    """The plain case: alive, ours, told."""
    with Process(dependent.pid) as process:
        assert process.alive()
        assert process.uid() == os.geteuid()
        process.send(signal.SIGHUP)
    assert dependent.wait() == -signal.SIGHUP


def test_a_handle_never_comes_to_mean_another_process(dependent: subprocess.Popen[bytes]) -> None:
    """Once the process has ended and its number is free again, every question and signal says: it is gone."""
    with Process(dependent.pid) as process:
        dependent.kill()
        dependent.wait()
        assert not process.alive()
        for ask in (process.uid, process.started_s, lambda: process.send(signal.SIGHUP)):
            with pytest.raises(ProcessLookupError):
                ask()


def test_a_zombie_is_not_alive(dependent: subprocess.Popen[bytes]) -> None:
    """A process that ended but was not reaped cannot be told anything."""
    with Process(dependent.pid) as process:
        dependent.kill()
        os.waitid(os.P_PID, dependent.pid, os.WEXITED | os.WNOWAIT)
        assert not process.alive()
        assert read_stat(dependent.pid).dead
        with pytest.raises(ProcessLookupError):
            process.send(signal.SIGHUP)


def test_there_is_no_handle_on_nobody() -> None:
    """A number that no process has, and the number of a thread, are refused."""
    for number in (2**22 + 1, 0, -1):
        with pytest.raises(ProcessLookupError):
            Process(number)


def test_the_start_of_a_process_is_known_by_the_wall_clock(dependent: subprocess.Popen[bytes], tmp_path: Path) -> None:
    """A process starts before a file that is written after it, and after one that was written before it."""
    after = tmp_path / "after"
    after.touch()
    program = tmp_path / "dependent"
    with Process(dependent.pid) as process:
        # A second: the two clocks are read one after the other, and this process may be held up between.
        assert program.stat().st_ctime - 1.0 <= process.started_s() <= after.stat().st_mtime + 1.0


def test_an_executable_is_known_by_its_file(dependent: subprocess.Popen[bytes], program: Path, tmp_path: Path) -> None:
    """Another name for the same file matches; the same bytes in another file do not."""
    link = tmp_path / "link"
    link.symlink_to(program)
    twin = shutil.copy(program, tmp_path / "twin")
    with Process(dependent.pid) as process:
        assert process.runs(str(program))
        assert process.runs(str(link))
        assert not process.runs(str(twin))
        assert not process.runs(str(tmp_path / "absent"))


def test_an_upgraded_executable_still_matches(dependent: subprocess.Popen[bytes], program: Path) -> None:
    """After a package upgrade the old process runs a removed file of the same path."""
    shutil.copy("/bin/sleep", f"{program}.new")
    os.replace(f"{program}.new", program)
    with Process(dependent.pid) as process:
        assert process.runs(str(program))
        program.unlink()
        assert process.runs(str(program))


@pytest.mark.skipif(ROOT, reason="root may look at every process")
def test_what_may_not_be_seen_is_said_and_not_guessed() -> None:
    """Another user's executable is a refusal, not a no."""
    with Process(1) as process, pytest.raises(PermissionError):
        process.runs("/sbin/init")


def test_a_program_may_call_itself_what_it_likes(tmp_path: Path) -> None:
    """A name with brackets and blanks does not confuse the reading of /proc/PID/stat."""
    program = shutil.copy("/bin/sleep", tmp_path / ") Z 1 (x")
    process = subprocess.Popen([program, "1000"])
    try:
        stat = read_stat(process.pid)
        assert (stat.group, stat.dead) == (os.getpgrp(), False)
    finally:
        process.kill()
        process.wait()


def test_a_group_is_empty_when_only_zombies_are_left() -> None:
    """A living member keeps a group; a dead one does not."""
    leader = subprocess.Popen(["/bin/sleep", "1000"], start_new_session=True)
    assert not group_is_empty(leader.pid)
    leader.kill()
    os.waitid(os.P_PID, leader.pid, os.WEXITED | os.WNOWAIT)
    assert group_is_empty(leader.pid)
    leader.wait()


def test_a_pid_file_says_a_number_and_who_wrote_it_when(tmp_path: Path) -> None:
    """Blanks, further lines (PostgreSQL) and a missing newline are all fine."""
    path = tmp_path / "pid"
    for content in ("4242\n", " 4242 \n/var/lib/postgresql\n5432\n", "4242"):
        path.write_text(content)
        file = read_pid_file(str(path))
        assert (file.pids, file.owner, file.written_s) == ((4242,), os.geteuid(), path.stat().st_mtime)


def test_a_pid_file_that_names_no_process_is_refused(tmp_path: Path) -> None:
    """Never pid 0, 1 or a negative one (kill(2) takes those for groups and init), never keyturn itself."""
    path = tmp_path / "pid"
    for content in ("", "\n", "-1\n", "0\n", "1\n", f"{os.getpid()}\n", "12x\n", "0x10\n", "9" * 30, "²\n", "\0"):
        path.write_text(content)
        with pytest.raises(NotifyError, match=str(path)) as caught:
            read_pid_file(str(path))
        assert caught.value.remedy, content


def test_a_pid_file_that_everybody_can_write_is_refused(tmp_path: Path) -> None:
    """Whoever may write it would choose whom we signal."""
    path = tmp_path / "pid"
    path.write_text("4242\n")
    path.chmod(0o666)
    with pytest.raises(NotifyError, match="everybody can write"):
        read_pid_file(str(path))


@pytest.mark.skipif(not ROOT, reason="gives a file to a strange group")
def test_a_pid_file_that_a_strange_group_can_write_is_refused(tmp_path: Path) -> None:
    """Its members would choose whom we signal; root's group and our own may write it."""
    path = tmp_path / "pid"
    path.write_text("4242\n")
    path.chmod(0o664)
    assert read_pid_file(str(path)).pids == (4242,)
    os.chown(path, -1, 54321)
    with pytest.raises(NotifyError, match="group 54321 can write") as caught:
        read_pid_file(str(path))
    assert "0644" in caught.value.remedy
    path.chmod(0o644)
    assert read_pid_file(str(path)).pids == (4242,)


def test_only_a_regular_file_is_a_pid_file(tmp_path: Path) -> None:
    """A link, a directory and a FIFO are refused, and a FIFO does not hold us up."""
    real = tmp_path / "real"
    real.write_text("4242\n")
    (tmp_path / "link").symlink_to(real)
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "fifo")
    for name in ("link", "directory", "fifo"):
        with pytest.raises(NotifyError, match=name) as caught:
            read_pid_file(str(tmp_path / name))
        assert caught.value.remedy


def test_a_missing_pid_file_means_that_nobody_runs(tmp_path: Path) -> None:
    """It has its own error: nobody needs to be told."""
    with pytest.raises(NoProcessError, match="no such pid file"):
        read_pid_file(str(tmp_path / "absent"))


@pytest.mark.skipif(ROOT, reason="root may read every file")
def test_a_pid_file_that_may_not_be_read_is_said_to_be_so(tmp_path: Path) -> None:
    """The sentence names who may not."""
    path = tmp_path / "pid"
    path.write_text("4242\n")
    path.chmod(0)
    with pytest.raises(NotifyError, match="may not read"):
        read_pid_file(str(path))


def test_signals_are_known_by_the_names_that_people_write() -> None:
    """With and without SIG, real-time ones with an offset; anything else is nobody's."""
    known = {"SIGHUP": 1, "HUP": 1, "USR1": signal.SIGUSR1, "SIGRTMIN": signal.SIGRTMIN, "RTMIN+3": signal.SIGRTMIN + 3}
    for name, number in known.items():
        assert signal_number(name) == number
        assert signal_number(signal_name(number)) == number
    for name in (
        "",
        "SIG",
        "1",
        "sighup",
        "SIGNOPE",
        "SIG_IGN",
        "SIGRTMIN-1",
        "SIGRTMAX+1",
        "SIGRTMIN+99",
        "SIGRTMIN+",
    ):
        assert signal_number(name) is None, name
