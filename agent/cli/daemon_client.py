"""How a command reaches the daemon, also while the config on disk is broken.

The socket's place stands in the config. A daemon goes on with the config that it has when the one on disk
is bad, and in an emergency `rotate` and `status` must still reach it: so where the config cannot be
used, its `agent.runtime_directory` alone is looked for, and the problem is raised only if no daemon answers (docs/adr/0013).

Each request says which config and state directory are meant, so that a daemon which serves others refuses it. And only a
daemon of a user who may be one is believed: root, this user, the user of keyturn's unit, or the owner of the state directory
that a config names which nobody else could have written.
"""

from __future__ import annotations

import argparse
import os
import sys
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.app import wiring
from agent.app.commands import served
from agent.app.daemon_users import daemon_users
from agent.config.load import MAX_BYTES, RUNTIME_DIRECTORY, STATE_DIRECTORY
from agent.control import client
from agent.core.errors import ConfigError, DaemonUnreachableError, KeyturnError, NotPermittedError
from agent.core.settings import Settings
from agent.system import files
from agent.system.waiting import WAITING, Silence

Step = Callable[[dict[str, Any]], None]
DAEMON_FIRST_S, DAEMON_AGAIN_S = 4.8, 9.5
"""The daemon says by itself what it waits for, more often than this; this is for one that is stopped, or hangs."""


@dataclass(frozen=True, slots=True)
class Reach:
    """The place where a daemon would be, and the config if it can be used."""

    runtime: Path
    config: str
    state: Path | None
    settings: Settings | None
    problem: KeyturnError | None

    def ask(
        self, request: dict[str, Any], show: Step | None = None, patience_s: float = client.ANSWER_S
    ) -> tuple[dict[str, Any], int]:
        """Have the daemon do what is requested; return its result and the exit code. With `show`, its silence is said too.

        Raises:
            DaemonUnreachableError: no daemon answers.
            ConfigError, NotPermittedError: none answers, and the config that would be needed then is bad.
            KeyturnError: the daemon could not do it.
        """
        try:
            asked = {**request, "meant": served(self.config, self.state)}
            if show is None:
                answer = client.ask(
                    self.runtime, asked, patience_s=patience_s, agents=daemon_users(self.state), wait=_say
                )
            else:
                answer = self._ask_aloud(asked, show, patience_s)
        except DaemonUnreachableError:
            if self.problem is not None:
                raise self.problem from None
            raise
        if self.problem is not None:
            first = self.problem.problems[0] if isinstance(self.problem, ConfigError) else str(self.problem)
            print(
                f"keyturn: the config on disk cannot be used, the daemon goes on without it: {first}", file=sys.stderr
            )
        return answer

    def _ask_aloud(self, request: dict[str, Any], show: Step, patience_s: float) -> tuple[dict[str, Any], int]:
        def shown(step: dict[str, Any]) -> None:
            silence.heard(of_a_wait=step.get("outcome") == WAITING)
            show(step)

        def describe() -> str:
            return "an answer of the daemon, which is silent (see its log, and `systemctl status keyturn`)"

        with Silence(describe, show, first_s=DAEMON_FIRST_S, again_s=DAEMON_AGAIN_S) as silence:
            return client.ask(self.runtime, request, shown, patience_s, agents=daemon_users(self.state), wait=_say)

    @property
    def own_settings(self) -> Settings:
        """The config, for a command that must do without a daemon.

        Raises:
            ConfigError, NotPermittedError: it is bad.
        """
        if self.settings is None:
            raise self.problem or ConfigError([f"{self.config}: cannot be used"])
        return self.settings


def find(options: argparse.Namespace) -> Reach:
    """Return where the daemon would be, by the config or by what can be read of it."""
    try:
        settings = wiring.load_settings(options.config, os.environ)
    except (ConfigError, NotPermittedError) as problem:
        runtime, state = _directories(options.config, os.environ)
        return Reach(runtime, options.config, state, None, problem)
    state, runtime, _audit = wiring.paths(settings)
    return Reach(runtime, options.config, state, settings, None)


def _directories(config: str, environ: Mapping[str, str]) -> tuple[Path, Path | None]:
    """Return the runtime directory, and the state directory where the config is one to be believed."""
    try:
        files.read_trusted(config, MAX_BYTES)
        trusted = True
    except (KeyturnError, OSError):
        trusted = False
    try:
        text = files.read_regular(os.path.realpath(config), MAX_BYTES) or b""
        agent = dict(tomllib.loads(text.decode())["agent"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        agent = {}
    runtime = _named(agent.get("runtime_directory"), environ.get("RUNTIME_DIRECTORY", ""), RUNTIME_DIRECTORY)
    state = _named(agent.get("state_directory"), environ.get("STATE_DIRECTORY", ""), STATE_DIRECTORY)
    return runtime, state if trusted else None


def _named(named: object, variable: str, default: str) -> Path:
    return Path(named if isinstance(named, str) else variable.partition(":")[0] or default)


def _say(text: str) -> None:
    print(f"keyturn: {text}", file=sys.stderr, flush=True)
