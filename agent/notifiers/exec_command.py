"""`exec`: run the operator's own command, with the event on its standard input and in KEYTURN_*.

`agent.system.process` holds it to its limits. Its output (the last 8 KiB of each stream, in one line without control
characters) goes into the log and nowhere else: it may hold a secret, and only the log masks those. A retry runs the
command again, so it should be able to run twice.

A program that somebody else can write or replace is not run, for whoever can would act as root or as the hook's user
(agent/system/trusted_program.py). A script that is the argument of an interpreter is not checked.
"""

from __future__ import annotations

import json
import os
import stat
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agent.core.errors import CancelledError, KeyturnError, NotifyError
from agent.core.events import PublishEvent
from agent.core.finding import Finding
from agent.core.problem import Problem
from agent.core.settings import NotifierSettings
from agent.notifiers.interface import HookFailedError, Notifier, Told
from agent.notifiers.output import tail
from agent.system.accounts import Account, find_account, instead, own_account, user_name
from agent.system.capabilities import may_become
from agent.system.process import SAFE_PATH, CommandError, Completed, find_program, run_command
from agent.system.process_group import Ending
from agent.system.trusted_program import program_problem

_AS_THEM = 'set `user = "{owner}"`, or '
"""The other remedy where another user decides what is run."""


@dataclass(frozen=True, kw_only=True)
class ExecSettings(NotifierSettings):
    """The settings of `type = "exec"`."""

    command: tuple[str, ...]
    user: str | None = None

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (key, sentence) for what the types cannot rule out."""
        if not self.command or not self.command[0]:
            yield "command", 'want a program and its arguments, such as ["/usr/sbin/nginx", "-s", "reload"]'
        elif "/" in self.command[0] and not Path(self.command[0]).is_absolute():
            yield "command", f"give the absolute path of the program, or its bare name to find it in {SAFE_PATH}"
        if any("\0" in part for part in self.command):
            yield "command", "a part of the command holds a zero byte; remove it"
        if self.user is not None and find_account(self.user) is None:
            remedy = instead("user", self.user, "create the user, or correct the name")
            yield "user", f"there is no user {self.user}; {remedy}"


class ExecNotifier(Notifier):
    """A dependent that is told by running a command."""

    type_name = "exec"
    Settings = ExecSettings
    settings: ExecSettings

    @property
    def target(self) -> str:
        """The program; its arguments are left out, because status is open to more people than the config."""
        return self.settings.command[0]

    @property
    def identity(self) -> tuple[str, ...]:
        """The whole command, and who runs it."""
        return ("exec", self.settings.user or "", *self.settings.command)

    @property
    def act(self) -> str:
        """The program, without its arguments."""
        return f"run {self.target}"

    def tell(self, event: PublishEvent, cancel: threading.Event) -> Told:
        """Run the command once.

        Raises:
            NotifyError: somebody else can write or replace the program, or it could not be started, did not end in time, or did not
                end with status 0.
            CancelledError: the agent is stopping.
        """
        program, account = self._runs()
        problem = None if program is None or account is None else program_problem(program, account, _AS_THEM)
        if problem is not None:
            raise NotifyError.of(problem)
        try:
            completed = run_command(
                (program or self.target, *self.settings.command[1:]),
                stdin=json.dumps(event.as_json(), ensure_ascii=False).encode() + b"\n",
                env=event.as_environment(),
                user=self.settings.user,
                timeout_s=self.settings.timeout,
                cancel=cancel,
            )
        except CommandError as err:
            raise NotifyError.of(err.as_problem()) from err
        if not completed.ok:
            raise self._failed(completed)
        return Told(_detail(completed))

    def inspect(self) -> Iterator[Finding]:
        """Yield whether the program is there, may be executed by its user, and cannot be replaced by others."""
        place = f"notify exec {self.target}"
        program, account = self._runs()
        if program is None or account is None:
            what = f"there is no program {self.target} in {SAFE_PATH}" if account else f"no user {self.settings.user}"
            yield Finding("error", place, what, "correct the config, or install what is missing")
            return
        problems = [Finding.of("error", place, problem) for problem in _problems(program, account)]
        yield from problems or [Finding("ok", place, f"{account.name} can execute {program}")]

    def _runs(self) -> tuple[str | None, Account | None]:
        """Return the path of the program, and the account that runs it."""
        return find_program(self.target), find_account(self.settings.user) if self.settings.user else own_account()

    def _failed(self, completed: Completed) -> KeyturnError:
        if completed.ending is Ending.CANCELLED:
            return CancelledError(f"{self.target}: the command {completed.outcome}", "it runs again at the next start")
        outcome, remedy = completed.outcome, "look at keyturn's log for what it printed, or run it by hand"
        if completed.ending is Ending.TIMED_OUT:
            outcome = f"did not end in time and was stopped after {self.settings.timeout:g} s"
            remedy = "raise its `timeout`, or let it do its work in the background"
        return HookFailedError(f"{self.target}: the command {outcome}", remedy, output=tail(completed))


def _detail(completed: Completed) -> str:
    left = "; what it left running was stopped" if completed.lingered else ""
    output = tail(completed)
    return f"status 0{left}" + (f": {output}" if output else "")


def _problems(program: str, account: Account) -> Iterator[Problem]:
    """Yield what is wrong with a program that an account is to run."""
    try:
        found = Path(program).stat()
    except OSError as err:
        yield Problem(f"{program}: {err.strerror}", "install it, or correct the command")
        return
    if not stat.S_ISREG(found.st_mode):
        yield Problem(f"{program} is not a regular file", "correct the command")
    elif not _may_execute(found, account):
        yield Problem(f"{account.name} may not execute {program}", f"`chmod +x {program}`, or set `user`")
    if not may_become(account.uid):
        yield Problem(
            f"{user_name()} may not run a command as {account.name}",
            "let the service do it (`keyturn systemd-setup --install`: CAP_SETUID CAP_SETGID), or leave `user` out",
        )
    problem = program_problem(program, account, _AS_THEM)
    if problem is not None:
        yield problem


def _may_execute(found: os.stat_result, account: Account) -> bool:
    """Return whether the permission bits let an account execute a file; root needs any one of the three bits."""
    if account.uid == 0:
        return bool(found.st_mode & 0o111)
    if found.st_uid == account.uid:
        return bool(found.st_mode & stat.S_IXUSR)
    if found.st_gid in (account.gid, *account.groups):
        return bool(found.st_mode & stat.S_IXGRP)
    return bool(found.st_mode & stat.S_IXOTH)
