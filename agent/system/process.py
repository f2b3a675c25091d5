"""Other programs: run one command, bounded in time, output and rights.

Every command of the agent (hooks, systemctl, probes, the `process` provider) goes through `run_command`.
It gets its own session and process group, `/` as its directory, umask 077, no descriptor but 0, 1 and 2, an
environment made from nothing, the limit for core dumps that keyturn was started with (agent/system/core_dumps.py),
and none of the agent's ambient capabilities (they would survive a change from one ordinary user to another,
capabilities(7)). It cannot outlast its limit, fill the agent's memory, or hold
the agent through a pipe that a child of it keeps open, which is how hooks of other agents hang for ever
(certbot#5424, lego#2468).

The limit applies to the command and to whatever it left in its process group with its output still open;
at the limit the whole group gets SIGTERM, and SIGKILL two seconds later. Two things are left alone: a child
that closed or redirected its output, and one that moved to a session of its own, as daemons do. Both were
detached on purpose, and ending them would end the very service that a hook has just started.

Rejected: `preexec_fn`, which is not safe in a process with threads; a shell; `Popen.communicate`, which
waits for the end of the output rather than of the command.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from agent.core.errors import KeyturnError
from agent.core.problem import Problem
from agent.core.settings import PickupSettings
from agent.system import core_dumps
from agent.system.accounts import Account, find_account, instead, own_account
from agent.system.oserrors import explain
from agent.system.process_group import Ending, ProcessGroup
from agent.system.signals import signal_name
from agent.system.trusted_program import program_problem

SAFE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""The directories in which programs without a path are looked up; the agent's own $PATH is never used."""

OUTPUT_LIMIT = 8 * 1024
"""Bytes that are kept of each output, from its end, where the reason of a failure stands."""

_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4  # linux/prctl.h


class CommandError(KeyturnError):
    """A command could not be started."""

    retryable = True


@dataclass(frozen=True, slots=True)
class Completed:
    """The result of a command.

    Attributes:
        status: the exit status, negative for the signal that ended it, as in subprocess.
        stdout, stderr: the tail of each output. A provider's command writes secrets there, so repr leaves them out.
        truncated: some output was dropped.
        lingered: the command ended in time, but what it left in its process group had to be killed.
    """

    ending: Ending
    status: int
    stdout: bytes = field(repr=False)
    stderr: bytes = field(repr=False)
    truncated: bool = False
    lingered: bool = False

    @property
    def ok(self) -> bool:
        """Whether it ended by itself, with status 0."""
        return self.ending is Ending.EXITED and self.status == 0

    @property
    def outcome(self) -> str:
        """A clause for people, such as "ended with status 3"."""
        if self.ending is Ending.TIMED_OUT:
            return "did not end in time and was stopped"
        if self.ending is Ending.CANCELLED:
            return "was stopped, because the agent is stopping"
        if self.status < 0:
            return f"was ended by {signal_name(-self.status)}"
        return f"ended with status {self.status}"

    def text(self, limit: int = OUTPUT_LIMIT) -> str:
        """Return both outputs in one printable line of at most `limit` characters, the last ones."""
        parts = (printable(self.stdout), printable(self.stderr))
        return " | ".join(part for part in parts if part)[-limit:]


def printable(raw: bytes) -> str:
    """Return output as one line that is safe in a log and on a terminal: lines joined, control characters removed."""
    lines = raw.decode("utf-8", errors="replace").splitlines()
    clean = ("".join(char for char in line if char.isprintable()).strip() for line in lines)
    return " | ".join(line for line in clean if line)


def find_program(name: str, search_path: str = SAFE_PATH) -> str | None:
    """Return the absolute path of a program; None for a name that no directory of `search_path` has."""
    return name if Path(name).is_absolute() else shutil.which(name, path=search_path)


def run_command(
    argv: Sequence[str],
    *,
    timeout_s: float,
    cancel: threading.Event,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    user: str | None = None,
    output_limit: int = OUTPUT_LIMIT,
) -> Completed:
    """Run a command to its end, or end it.

    Args:
        argv: the program (an absolute path, or a name looked up in `SAFE_PATH`) and its arguments; never a
            secret, because everybody on the machine can read a command line.
        timeout_s: seconds for the command and what it leaves in its process group.
        cancel: ends the command early when it is set.
        stdin: bytes that the command may read.
        env: variables besides PATH, LANG, HOME, USER and LOGNAME; nothing is inherited.
        user: the user to run it as, with all their groups; None for the agent's own.
        output_limit: bytes kept of each output.

    Raises:
        CommandError: it could not be started; the text names the program and the remedy.
    """
    if cancel.is_set():
        return Completed(Ending.CANCELLED, 0, b"", b"")
    account = _account(user)
    deadline = time.monotonic() + timeout_s
    group = _start(_resolve(argv), account, env or {}, stdin, output_limit)
    try:
        ending = group.wait(deadline, cancel)
        lingered = ending is Ending.EXITED and not group.finished()
        if lingered or ending is not Ending.EXITED:
            group.end()
    finally:
        status = group.close()
    out, err = group.stdout, group.stderr
    return Completed(ending, status, out.kept(), err.kept(), out.dropped or err.dropped, lingered)


