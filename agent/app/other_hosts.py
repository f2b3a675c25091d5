"""The other hosts of a fleet in a plan: who they are, and what of them would hold up the end of an old key."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any, Protocol

from agent.core.errors import KeyturnError, UsageError
from agent.core.text import first_few
from agent.emergency.obstacles import Obstacle, Step
from agent.emergency.request import Request
from agent.system.questions import Questions


class Host(Protocol):
    """One other host, as the board has it."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def is_live(self) -> bool:
        """Whether it was there a moment ago."""

    @property
    def age_s(self) -> float:
        """Seconds since it was there."""

    @property
    def state(self) -> Any:
        """What it says (`HostState`); None where that cannot be understood."""


AskHosts = Callable[[], Sequence[Host]]
"""Reads them from the board, with a connection of its own; may wait, and raises KeyturnError where it cannot be had."""


class OtherHosts:
    """The question for them, asked beside everything else that a plan waits for."""

    def __init__(self, name: str, ask: AskHosts | None, questions: Questions) -> None:
        """Ask it.

        Args:
            name: of the credential.
            ask: reads the board; None where the config has no fleet, or no other host can have the credential.
            questions: with the deadline of everything together.
        """
        self._place, self._questions = f"credentials.{name}", questions
        self._asked: Future[Sequence[Host]] | None = questions.ask(ask) if ask is not None else None
        self._hosts: Sequence[Host] = ()
        self._error: KeyturnError | None = None

    def as_json(self) -> dict[str, Any] | None:
        """Return `other_hosts` of a plan, once they have answered or the deadline has passed; None where there is no fleet."""
        if self._asked is None:
            return None
        try:
            self._hosts = self._questions.answer(self._asked)
        except KeyturnError as error:
            self._error = error
        problem = self._error.problem if self._error is not None else None
        return {"problem": problem, "hosts": None if problem else [_row(one) for one in self._hosts]}

    def obstacles(self, request: Request | None) -> Iterator[Obstacle]:
        """Yield what holds up `--disable-old`; behind `as_json`.

        Args:
            request: the `rotate` that is meant; None: any.
        """
        if request is not None and (not request.disable_old or request.fleet is False):
            return
        if self._asked is None:
            if request is not None and request.fleet:
                text = f"{self._place}: --fleet was given, and the config has no [fleet] that this credential takes part in"
                yield Obstacle(Step.FLEET, UsageError(text, "name its Redis or Tair there (docs/fleet.md)"))
        elif request is not None and request.force:
            return
        elif self._error is not None:
            text = f"{self._place}: the fleet is not known ({self._error.problem})"
            remedy = f"{self._error.remedy}; --no-fleet says that no other host has the key"
            yield Obstacle(Step.FLEET, KeyturnError(text, remedy))
        else:
            yield from self._absent(request.allow_absent if request is not None else ())

    def _absent(self, let_go: Sequence[str]) -> Iterator[Obstacle]:
        absent = [one.name for one in self._hosts if not one.is_live and one.name not in let_go]
        if absent:
            text = f"{self._place}: absent, and so not known to move to the new key: {', '.join(first_few(absent))}"
            remedy = f"start keyturn there, or let go of it: --allow-absent {absent[0]} (gone for good: `keyturn fleet leave`)"
            yield Obstacle(Step.FLEET, KeyturnError(text, remedy))


def _row(host: Host) -> dict[str, Any]:
    state = host.state
    return {
        "host": host.name,
        "state": "live" if host.is_live else "absent",
        "age_s": round(host.age_s, 1),
        "version_id": state.version_id if state is not None else None,
        "owed": state.owed if state is not None else None,
        "failed": (state.failed or None) if state is not None else None,
        "twins": state.twins if state is not None else None,
    }
