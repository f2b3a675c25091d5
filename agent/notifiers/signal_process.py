"""`signal`: send a signal to the process meant, and to no other.

A pid file may be stale, and its number another process by now; or somebody else wrote it. So a process is
opened first (pidfd) and then has to be what the file means: alive, older than the file, of the configured
executable and user. The file counts only if root, the agent or the process's own user owns it and not
everybody can write it; otherwise any user could choose which process root signals.

Which executable a process runs stands in /proc/PID/exe, and ptrace(2) rules who may read that: for another
user's process, or one with more capabilities, even root needs CAP_SYS_PTRACE. "Nobody runs it" and "keyturn
may not see who runs it" are therefore different answers.

Of several processes (of one `exe`, or in one pid file), one that has ended needs no signal, and one that may not be
signalled does not keep the others from theirs. It is tried again without signalling those that were told, as long as this
daemon lives. Those of one pid file are told if they are of one program and user: it may hold other numbers than pids.

"Older than the file" compares the process's start with the file's mtime, both by the wall clock of today;
two seconds are allowed for a clock that was stepped a little in between.
"""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime

from agent.core.errors import NotifyError
from agent.core.events import PublishEvent
from agent.core.finding import Finding
from agent.core.problem import Problem
from agent.core.settings import FilePath, NotifierSettings
from agent.notifiers.interface import NoEffect, Notifier, Pickup, Told
from agent.notifiers.known_readers import of_a_kept_process
from agent.system.accounts import find_account, instead, user_name
from agent.system.pidfd import Process
from agent.system.pidfile import NoProcessError, PidFile, read_pid_file
from agent.system.procfs import pids, read_unit
from agent.system.signals import signal_name, signal_number

CLOCK_TOLERANCE_S = 2.0
"""Seconds by which a process may seem to have started after its pid file was written."""

_TO_SEE = (
    "give keyturn CAP_SYS_PTRACE (`keyturn systemd-setup --install` does where `exe` is configured), "
    "or give pid_file and user instead of exe"
)

_RELOADS = frozenset({signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2})


