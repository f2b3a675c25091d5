"""`systemd`: `systemctl ACTION UNIT`, waiting for the job's result.

Decision: the program systemctl, not the bus API. It has been stable for longer than any library for the API, and it
explains polkit, masked units and job results in words. When the time is up, only systemctl is ended; the job goes on
in systemd, which has its own limits (90 s by default for a start, hence the longer limit here).

Whether a unit took the new value up is asked of its main process: started after the publish, it can only
have read the new value. `systemctl show` gives the MainPID, and /proc its start. (Its own timestamps have
whole seconds in the formats that can be parsed, and `--timestamp=` is missing before systemd 247, such as
the 239 of Alibaba Cloud Linux 3.) Where /proc hides other users' processes, the monotonic timestamp is used.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from agent.core.errors import CancelledError, KeyturnError, NotifyError
from agent.core.events import PublishEvent
from agent.core.finding import Finding
from agent.core.problem import Problem
from agent.core.settings import Duration, NotifierSettings
from agent.notifiers.interface import HookFailedError, NoEffect, Notifier, Pickup, Told
from agent.notifiers.known_readers import READ_ONCE, of_a_kept_process
from agent.notifiers.output import tail
from agent.system.process import SAFE_PATH, CommandError, Completed, find_program, run_command
from agent.system.process_group import Ending
from agent.system.procfs import read_stat, wall_time_of_monotonic_s, wall_time_s
from agent.system.signals import signal_name, signal_number

_SUFFIX = re.compile(r"\.(service|socket|target|timer|mount|automount|path|slice|scope|swap|device)\Z")
UNIT_NAME = re.compile(r"[A-Za-z0-9:_.\\@][A-Za-z0-9:_.\\@-]*")
"""systemd.unit(5). No leading hyphen: systemctl would take it for an option. No globs: one unit is one dependent."""

OWN_UNITS = frozenset({"keyturn.service", "keyturn-once.service", "keyturn-once.timer"})
"""Units of keyturn itself: it would end itself at each publish, before it noted that it told anybody, and so for ever."""
MAX_NAME = 255 - len(".service")
SHOW_TIMEOUT_S = 10.0
_SHOWN = ("LoadState", "ActiveState", "MainPID", "CanReload", "ExecMainStartTimestampMonotonic")
_ENDING_SIGNALS = frozenset({"SIGTERM", "SIGKILL", "SIGINT", "SIGQUIT", "SIGABRT"})

_INSTALL = "correct `unit`, or install it and run `systemctl daemon-reload`"
_CAN_RELOAD = 'set `action = "reload-or-restart"`, or give the unit an ExecReload='

_MEANINGS: tuple[tuple[str, str, str], ...] = (
    (r"not found|could not be found", "there is no such unit", _INSTALL),
    (r"is masked", "the unit is masked", "`systemctl unmask {unit}`, or take it out of the config"),
    (
        r"access denied|authentication required|permission denied|not permitted",
        "keyturn may not {action} this unit",
        "write the polkit rule for this unit and verb: `keyturn systemd-setup --install`, as root",
    ),
    (
        r"connect to bus|not been booted with systemd|connect to system scope bus|transport endpoint|host is down",
        "systemd cannot be reached over the system bus",
        "run keyturn on the host itself, under a static User= and not DynamicUser=, or tell the dependent another way",
    ),
    (r"job type reload is not applicable", "the unit cannot reload", _CAN_RELOAD),
    (
        r"is not active|inactive|not loaded",  # a stopped unit that nothing else needs is unloaded
        "the unit is not running, so it cannot be told",
        'start it, or set `action = "try-restart"`, which leaves a stopped unit alone',
    ),
    (
        r"repeated too quickly|start-limit",
        "the unit was started too often in a short time",
        "look at `journalctl -u {unit}`, then `systemctl reset-failed {unit}`",
    ),
    (r"job for .* failed|process exited", "its job failed", "look at `journalctl -u {unit}`"),
    (r"job for .* (canceled|cancelled)", "its job was cancelled by another one", "nothing, unless it happens again"),
)
"""Words of systemctl -> their meaning and a remedy. Measured with systemd 252, all but the start limit."""


@dataclass(frozen=True, kw_only=True)
class SystemdSettings(NotifierSettings):
    """The settings of `type = "systemd"`."""

    unit: str
    action: Literal["reload", "restart", "try-restart", "reload-or-restart", "kill"] = "reload-or-restart"
    signal: str | None = None
    timeout: Duration = Duration(120)

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (key, sentence) for what the types cannot rule out."""
        if len(self.unit) > MAX_NAME or UNIT_NAME.fullmatch(self.unit) is None:
            yield "unit", 'want the name of one unit, such as "uploader.service" or "worker@1.service"'
        if full_name(self.unit) in OWN_UNITS:
            yield "unit", "is keyturn itself, which is no dependent of its own; name the unit that uses the credential"
        if self.action == "kill" and self.signal is None:
            yield "signal", 'action "kill" needs a signal, such as "SIGHUP"'
        if self.action != "kill" and self.signal is not None:
            yield "signal", f'action "{self.action}" takes no signal; remove it, or set action = "kill"'
        if self.signal is not None and signal_number(self.signal) is None:
            yield "signal", 'want the name of a signal such as "SIGHUP" or "SIGUSR1"'