def probe(settings: PickupSettings, cancel: threading.Event, env: Mapping[str, str] | None = None) -> bool:
    """Run a pickup probe, and return whether its exit status 0 says that the new value is in use. Never raises.

    One that `probe_problem` refuses is not run.
    """
    if probe_problem(settings) is not None:
        return False
    try:
        return run_command(settings.command, timeout_s=settings.timeout, cancel=cancel, env=env).ok
    except CommandError:
        return False


def probe_problem(settings: PickupSettings) -> Problem | None:
    """Return why a pickup probe cannot be run, or must not be; None where nothing is against it."""
    program = find_program(settings.command[0])
    if program is None:
        return Problem(
            f"there is no program {settings.command[0]} in {SAFE_PATH}", "install it, or give its absolute path"
        )
    return program_problem(program, own_account())


def _account(user: str | None) -> Account:
    if user is None:
        return own_account()
    found = find_account(user)
    if found is None:
        raise CommandError(
            f"there is no user {user} to run a command as",
            instead("user", user, "create the user, or correct the config"),
        )
    return found


def _resolve(argv: Sequence[str]) -> list[str]:
    program = find_program(argv[0])
    if program is None:
        raise CommandError(f"there is no program {argv[0]} in {SAFE_PATH}", "install it, or give its absolute path")
    return [program, *argv[1:]]


def _environment(account: Account, extra: Mapping[str, str]) -> dict[str, str]:
    who = {"HOME": account.home, "USER": account.name, "LOGNAME": account.name}
    return {"PATH": SAFE_PATH, "LANG": "C.UTF-8", **who, **extra}


def _start(
    argv: list[str], account: Account, extra: Mapping[str, str], stdin: bytes, output_limit: int
) -> ProcessGroup:
    leader = _spawn(argv, account, extra)
    try:
        return ProcessGroup(leader, stdin, output_limit)
    except OSError as err:
        raise CommandError.of(explain(err, argv[0]).at(f"{argv[0]}: it was started and killed at once")) from err


def _spawn(argv: list[str], account: Account, extra: Mapping[str, str]) -> subprocess.Popen[bytes]:
    change = account.uid != os.geteuid()
    _drop_ambient_capabilities()
    try:
        with core_dumps.limit_as_before():
            return subprocess.Popen(
                argv,
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                close_fds=True,
                cwd="/",
                env=_environment(account, extra),
                restore_signals=True,
                start_new_session=True,
                user=account.uid if change else None,
                group=account.gid if change else None,
                extra_groups=account.groups if change else None,
                umask=0o077,
            )
    except (OSError, ValueError) as err:
        raise _not_started(argv[0], account, change, err) from err


def _drop_ambient_capabilities() -> None:
    """Empty this thread's ambient set, which matters only at exec; on a kernel without one nothing happens."""
    ctypes.CDLL(None).prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)


def _not_started(program: str, account: Account, change: bool, err: OSError | ValueError) -> CommandError:
    """Return the error for a command that could not be started.

    subprocess does not tell a failed setuid from a failed exec, but exec hardly ever ends in EPERM.
    """
    if not isinstance(err, OSError):
        return CommandError(f"{program}: an argument holds a zero byte", "correct the command in the config")
    if err.errno == errno.EPERM and change:
        return CommandError(
            f"{program}: keyturn may not run a command as {account.name}",
            "let the service do it (`keyturn systemd-setup --install`), or leave `user` out",
        )
    problem, remedy = _START_PROBLEMS.get(err.errno or 0, (f"cannot be started: {err.strerror}", "look at `dmesg`"))
    if err.errno == errno.ENOENT and os.path.lexists(program):
        problem, remedy = "its interpreter does not exist", "correct the first line of the script"
    return CommandError(f"{program}: {problem.format(user=account.name)}", remedy.format(program=program))


_START_PROBLEMS = {
    errno.ENOENT: ("it does not exist", "install it, or correct the command in the config"),
    errno.ENOTDIR: ("it does not exist", "correct the command in the config"),
    errno.EACCES: ("user {user} may not execute it", "look at `namei -l {program}` and give that right (`chmod +x`)"),
    errno.EPERM: ("the system does not let {user} execute it", "look at the mount options and at the audit log"),
    errno.ENOEXEC: ("it is not a program", "begin the script with a line like `#!/bin/sh`"),
    errno.ETXTBSY: ("it is being written just now", "wait until its installation has ended"),
    errno.E2BIG: ("the command and its environment are too long", "shorten the command"),
    errno.EMFILE: ("keyturn has too many open files", "raise LimitNOFILE= of keyturn's unit"),
    errno.ENFILE: ("the system has too many open files", "raise fs.file-max"),
    errno.EAGAIN: ("there are too many processes", "raise TasksMax= of keyturn's unit, or end some"),
    errno.ENOMEM: ("there is no memory left", "free some, or raise MemoryMax= of keyturn's unit"),
}