@dataclass(frozen=True, kw_only=True)
class SignalSettings(NotifierSettings):
    """The settings of `type = "signal"`."""

    signal: str = "SIGHUP"
    pid_file: FilePath | None = None
    exe: FilePath | None = None
    user: str | None = None

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (key, sentence) for what the types cannot rule out."""
        if self.pid_file is None and self.exe is None:
            yield "pid_file", "give pid_file, exe or both"
        if signal_number(self.signal) is None:
            yield "signal", 'want the name of a signal such as "SIGHUP", "SIGUSR1" or "SIGRTMIN+1"'
        if self.user is not None and find_account(self.user) is None:
            remedy = instead("user", self.user, "create the user, or correct the name")
            yield "user", f"there is no user {self.user}; {remedy}"


class SignalNotifier(Notifier):
    """A dependent that is told by a signal: a process, or every process of one executable."""

    type_name = "signal"
    Settings = SignalSettings
    settings: SignalSettings
    _unseen = 0
    """The number of processes that could not be looked at in the last search for `exe`."""
    _partly_told: tuple[object, dict[tuple[int, float], str]] = (None, {})
    """The news that some processes could not be told of, and those that were told: (pid, start) -> their name."""

    @property
    def target(self) -> str:
        """The pid file, else the executable."""
        return str(self.settings.pid_file or self.settings.exe)

    @property
    def identity(self) -> tuple[str, ...]:
        """The signal and everything that chooses the process."""
        chosen = self.settings
        return ("signal", str(self._number), chosen.pid_file or "", chosen.exe or "", chosen.user or "")

    @property
    def act(self) -> str:
        """The signal, and to whom."""
        whom = (
            f"the process in {self.settings.pid_file}"
            if self.settings.pid_file
            else f"all that run {self.settings.exe}"
        )
        return f"{signal_name(self._number)} to {whom}"

    def tell(self, event: PublishEvent, cancel: threading.Event) -> Told:
        """Send the signal to each process meant; a retry of the same news leaves out those that were told.

        Raises:
            NotifyError: there is none, it is not the one meant, or one may not be signalled; all others were.
        """
        news = (event.credential, event.generation, event.trigger)
        if self._partly_told[0] != news:
            self._partly_told = (news, {})
        told = self._partly_told[1]
        with ExitStack() as held:
            self._send_to_all(self._processes(held), self._number, told)
        self._partly_told = (None, {})  # the same generation may be news again, when a file was put right
        return Told(f"{signal_name(self._number)} to {', '.join(told.values())}")

    def pickup(self, since: datetime) -> Pickup:
        """Return CONFIRMED where every process meant started after `since`, so that it has read the new value."""
        try:
            with ExitStack() as held:
                started_s = [process.started_s() for process in self._processes(held)]
        except (NotifyError, OSError):
            return Pickup.ASSUMED
        return Pickup.CONFIRMED if min(started_s) > since.timestamp() else Pickup.ASSUMED

    def inspect(self) -> Iterator[Finding]:
        """Yield whether there is such a process now, and whether it could be told."""
        place = f"notify signal {self.target}"
        try:
            with ExitStack() as held:
                # Signal 0 reaches nobody: the kernel only says whether a signal might be sent (kill(2)).
                told: dict[tuple[int, float], str] = {}
                self._send_to_all(self._processes(held), 0, told)
        except NotifyError as err:
            level = "warning" if isinstance(err, NoProcessError) else "error"
            yield Finding.of(level, place, err.as_problem())
            return
        yield Finding("ok", place, f"{signal_name(self._number)} goes to {', '.join(told.values())}")
        if self._unseen:
            what = f"keyturn may not see what {self._unseen} other processes run; those of {self.target} are not told"
            yield Finding("warning", place, what, _TO_SEE)

    def by_hand(self) -> str:
        """Return the command that restarts the processes' units; where they are in none, only their keeper knows it."""
        try:
            with ExitStack() as held:
                units = sorted({read_unit(process.pid) for process in self._processes(held)})
        except (NotifyError, OSError):
            units = [""]
        if all(units):
            return f"systemctl restart {' '.join(units)}"
        if self.settings.pid_file is not None:
            return f"restart the process that {self.settings.pid_file} names"
        return f"restart every process that runs {self.settings.exe}"

    def hindered(self, sink_types: frozenset[str]) -> NoEffect | None:
        """Return a reason where the signal asks for a reload, which keeps the environment and a client of the SDK."""
        if self._number not in _RELOADS:
            return None
        return of_a_kept_process(
            sink_types,
            Problem(
                f"{signal_name(self._number)} does not change the environment of a running process",
                "restart it, unless the program itself reads the env file again at this signal",
            ),
            "restart it",
        )

    @property
    def _number(self) -> int:
        return signal_number(self.settings.signal) or signal.SIGHUP

    def _send_to_all(self, processes: Sequence[Process], number: int, told: dict[tuple[int, float], str]) -> None:
        """Signal all but those in `told`, and add them there. One that has ended meanwhile needs no signal.

        Raises:
            NotifyError: all have ended, or one may not be signalled.
        """
        refused: NotifyError | None = None
        for process in processes:
            try:
                who = (process.pid, process.started_boot_s())
                if who not in told:
                    whose = user_name(process.uid())
                    process.send(number)
                    told[who] = f"pid {process.pid} ({whose})"
            except ProcessLookupError:
                continue
            except PermissionError:
                refused = refused or self._may_not(process)
        if refused is not None:
            raise refused
        if not told:
            raise self._ended(processes[-1].pid)

    def _may_not(self, process: Process) -> NotifyError:
        try:
            whose = f" of {user_name(process.uid())}"
        except OSError:
            whose = ""
        return NotifyError(
            f"{self.target}: {user_name()} may not signal process {process.pid}{whose}",
            "let the service do it (`keyturn systemd-setup --install`: CAP_KILL), or run keyturn as that user",
        )

    def _processes(self, held: ExitStack) -> list[Process]:
        """Return the processes meant, each held and checked; never an empty list.

        Raises:
            NotifyError: there is none, or what is there is not what was meant.
        """
        try:
            if self.settings.pid_file is not None:
                return self._named_by(read_pid_file(self.settings.pid_file), held)
            return self._all_running(str(self.settings.exe), held)
        except OSError as err:
            if err.errno != errno.ENOSYS:
                raise NotifyError(
                    f"{self.target}: cannot look at the process: {err.strerror}",
                    f"look at /proc as {user_name()} (ProtectProc=, hidepid), or give keyturn CAP_SYS_PTRACE",
                ) from err
            raise NotifyError(
                f"{self.target}: this system cannot hold on to a process (pidfd), so a signal could hit another one",
                'use Linux 5.3 or newer, or tell the dependent by `type = "systemd"` or `type = "exec"`',
            ) from err

    def _named_by(self, file: PidFile, held: ExitStack) -> list[Process]:
        """Return the processes of a pid file; of several, those that have ended are left out as long as one runs."""
        found: list[Process] = []
        gone: NoProcessError | None = None
        for pid in file.pids:
            try:
                process = held.enter_context(Process(pid))
                self._refuse_another_process(file, process)
                found.append(process)
            except ProcessLookupError:
                gone = gone or self._ended(pid)
            except NoProcessError as err:
                gone = gone or err
        if not found and gone is not None:
            raise gone
        self._refuse_another_program(file, found)
        return found

    def _refuse_another_program(self, file: PidFile, found: Sequence[Process]) -> None:
        """Refuse several numbers unless they are processes of one program: another number in the file may be a port."""
        first, *others = found
        for other in others:
            if other.program() != first.program() or other.uid() != first.uid():
                raise NotifyError(
                    f"{file.path}: processes {first.pid} and {other.pid} of this pid file are not of one program and user",
                    "let the file hold nothing but pids of the dependent, or name its executable by `exe` instead",
                )

    def _ended(self, pid: int) -> NoProcessError:
        return NoProcessError(
            f"{self.target}: process {pid} does not run", "start the dependent; it reads the new value when it starts"
        )

    def _refuse_another_process(self, file: PidFile, process: Process) -> None:
        uid = process.uid()
        if file.owner not in (0, os.geteuid(), uid):
            raise NotifyError(
                f"{file.path}: {user_name(file.owner)} owns this pid file and names a process of {user_name(uid)}",
                "let root or the dependent's own user write the file",
            )
        if process.started_s() > file.written_s + CLOCK_TOLERANCE_S:
            raise NoProcessError(
                f"{file.path}: process {process.pid} started after this file was written, so it is another one",
                "restart the dependent, so that it writes its pid file anew",
            )
        if not self._is_user(uid):
            raise NotifyError(
                f"{file.path}: process {process.pid} belongs to {user_name(uid)} and not to {self.settings.user}",
                "correct `user` or `pid_file` in the config",
            )
        if self.settings.exe is not None and not self._runs(process, self.settings.exe):
            raise NotifyError(
                f"{file.path}: process {process.pid} does not run {self.settings.exe}",
                f"compare it with `readlink /proc/{process.pid}/exe`; for a script that is the interpreter",
            )

    def _is_user(self, uid: int) -> bool:
        if self.settings.user is None:
            return True
        account = find_account(self.settings.user)
        return account is not None and account.uid == uid

    def _runs(self, process: Process, exe: str) -> bool:
        try:
            return process.runs(exe)
        except PermissionError as err:
            raise NotifyError(f"{self.target}: keyturn may not see what process {process.pid} runs", _TO_SEE) from err

    def _all_running(self, exe: str, held: ExitStack) -> list[Process]:
        candidates = (self._open_if_meant(pid, exe) for pid in pids() if pid > 1 and pid != os.getpid())
        self._unseen = 0
        found = [held.enter_context(process) for process in candidates if process is not None]
        if found:
            return found
        whose = f" as {self.settings.user}" if self.settings.user else ""
        remedy = "start the dependent; for a script give its interpreter, or a pid_file"
        if self._unseen:
            what = (
                f"no process that keyturn may look at runs this executable{whose}, and {self._unseen} others it may not"
            )
            raise NotifyError(f"{exe}: {what}", f"{_TO_SEE}; or {remedy}")
        raise NoProcessError(f"{exe}: no process runs this executable{whose}", remedy)

    def _open_if_meant(self, pid: int, exe: str) -> Process | None:
        try:
            process = Process(pid)
        except ProcessLookupError:
            return None
        try:
            if self._is_user(process.uid()) and process.runs(exe):
                return process
        except ProcessLookupError:
            pass  # it ended meanwhile
        except PermissionError:
            self._unseen += 1
        process.close()
        return None
