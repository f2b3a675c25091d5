"""The demo's world: one directory with an emulated cloud, the daemon and applications, each a process of its own.

The config is the one that `keyturn emulator` writes, plus one notifier for each application. Its pickup
probe compares the key that the application reports with the file that keyturn published, so an emergency
disables no key that still signs requests.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.core.errors import KeyturnError
from agent.demo.children import Children, DemoError, Said, clock
from agent.demo.order import order

SECRET = "uploader-ak"
DAEMON, CLOUD = "keyturn", "cloud"
PROPAGATION_S, OLD_KEY_LIFE_S = 1.0, 10.0
COMMAND_S = 120.0
ACT_S = 60.0
"""Seconds that an act may take until every application uses the new key; five on an idle machine."""
START_S = 30.0
"""Seconds that a child may take to start; one on an idle machine."""

_READY = re.compile(r"emulator ready on https://(\S+), files in .*")

Listener = Callable[[Said], None]


@dataclass(frozen=True, slots=True)
class Rotated:
    """A rotation that KMS did."""

    old_access_key_id: str
    access_key_id: str
    version_id: str


class World:
    """The children, started in order. All of their lines go to `listen`, whichever child is waited for."""

    def __init__(self, directory: Path, children: Children, listen: Listener, applications: Sequence[str]) -> None:
        self.directory, self.children, self.applications = directory, children, tuple(applications)
        self.endpoint = ""
        self._listen = listen
        self.config = directory / "keyturn.toml"
        (directory / "log").mkdir(mode=0o700)

    # -- starting -----------------------------------------------------------------------------------

    def start_cloud(self, old_key_life_s: float = OLD_KEY_LIFE_S) -> None:
        """Start KMS, STS and RAM, with a rotating AccessKey and a ClientKey that may read it."""
        options = ["--propagation-delay", f"{PROPAGATION_S:.0f}s", "--old-key-life", f"{old_key_life_s:g}s"]
        self._start(CLOUD, keyturn("emulator", "--directory", str(self.directory), *options))
        said = self.wait("the emulated cloud to be ready", lambda s: s.who == CLOUD and _ready(s) is not None, START_S)
        self.endpoint = str(_ready(said))

    def start_applications(self) -> None:
        """Start the applications, which find no credentials yet and wait for a signal."""
        for name in self.applications:
            self._start(name, self._application(name))
        waiting = set(self.applications)
        while waiting:
            waiting.discard(self.wait_event("an application to start", None, "waiting", START_S).who)

    def start_daemon(self) -> None:
        """Start `keyturn run` with all applications as dependents, and return when it is ready."""
        self._write_config()
        self.restart_daemon()

    def restart_daemon(self) -> None:
        """Start `keyturn run` with the config that there is, and return when it is ready."""
        self._start(DAEMON, keyturn("--config", str(self.config), "run"))
        self.daemon_pid_file.write_text(f"{self.children[DAEMON].pid}\n")
        self.wait_event("the daemon to be ready", DAEMON, "ready", START_S)

    # -- what happens -------------------------------------------------------------------------------

    def rotate(self) -> Rotated:
        """Have KMS rotate the secret, as it does on its schedule.

        Raises:
            DemoError: it does not.
        """
        try:
            return Rotated(**order(self.directory, self.endpoint, "rotate", {"secret": SECRET}))
        except KeyturnError as error:
            raise DemoError(error.problem, error.remedy) from error

    def wait(self, what: str, wanted: Callable[[Said], bool], within_s: float) -> Said:
        """Listen until `wanted`.

        Raises:
            DemoError: it does not come within `within_s` seconds, or a child dies.
        """
        until = clock() + within_s
        while (said := self.children.hear(until)) is not None:
            self._listen(said)
            if wanted(said):
                return said
        raise DemoError(f"waited {within_s:.0f} s for {what}", "run it again on a machine that is less busy")

    def wait_until(self, what: str, condition: Callable[[], bool], within_s: float) -> None:
        """Listen until `condition`, which the listener brings about, holds."""
        if not condition():
            self.wait(what, lambda _said: condition(), within_s)

    def wait_event(self, what: str, who: str | None, event: str, within_s: float, **fields: object) -> Said:
        """Listen until `who` (None: anybody) reports `event` with these fields."""
        return self.wait(what, lambda said: who in (None, said.who) and said.says(event, **fields), within_s)

    def listen_until(self, moment: float) -> None:
        """Listen until `moment` of `clock`."""
        while (said := self.children.hear(moment)) is not None:
            self._listen(said)

    def command(self, *arguments: str, name: str = "") -> list[dict[str, Any]]:
        """Run a `keyturn` command, and return its lines, which `listen` gets under the name `name`.

        Raises:
            DemoError: it fails; the text has its last line.
        """
        who = name or f"`keyturn {arguments[0]}`"
        lines: list[dict[str, Any]] = []
        argv = keyturn("--config", str(self.config), *arguments)
        for said in self.children.run(who, argv, self._log("commands"), COMMAND_S):
            self._listen(said)
            if said.who == who and said.words is not None:
                lines.append(said.words)
        return lines

    def status(self) -> dict[str, Any]:
        """Return the credential's part of `keyturn status --json`."""
        (whole,) = self.command("status", "--json")
        found: dict[str, Any] = whole["credentials"]["uploader"]
        return found

    def stop_daemon(self) -> None:
        """Send SIGTERM, as systemd would, and wait for its end.

        Raises:
            DemoError: it does not end well.
        """
        status = self.children.stop(DAEMON)
        if status:
            raise DemoError(f"{DAEMON} was told to stop and ended with status {status}")

    def end_applications(self) -> dict[str, dict[str, Any]]:
        """Stop the applications, and return the last report of each: `sent`, `refused`, `unanswered` and `keys`."""
        reports: dict[str, dict[str, Any]] = {}
        for name in self.applications:
            self.children.stop(name)
            said = self.wait_event(f"the last report of {name}", name, "ended", START_S)
            reports[name] = said.words or {}
        return reports

    # -- files --------------------------------------------------------------------------------------

    @property
    def credentials(self) -> Path:
        """The file that keyturn publishes for the applications."""
        return self.directory / "app" / "credentials.ini"

    @property
    def daemon_pid_file(self) -> Path:
        """The file with the daemon's pid, for those who want to kill it."""
        return self._pid_file(DAEMON)

    def _start(self, name: str, argv: Sequence[str]) -> None:
        self.children.start(name, argv, self._log(name))

    def _log(self, name: str) -> Path:
        return self.directory / "log" / f"{name}.log"

    def _pid_file(self, name: str) -> Path:
        return self.directory / "run" / f"{name}.pid"

    def _in_use(self, name: str) -> Path:
        return self.directory / "run" / f"{name}.in-use"

    def _application(self, name: str) -> list[str]:
        files = ["--pid-file", str(self._pid_file(name)), "--in-use", str(self._in_use(name))]
        cloud = ["--endpoint", self.endpoint, "--ca", str(self.directory / "ca.pem")]
        return [*module("agent.demo.dependent"), "--credentials", str(self.credentials), *cloud, *files]

    def _write_config(self) -> None:
        text = self.config.read_text(encoding="utf-8").replace("[agent]\n", '[agent]\nlog_format = "json"\n', 1)
        self.config.write_text(text + "".join(map(self._notifier, self.applications)), encoding="utf-8")

    def _notifier(self, name: str) -> str:
        # grep finds the id in use among the published lines, or it does not: 0 or 1, which is all that a probe says.
        probe = ["grep", "-qFf", str(self._in_use(name)), str(self.credentials)]
        return f"""
[[credentials.uploader.notify]]
type = "signal"
pid_file = {json.dumps(str(self._pid_file(name)))}
signal = "SIGHUP"
pickup = {{ command = {json.dumps(probe)} }}
"""


def keyturn(*arguments: str) -> list[str]:
    """Return the command line of a `keyturn` command, by this interpreter."""
    return [*module("agent"), *arguments]


def module(name: str) -> list[str]:
    """Return the command line of a module of ours, with -P, so that no folder `agent` in the working directory is taken."""
    return [sys.executable, "-P", "-m", name]


def _ready(said: Said) -> str | None:
    match = _READY.fullmatch(str((said.words or {}).get("text", "")))
    return match[1] if match else None
