"""One look at the keys of RAM users, where no daemon follows their calendar: `keyturn once`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from agent.app.refresh_now import CALL_S
from agent.app.rotations import rotations_of, terms_in_force
from agent.app.wiring import Application
from agent.core.errors import EXIT_FAILED, CancelledError, KeyturnError
from agent.ram_rotation.rotations import RamRotations
from agent.ram_rotation.view import Rest
from agent.runtime.event_loop import answer_of

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Turn:
    """What came of one look at the keys of a RAM user."""

    credential: str
    rest: Rest
    error: KeyturnError | None = None

    @property
    def exit_code(self) -> int:
        """0 where nothing is wrong; to wait for something is not."""
        return self.error.exit_code if self.error is not None else EXIT_FAILED if self.rest.is_wrong else 0

    def as_json(self) -> dict[str, Any]:
        """Return it as `once` shows it."""
        wrong = str(self.error) if self.error is not None else None
        if wrong is None and self.rest.is_wrong:
            wrong = f"credentials.{self.credential}: {self.rest.text}; {self.rest.remedy}"
        return {"credential": self.credential, "waits_for": self.rest.text or None, "error": wrong}


def rotate_due(application: Application, names: Sequence[str]) -> list[Turn]:
    """Make, disable and delete what is due now of the RAM users' keys that this host owns; not on the loop's thread.

    Args:
        application: whose engine runs, and which has no schedule of rotations.
        names: of credentials; none means all.
    """

    def known() -> tuple[RamRotations, list[str]]:
        rotations, terms = rotations_of(application), terms_in_force(application)
        rotations.know(terms)
        return rotations, [name for name, one in terms.items() if one.may_rotate and name in (names or terms)]

    rotations, owned = _call(application, known)
    return [_turn(name, partial(rotations.run_now, name)) for name in owned]


def _turn(name: str, run: Callable[[], Rest]) -> Turn:
    try:
        return Turn(name, run())
    except KeyturnError as error:
        return Turn(name, Rest(), error)


def _call(application: Application, function: Callable[[], T]) -> T:
    late = CancelledError("the agent did not answer in time", "see its log")
    return answer_of(application.engine.submit(function), CALL_S, late)
