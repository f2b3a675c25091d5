"""How a command reaches the daemon, also while the config on disk is broken.

The socket's place stands in the config. A daemon goes on with the config that it has when the one on disk
is bad, and in an emergency `rotate` and `status` must still reach it: so no more is read of the config than where the
daemon is (agent/config/outline.py), as far as that can be read at all. The whole is judged where there is no outline, where the
command has to do without a daemon, and where the file has changed since the daemon read it: then the problem is said, and
raised only if no daemon answers (docs/adr/0013).

Each request says which config and state directory are meant, so that a daemon which serves others refuses it. And only a
daemon of a user who may be one is believed: root, this user, the user of keyturn's unit, or the owner of the state directory
that a config names which nobody else could have written.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from agent.app.daemon_users import daemon_users
from agent.config.outline import outline
from agent.control import client
from agent.control.protocol import served
from agent.core.errors import ConfigError
from agent.core.timestamps import moment_of
from agent.system.waiting import WAITING, Silence

if TYPE_CHECKING:
    from agent.cli.whole_config import WholeConfig
    from agent.core.settings import Settings

Step = Callable[[dict[str, Any]], None]
DAEMON_FIRST_S, DAEMON_AGAIN_S = 4.8, 9.5
"""The daemon says by itself what it waits for, more often than this; this is for one that is stopped, or hangs."""


class Reach:
    """The place where a daemon would be, and the config for a command that needs more of it."""

    def __init__(self, config: str) -> None:
        """Find it by the config, or by what can be read of that."""
        self.config = config
        self._whole: WholeConfig | None = None
        found = outline(config, os.environ) or self._judged()
        self._runtime, self._state = found.runtime, found.state

    def ask(
        self, request: dict[str, Any], show: Step | None = None, patience_s: float = client.ANSWER_S
    ) -> tuple[dict[str, Any], int]:
        """Have the daemon do what is requested; return its result and the exit code. With `show`, its silence is said too.

        Raises:
            DaemonUnreachableError: no daemon answers.
            KeyturnError: the daemon could not do it.
        """
        asked = {**request, "meant": served(self.config, self._state)}
        answer, code = self._ask(asked, patience_s) if show is None else self._ask_aloud(asked, show, patience_s)
        loaded_at = answer.pop("config_loaded_at", None) or answer.get("agent", {}).get("config_loaded_at")
        problem = None if self._is_older(loaded_at) else self._judged().problem
        if problem is not None:
            first = problem.problems[0] if isinstance(problem, ConfigError) else str(problem)
            print(
                f"keyturn: the config on disk cannot be used, the daemon goes on without it: {first}", file=sys.stderr
            )
        return answer, code

    def _ask_aloud(self, request: dict[str, Any], show: Step, patience_s: float) -> tuple[dict[str, Any], int]:
        def shown(step: dict[str, Any]) -> None:
            silence.heard(of_a_wait=step.get("outcome") == WAITING)
            show(step)

        def describe() -> str:
            return "an answer of the daemon, which is silent (see its log, and `systemctl status keyturn`)"

        with Silence(describe, show, first_s=DAEMON_FIRST_S, again_s=DAEMON_AGAIN_S) as silence:
            return self._ask(request, patience_s, shown)

    def _ask(
        self, request: dict[str, Any], patience_s: float, show: Step = lambda _step: None
    ) -> tuple[dict[str, Any], int]:
        return client.ask(self._runtime, request, show, patience_s, agents=daemon_users(self._state), wait=_say)

    @property
    def own_settings(self) -> Settings:
        """The config, for a command that must do without a daemon.

        Raises:
            ConfigError, NotPermittedError: it is bad.
        """
        return self._judged().sound

    def _judged(self) -> WholeConfig:
        if self._whole is None:
            from agent.cli.whole_config import WholeConfig  # imports every type that the config uses

            self._whole = WholeConfig(self.config, os.environ)
        return self._whole

    def _is_older(self, loaded_at: str | None) -> bool:
        """Return whether the file, and a link that leads to it, are as they were when the daemon read the config."""
        read_at = moment_of(loaded_at) if loaded_at else None
        try:
            changed = max(os.stat(self.config).st_ctime, os.lstat(self.config).st_ctime)
        except OSError:
            return False
        return self._whole is None and read_at is not None and changed < read_at.timestamp()


def find(options: argparse.Namespace) -> Reach:
    """Return where the daemon would be."""
    return Reach(options.config)


def _say(text: str) -> None:
    print(f"keyturn: {text}", file=sys.stderr, flush=True)