class SystemdNotifier(Notifier):
    """A dependent that is told by an action on its unit."""

    type_name = "systemd"
    Settings = SystemdSettings
    settings: SystemdSettings

    def __init__(self, settings: Any, search_path: str = SAFE_PATH) -> None:
        """Keep the settings; `search_path` is where systemctl is looked for."""
        super().__init__(settings)
        self._search_path = search_path

    @property
    def target(self) -> str:
        """The unit, with its suffix."""
        return full_name(self.settings.unit)

    @property
    def identity(self) -> tuple[str, ...]:
        """The unit and the action."""
        return ("systemd", self.target, self.settings.action, self._signal)

    @property
    def act(self) -> str:
        """The command."""
        return f"systemctl {self._action} {self.target}"

    def tell(self, event: PublishEvent, cancel: threading.Event) -> Told:
        """Run the action, and wait for its job.

        Raises:
            NotifyError: systemd cannot be reached, refuses, or the job failed or took too long.
            CancelledError: the agent is stopping.
        """
        options = [f"--signal={self._signal}"] if self._signal else []
        completed = self._systemctl([*options, self.settings.action], self.settings.timeout, cancel)
        if not completed.ok:
            raise self._failed(completed)
        return Told(f"systemctl {self._action} {self.target}")

    def pickup(self, since: datetime) -> Pickup:
        """Ask when the main process started, and whether an older one can have been reached by the action."""
        try:
            state = self._show()
        except NotifyError:
            return Pickup.ASSUMED
        active = state.get("ActiveState", "")
        started_s = _main_started_s(state)
        if active == "failed":
            return Pickup.NOT_PICKED_UP
        if started_s is not None and started_s > since.timestamp():
            return Pickup.CONFIRMED
        if started_s is None or active == "inactive":
            return Pickup.ASSUMED
        return Pickup.NOT_PICKED_UP if self._must_restart(state) else Pickup.ASSUMED

    def inspect(self) -> Iterator[Finding]:
        """Yield whether the unit is there, runs, and supports the action."""
        place = f"notify systemd {self.target}"
        try:
            state = self._show()
        except NotifyError as err:
            yield Finding.of("error", place, err.as_problem())
            return
        yield self._judge(place, state)

    def by_hand(self) -> str:
        """Return the command that starts the unit anew."""
        return f"systemctl restart {self.target}"

    def hindered(self, sink_types: frozenset[str]) -> NoEffect | None:
        """Return a reason where the unit's process stays, and with it its environment and a client of the SDK."""
        if not sink_types <= READ_ONCE or not self._keeps_process():
            return None
        return of_a_kept_process(
            sink_types,
            Problem(
                f"systemd reads an EnvironmentFile= only when {self.target} starts, and {self._action} does not start it",
                'set action = "try-restart", unless the program itself reads the env file again',
            ),
            'set action = "try-restart"',
        )

    @property
    def _signal(self) -> str:
        number = signal_number(self.settings.signal or "")
        return signal_name(number) if number else ""

    @property
    def _action(self) -> str:
        return f"{self.settings.action} --signal={self._signal}" if self._signal else self.settings.action

    def _keeps_process(self) -> bool:
        action = self.settings.action
        if action == "reload-or-restart":
            try:
                return self._show().get("CanReload") == "yes"
            except NotifyError:
                return False  # nothing is known
        return action == "reload" or (action == "kill" and self._signal not in _ENDING_SIGNALS)

    def _must_restart(self, state: Mapping[str, str]) -> bool:
        action = self.settings.action
        cannot_reload = state.get("CanReload") == "no"
        return action in ("restart", "try-restart") or (action == "reload-or-restart" and cannot_reload)

    def _judge(self, place: str, state: Mapping[str, str]) -> Finding:
        loaded = state.get("LoadState", "")
        if loaded == "masked":
            remedy = f"`systemctl unmask {self.target}`, or take it out of the config"
            return Finding("error", place, f"{self.target} is masked", remedy)
        if loaded != "loaded":
            return Finding("error", place, f"there is no unit {self.target} ({loaded})", _INSTALL)
        if self.settings.action == "reload" and state.get("CanReload") == "no":
            return Finding("error", place, f"{self.target} cannot reload", _CAN_RELOAD)
        if state.get("ActiveState") in ("inactive", "failed"):
            remedy = f"`systemctl start {self.target}`"
            return Finding("warning", place, f"{self.target} is {state['ActiveState']}", remedy)
        reloads = self.settings.action == "reload-or-restart" and state.get("CanReload") == "yes"
        effect = ", and will be reloaded" if reloads else ""
        return Finding("ok", place, f"{self.target} is {state.get('ActiveState')}{effect}")

    def _show(self) -> dict[str, str]:
        """Return the unit's properties.

        Raises:
            NotifyError: systemd cannot be asked.
        """
        options = ["--no-pager", *(f"--property={name}" for name in _SHOWN)]
        completed = self._systemctl([*options, "show"], min(SHOW_TIMEOUT_S, self.settings.timeout), threading.Event())
        if not completed.ok:
            raise self._failed(completed)
        lines = completed.stdout.decode("utf-8", errors="replace").splitlines()
        return {name: value for name, found, value in (line.partition("=") for line in lines) if found}

    def _systemctl(self, words: list[str], timeout_s: float, cancel: threading.Event) -> Completed:
        program = find_program("systemctl", self._search_path)
        if program is None:
            raise NotifyError(
                f"{self.target}: there is no systemctl on this machine",
                "tell the dependent another way, such as signal or exec",
            )
        argv = [program, "--no-ask-password", *words, "--", self.target]
        try:
            return run_command(argv, timeout_s=timeout_s, cancel=cancel)
        except CommandError as err:
            raise NotifyError.of(err.as_problem().at(self.target)) from err

    def _failed(self, completed: Completed) -> KeyturnError:
        if completed.ending is Ending.TIMED_OUT:
            return NotifyError(
                f"{self.target}: {self._action} goes on in systemd after {self.settings.timeout:g} s",
                f"look at `systemctl status {self.target}`, and raise `timeout` if the unit needs longer",
            )
        if completed.ending is Ending.CANCELLED:
            return CancelledError(f"{self.target}: keyturn is stopping", "the unit is told when keyturn starts again")
        said = tail(completed)
        for pattern, problem, remedy in _MEANINGS:
            if re.search(pattern, said, re.IGNORECASE):
                names = {"unit": self.target, "action": self.settings.action}
                return HookFailedError(f"{self.target}: {problem.format(**names)}", remedy.format(**names), output=said)
        return HookFailedError(
            f"{self.target}: systemctl {completed.outcome}", f"look at `systemctl status {self.target}`", output=said
        )


def full_name(unit: str) -> str:
    """Return the unit's name with its suffix; systemctl takes a name without one for a service."""
    return unit if _SUFFIX.search(unit) else f"{unit}.service"


def _main_started_s(state: Mapping[str, str]) -> float | None:
    """Return when the main process started, in seconds since the epoch; None for a unit that never had one."""
    pid, monotonic = state.get("MainPID", ""), state.get("ExecMainStartTimestampMonotonic", "")
    if pid.isdigit() and int(pid) > 0:
        try:
            return wall_time_s(read_stat(int(pid)).started_boot_s)
        except OSError:
            pass  # hidden from us, or ended just now
    if monotonic.isdigit() and int(monotonic) > 0:
        return wall_time_of_monotonic_s(int(monotonic) / 1e6)
    return None
