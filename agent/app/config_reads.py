"""Reads of the config for a reload, on a worker: a large one takes seconds, and its file system may hang."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from datetime import datetime
from functools import partial
from itertools import count
from typing import NamedTuple

from agent.app.wiring import Application, Factory, load_settings
from agent.core.errors import CancelledError, StateError
from agent.core.settings import Settings
from agent.engine.engine import Engine
from agent.refresh.managed_credential import ManagedCredential

READ_S = 30.0
"""Seconds after which a read is given up on: the config is on a disk, or the name service, that does not answer."""


class NewConfig(NamedTuple):
    """A config that was read, and its parts."""

    read_at: datetime
    settings: Settings
    factory: Factory
    credentials: list[ManagedCredential]


def read_config(application: Application) -> NewConfig:
    """Read the config and make its parts. On a worker.

    Raises:
        ConfigError, NotPermittedError: with every problem of the file.
    """
    read_at = application.engine.clock.now()
    settings = load_settings(application.config_path, application.environ)
    factory = application.with_config(settings)
    return NewConfig(read_at, settings, factory, factory.credentials())


class ConfigReads:
    """Reads one at a time; the config as it is after the last request is what counts. Belongs to the loop's thread."""

    def __init__(
        self,
        engine: Engine,
        path: str,
        read: Callable[[], NewConfig],
        done: Callable[[NewConfig | None, BaseException | None], None],
    ) -> None:
        """Keep how it is done.

        Args:
            engine: on whose workers it is read.
            path: of the config, for the error.
            read: reads it; called on a worker.
            done: called on the loop with what was read, or why it was not; not where the agent stops.
        """
        self._engine, self._path, self._read, self._done = engine, path, read, done
        self._numbers = count(1)
        self._current = 0  # the read under way; 0 for none
        self._asked_again = False
        self._waiting: list[Future[None]] = []

    def ask(self) -> None:
        """Read the config, once more after a read that is under way: it may have begun before the last change."""
        if self._current:
            self._asked_again = True
        else:
            self._begin()

    def when_done(self) -> Future[None]:
        """Return a future that is done once what was asked for is read and taken over or refused, perhaps already."""
        done: Future[None] = Future()
        self._waiting.append(done)
        if not self._current:
            self._tell()
        return done

    def _begin(self) -> None:
        self._asked_again = False
        number = self._current = next(self._numbers)
        self._engine.work(self._read, partial(self._came_back, number))
        self._engine.after(READ_S, partial(self._came_back, number, None, self._late()))

    def _came_back(self, number: int, read: NewConfig | None, error: BaseException | None) -> None:
        if number != self._current:
            return  # given up on, or its deadline passes after its end
        self._current = 0
        if self._asked_again and not self._stops(error):
            self._begin()
            return
        try:
            if not self._stops(error):
                self._done(read, error)
        finally:
            self._tell()

    def _stops(self, error: BaseException | None) -> bool:
        """Return whether the agent stops; a read that was under way comes to its end all the same."""
        return isinstance(error, CancelledError) or self._engine.stops_within(0.0)

    def _tell(self) -> None:
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.set_result(None)

    def _late(self) -> StateError:
        return StateError(
            f"{self._path}: the config could not be read within {READ_S:.0f} s",
            "look at its file system and at the name service, then reload again",
        )
