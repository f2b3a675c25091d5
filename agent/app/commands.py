"""What an operator can have done, whether a daemon does it or the command itself under the same lock: one door.

Each command runs on a thread that is not the loop's, waits there, and comes to the engine by messages alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from agent.app.refresh_now import CALL_S, RefreshNow, chosen
from agent.app.status import as_json
from agent.app.wiring import Application, Factory, paths
from agent.cloud.openapi import Cloud
from agent.core.errors import CancelledError
from agent.core.events import Cause
from agent.core.provider import Provider
from agent.core.settings import Settings
from agent.emergency.procedure import Emergency
from agent.emergency.report import Request, Result, Show
from agent.engine.snapshot import snapshot_of
from agent.runtime.event_loop import answer_of
from agent.state.store import StateStore
from agent.system.clock import Clock

T = TypeVar("T")


def served(config: str, state: Path | None) -> dict[str, str]:
    """Return what a daemon works on, or what a command means: its config and its state directory, wherever links lead."""
    found = {"config": os.path.realpath(config)}
    return found if state is None else {**found, "state": os.path.realpath(state)}


class Commands:
    """The commands of one application, whose engine runs on another thread."""

    def __init__(self, application: Application, started_at: datetime) -> None:
        self._application, self._engine = application, application.engine
        self._started_at = started_at

    def status(self) -> dict[str, Any]:
        """Return the object of `status --json`, with each sink read anew."""
        seen = self._call(partial(self._engine.snapshot, look_at_sinks=True))
        return as_json(seen.credentials, self._application.config_path, os.getpid(), self._started_at)

    def refresh(self, names: Sequence[str], cause: Cause, *, retry_for_s: float = 0.0) -> dict[str, Any]:
        """Refresh, publish and notify; return what came of each, and the exit code.

        Args:
            names: of credentials; none means all.
            cause: for the audit.
            retry_for_s: how long temporary failures of a source, and failed notifications, are tried again.

        Raises:
            UsageError: a name is not in the config.
        """
        return RefreshNow(self._engine, cause, retry_for_s).run(names)

    def rotate(self, request: Request, show: Show) -> Result:
        """Do the emergency end to end; an error of it stands in the result.

        Raises:
            UsageError: the credential is not in the config.
        """
        authority, cloud = self._call(partial(self._means, request.credential))
        return Emergency(self._engine, self._application.audit, authority, cloud, request).run(show)

    def _means(self, name: str) -> tuple[Provider | None, Cloud]:
        """On the loop's thread, as a reload replaces the factory there: who may rotate, and by which calls."""
        chosen(self._engine, [name])
        return self._application.factory.authority(name), self._application.factory.cloud()

    def _call(self, function: Callable[[], T]) -> T:
        late = CancelledError("the agent did not answer in time", "see its log")
        return answer_of(self._engine.submit(function), CALL_S, late)


def status_from_disk(settings: Settings, config_path: str, environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the object of `status --json` where no daemon runs: what the state directory remembers.

    Raises:
        NotPermittedError: this user may not read it.
    """
    states, clock = StateStore(paths(settings)[0]), Clock()
    credentials = Factory(settings, environ).credentials()
    for managed in credentials:
        managed.remember(states.peek(managed.name))
    return as_json((snapshot_of(managed, clock) for managed in credentials), config_path, None, None)
