"""The whole config, judged: for a command that does without a daemon, or has to say what is wrong with the file."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping

from agent.app import wiring
from agent.config.outline import MAX_BYTES, RUNTIME_DIRECTORY, STATE_DIRECTORY
from agent.core.errors import ConfigError, KeyturnError, NotPermittedError
from agent.core.settings import Settings
from agent.system import reading


class WholeConfig:
    """The settings of a config, or what is wrong with it.

    Attributes:
        settings: None where it is bad.
        problem: what is wrong with it; None where it is good.
        runtime: the runtime directory, by the settings or by what can be read of a bad config.
        state: the state directory; None where it stands in a bad config that somebody else could have written.
    """

    def __init__(self, path: str, environ: Mapping[str, str]) -> None:
        """Read it."""
        self.settings: Settings | None = None
        self.problem: KeyturnError | None = None
        self.state: str | None
        try:
            self.settings = wiring.load_settings(path, environ)
            state, runtime, _audit = wiring.paths(self.settings)
            self.runtime, self.state = str(runtime), str(state)
        except (ConfigError, NotPermittedError) as problem:
            self.problem = problem
            self.runtime, self.state = _directories(path, environ)

    @property
    def sound(self) -> Settings:
        """The settings.

        Raises:
            ConfigError, NotPermittedError: it is bad.
        """
        if self.settings is None:
            raise self.problem or ConfigError(["the config cannot be used"])
        return self.settings


def _directories(config: str, environ: Mapping[str, str]) -> tuple[str, str | None]:
    """Return the runtime directory, and the state directory where the config is one to be believed."""
    try:
        reading.read_trusted(config, MAX_BYTES)
        trusted = True
    except (KeyturnError, OSError):
        trusted = False
    try:
        text = reading.read_regular(os.path.realpath(config), MAX_BYTES) or b""
        agent = dict(tomllib.loads(text.decode())["agent"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        agent = {}
    runtime = _named(agent.get("runtime_directory"), environ.get("RUNTIME_DIRECTORY", ""), RUNTIME_DIRECTORY)
    state = _named(agent.get("state_directory"), environ.get("STATE_DIRECTORY", ""), STATE_DIRECTORY)
    return runtime, state if trusted else None


def _named(named: object, variable: str, default: str) -> str:
    return named if isinstance(named, str) else variable.partition(":")[0] or default
