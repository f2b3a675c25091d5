"""The contract of a notifier: tell one dependent once, within a time limit, and return or raise how it went.

Retries, splay, order, coalescing and durability are the dispatcher's, and the same for all types.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar

from agent.core.errors import NotifyError
from agent.core.events import PublishEvent
from agent.core.finding import Finding
from agent.core.problem import Problem
from agent.core.settings import NotifierSettings


class Pickup(StrEnum):
    """The evidence that a dependent uses the newest value."""

    CONFIRMED = "confirmed"
    ASSUMED = "assumed"
    NOT_PICKED_UP = "not picked up"


@dataclass(frozen=True, slots=True)
class Told:
    """The result of telling a dependent.

    Attributes:
        detail: one line for the log, such as "SIGHUP to pid 812 (uploader)" or a hook's bounded output.
    """

    detail: str


class HookFailedError(NotifyError):
    """A dependent was reached, but it failed and printed something.

    Its text says what happened and never what was printed: it goes into the audit, the state and `status`, and
    a hook may print a secret (`set -x`, `env`). `output` is for the log alone, which masks the secrets in use.
    """

    def __init__(self, problem: str, remedy: str = "", *, output: str = "") -> None:
        """Keep what happened, and the dependent's bounded output in one line."""
        super().__init__(problem, remedy)
        self.output = output


class Notifier(ABC):
    """One dependent."""

    type_name: ClassVar[str]
    Settings: ClassVar[type[NotifierSettings]]

    def __init__(self, settings: Any) -> None:
        """Keep the settings; no I/O."""
        self.settings = settings

    @property
    @abstractmethod
    def target(self) -> str:
        """The dependent's name for people: a unit, a command, a pid file, a URL."""

    @property
    @abstractmethod
    def identity(self) -> tuple[str, ...]:
        """The dependent's identity. Notifiers that share one tell the same dependent the same thing, so it is told once."""

    @property
    def act(self) -> str:
        """The way in which it tells the dependent, in a few words and without what may be a secret."""
        return f"{self.type_name} {self.target}"

    @abstractmethod
    def tell(self, event: PublishEvent, cancel: threading.Event) -> Told:
        """Tell the dependent, within `settings.timeout` seconds; return early when `cancel` is set.

        Raises:
            NotifyError: it could not be told; the text names the dependent and the remedy, and repeats nothing that it said.
        """

    def pickup(self, since: datetime) -> Pickup:
        """Look for evidence that the dependent uses what was published at `since`. Never raises."""
        return Pickup.ASSUMED

    def inspect(self) -> Iterator[Finding]:
        """Yield the findings of `check`: whether the dependent exists and can be told. Tells nobody."""
        return iter(())

    def by_hand(self) -> str:
        """Return the command, or the act, by which an operator moves the dependent to the new value without this notifier.

        May ask the system; never raises.
        """
        return f"restart by hand what {self.target} tells"

    def hindered(self, sink_types: frozenset[str]) -> NoEffect | None:
        """Return why this notification may not make the dependent use the new value; None where nothing speaks against it.

        May ask the system; never raises.

        Args:
            sink_types: the types of the sinks of the same credential, such as {"env_file"}.
        """
        return None


@dataclass(frozen=True, slots=True)
class NoEffect:
    """The reason why a dependent that is told may go on with the old value.

    Attributes:
        problem: why, and what would help.
        pickup: what that makes of a dependent of whose pickup there is no evidence.
    """

    problem: Problem
    pickup: Pickup

    @property
    def text(self) -> str:
        """The problem as `status` and the log tell it."""
        return str(self.problem)
