"""Commands are held to their limits: time, output, environment, rights, and what they leave behind."""

from __future__ import annotations

import errno
import os
import select
import selectors
import signal
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import pytest

from agent.core.settings import Duration, PickupSettings
from agent.system import process_group
from agent.system.process import CommandError, Completed, printable, probe, run_command
from agent.system.process_group import Ending

NEVER = threading.Event()
LONG_S = 60.0  # a limit that no passing test comes near


def sh(script: str, *arguments: str, timeout_s: float = LONG_S, **options: object) -> Completed:
    """Run a shell script through the door."""
    return run_command(["/bin/sh", "-c", script, "sh", *arguments], timeout_s=timeout_s, cancel=NEVER, **options)  # type: ignore[arg-type]


class Witness:
    """A FIFO that a command's processes hold open: its end of file says that the last of them is gone."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = str(path)
        self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)

    def read_line(self) -> bytes:
        """Wait until a process has written something."""
        poller = select.poll()
        poller.register(self._fd, select.POLLIN)
        poller.poll()
        return os.read(self._fd, 100)

    def all_gone(self) -> bool:
        """Wait for the end of file, which comes when nobody holds the FIFO any more."""
        os.set_blocking(self._fd, True)
        while os.read(self._fd, 100):
            pass
        return True

    def is_held(self) -> bool:
        """Whether somebody still holds it: reading would block."""
        os.set_blocking(self._fd, False)
        try:
            return bool(os.read(self._fd, 100))
        except BlockingIOError:
            return True

    def close(self) -> None:
        """Let go."""
        os.close(self._fd)


@pytest.fixture
def witness(tmp_path: Path) -> Iterator[Witness]:
    """A witness of who still runs."""
    found = Witness(tmp_path / "witness")
    yield found
    found.close()


def test_a_command_gets_its_input_and_gives_its_output_and_status() -> None:
    """Standard input arrives whole; both outputs and the status come back apart."""
    done = sh("cat; echo complaint >&2; exit 3", stdin=b"hello\n")
    assert (done.ending, done.status, done.stdout, done.stderr) == (Ending.EXITED, 3, b"hello\n", b"complaint\n")
    assert not done.ok
    assert done.outcome == "ended with status 3"
    assert done.text() == "hello | complaint"


def test_input_larger_than_a_pipe_arrives_whole() -> None:
    """A megabyte goes in although a pipe holds 64 KiB."""
    assert sh("wc -c", stdin=b"x" * 1_000_000).stdout.strip() == b"1000000"


def test_a_command_that_does_not_read_its_input_is_fine() -> None:
    """A broken pipe on standard input is not a failure."""
    assert sh("exec <&-; exit 0", stdin=b"x" * 1_000_000).ok


def test_nothing_of_the_agents_environment_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only PATH, LANG, HOME, USER, LOGNAME and what was asked for: never a secret of the agent's own."""
    monkeypatch.setenv("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "canary-in-the-environment")
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/systemd/notify")
    done = run_command(["env"], timeout_s=LONG_S, cancel=NEVER, env={"KEYTURN_EVENT": "published"})
    names = {line.split(b"=")[0] for line in done.stdout.splitlines()}
    assert names == {b"PATH", b"LANG", b"HOME", b"USER", b"LOGNAME", b"KEYTURN_EVENT"}


def test_no_descriptor_of_the_agent_is_inherited() -> None:
    """A descriptor that somebody made inheritable still stays in the agent."""
    read, write = os.pipe()
    os.set_inheritable(write, True)
    try:
        assert sh("ls /proc/$$/fd").stdout.split() == [b"0", b"1", b"2"]
    finally:
        os.close(read)
        os.close(write)


def test_a_command_stands_in_its_own_session_at_the_root_and_writes_private_files() -> None:
    """Session leader, group leader, `/`, umask 077."""
    done = sh("echo $$ $(cut -d' ' -f5,6 /proc/$$/stat) $(pwd) $(umask)")
    pid, group, session, directory, umask = done.stdout.split()
    assert pid == group == session
    assert (directory, umask) == (b"/", b"0077")


def test_signals_that_python_ignores_work_again_in_a_command() -> None:
    """SIGPIPE and SIGXFSZ are at their defaults and nothing is blocked."""
    lines = run_command(["cat", "/proc/self/status"], timeout_s=LONG_S, cancel=NEVER).stdout.decode().splitlines()
    masks = {
        line.split(":")[0]: int(line.split()[1], 16) for line in lines if line.startswith("Sig") and "/" not in line
    }
    ours = 1 << (signal.SIGPIPE - 1) | 1 << (signal.SIGXFSZ - 1)
    assert masks["SigIgn"] & ours == 0
    assert masks["SigBlk"] == 0


def test_a_flood_of_output_is_bounded_and_its_end_is_kept() -> None:
    """100 MB go by; 8 KiB stay, the last ones."""
    done = sh("head -c 100000000 /dev/zero; echo the end")
    assert done.ok
    assert done.truncated
    assert len(done.stdout) == 8 * 1024
    assert done.stdout.endswith(b"\0the end\n")


def stop_when_ready(script: str, witness: Witness) -> Completed:
    """Run a script, and cancel it once it has announced itself on descriptor 3."""
    cancel = threading.Event()
    argv = ["/bin/sh", "-c", f'exec 3>"$1"; {script}', "sh", witness.path]
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(run_command, argv, timeout_s=LONG_S, cancel=cancel)
        assert witness.read_line() == b"ready\n"
        cancel.set()
        return running.result()


def test_a_hanging_command_is_ended_at_the_limit(witness: Witness) -> None:
    """A command that takes too long is over, with everything that it started."""
    done = sh('exec 3>"$1"; sleep 1000; sleep 1000', witness.path, timeout_s=0.3)
    assert done.ending is Ending.TIMED_OUT
    assert not done.ok
    assert done.outcome == "did not end in time and was stopped"
    assert witness.all_gone()


def test_a_command_gets_sigterm_first(witness: Witness) -> None:
    """It may clean up, and what it still says is kept."""
    # A loop and no `sleep`: a child that dash has forked and not yet started swallows a SIGTERM of that instant.
    script = 'sleep 1000 & trap "echo cleaned up; exit 7" TERM; echo ready >&3; while :; do :; done'
    done = stop_when_ready(script, witness)
    assert (done.ending, done.status, done.stdout) == (Ending.CANCELLED, 7, b"cleaned up\n")
    assert done.outcome == "was stopped, because the agent is stopping"
    assert witness.all_gone()


def test_a_command_that_ignores_sigterm_is_killed(witness: Witness) -> None:
    """Two seconds after SIGTERM comes SIGKILL, to the children too."""
    done = stop_when_ready('trap "" TERM; echo ready >&3; sleep 1000; sleep 1000', witness)
    assert (done.ending, done.status) == (Ending.CANCELLED, -signal.SIGKILL)
    assert witness.all_gone()


def test_a_child_that_ignores_sigterm_is_killed_though_its_parent_took_it(witness: Witness) -> None:
    """The group gets SIGKILL as well, not only a command that is still there."""
    done = stop_when_ready('(trap "" TERM; echo ready >&3; sleep 1000; sleep 1000) & wait', witness)
    assert done.status == -signal.SIGTERM
    assert witness.all_gone()


def test_a_stopped_command_is_killed_all_the_same() -> None:
    """A process that stopped itself cannot take SIGTERM; it takes SIGKILL."""
    assert sh("kill -STOP $$", timeout_s=0.3).ending is Ending.TIMED_OUT


def test_a_command_that_ends_but_leaves_a_child_on_its_output_does_not_hang_us(witness: Witness) -> None:
    """The status counts, and what is left of the group is ended at the limit (certbot#5424)."""
    done = sh('exec 3>"$1"; sleep 1000 & echo done', witness.path, timeout_s=2.0)
    assert done.ok
    assert done.lingered
    assert done.stdout == b"done\n"
    assert witness.all_gone()


def test_a_daemon_in_its_own_session_neither_hangs_us_nor_is_ended(witness: Witness) -> None:
    """A service that a hook has just started keeps running, though it holds the hook's output."""
    script = "exec 3>\"$1\"; setsid sh -c 'echo $$ >&3; exec sleep 1000' & exit 0"
    done = sh(script, witness.path)
    daemon = int(witness.read_line())
    try:
        assert done.ok
        assert not done.lingered
        assert witness.is_held()
    finally:
        os.kill(daemon, signal.SIGKILL)
    assert witness.all_gone()


def test_a_child_that_closed_its_output_is_left_alone(witness: Witness) -> None:
    """`command >/dev/null 2>&1 &` in a hook is detached on purpose."""
    done = sh('exec 3>"$1"; sleep 1000 >/dev/null 2>&1 </dev/null & echo $!', witness.path)
    try:
        assert done.ok
        assert witness.is_held()
    finally:
        os.kill(int(done.stdout), signal.SIGKILL)
    assert witness.all_gone()


def test_a_stopping_agent_starts_nothing(tmp_path: Path) -> None:
    """With cancel already set the command does not begin."""
    cancel = threading.Event()
    cancel.set()
    done = run_command(["touch", str(tmp_path / "made")], timeout_s=LONG_S, cancel=cancel)
    assert done.ending is Ending.CANCELLED
    assert not (tmp_path / "made").exists()


def test_output_is_made_safe_for_logs_and_terminals() -> None:
    """Escapes, bells, carriage returns, text-direction tricks and bad UTF-8 do not get through."""
    raw = b"\x1b[31mred\x07\n\n  two\r\nth\xe2\x80\xaeree \xff\n"
    assert printable(raw) == "[31mred | two | three \ufffd"


def test_the_output_of_a_command_is_not_in_its_repr() -> None:
    """A provider's command writes secrets: no traceback or log of a result may show them."""
    assert "canary" not in repr(sh("echo canary; echo canary >&2"))


def test_a_probe_says_yes_by_status_zero_only() -> None:
    """Status 0 is the only yes; a failure, a hang and a missing program are a no, never an error."""
    answers = {
        ("/bin/true",): True,
        ("/bin/false",): False,
        ("/bin/sleep", "1000"): False,
        ("/nonexistent/probe",): False,
    }
    for command, answer in answers.items():
        settings = PickupSettings(command=command, timeout=Duration(LONG_S if command[0] != "/bin/sleep" else 0.2))
        assert probe(settings, NEVER) is answer, command


def test_many_commands_at_once_leave_no_descriptor_and_no_zombie() -> None:
    """Pipes are closed and commands reaped, whatever way they ended."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    with ThreadPoolExecutor(20) as pool:
        done = list(pool.map(sh, ["echo $$"] * 20))
    assert sh("sleep 1000", timeout_s=0.1).ending is Ending.TIMED_OUT
    assert len(list(Path("/proc/self/fd").iterdir())) <= before
    assert not any(is_our_child(int(each.stdout)) for each in done)


def test_a_command_that_cannot_be_served_is_killed_and_reaped(witness: Witness) -> None:
    """Descriptors ran out between its start and its supervision: nobody would hold it to its limit, so it goes."""
    started: list[int] = []

    def starved() -> NoReturn:
        witness.read_line()  # the command runs
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    class Noted(subprocess.Popen[bytes]):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            started.append(self.pid)

    before = set(os.listdir("/proc/self/fd"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selectors, "DefaultSelector", starved)
        patch.setattr(subprocess, "Popen", Noted)
        with pytest.raises(CommandError, match="too many open files") as caught:
            sh('trap "" TERM; exec 9>"$1"; echo up >&9; sleep 1000 & wait; sleep 1000', witness.path)
    assert "LimitNOFILE" in caught.value.remedy
    (pid,) = started
    try:
        assert not is_our_child(pid)
        assert witness.all_gone()
    finally:
        if is_our_child(pid):  # else the number may be somebody else's by now
            os.killpg(pid, signal.SIGKILL)
    assert set(os.listdir("/proc/self/fd")) <= before


def test_a_starved_agent_still_ends_a_whole_group(witness: Witness) -> None:
    """While /proc cannot be read for want of descriptors, what a command left behind is held to its limit."""

    def starved(_group: int) -> NoReturn:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(process_group, "group_is_empty", starved)
        done = sh('trap "" TERM; exec 9>"$1"; sleep 1000 & echo up', witness.path, timeout_s=1.0)
    assert done.lingered and done.stdout == b"up\n"
    assert witness.all_gone()


def is_our_child(pid: int) -> bool:
    """Whether a process, or the zombie of one, is still waited for by us."""
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True
