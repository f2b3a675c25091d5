"""What an emergency reports at each step and at its end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self, TypeVar

from agent.core.errors import KeyturnError
from agent.emergency.left_behind import LeftBehind
from agent.logs.log import log
from agent.system.clock import Clock
from agent.system.waiting import BEGUN, WAITING, Activity, Silence

T = TypeVar("T")
Show = Callable[[dict[str, Any]], None]


class StepOutcome(StrEnum):
    """The ways in which a step of an emergency ends."""

    DONE = "done"
    FAILED = "failed"
    WARNING = "warning"


class OldKey(StrEnum):
    """The state of the key that was replaced, as far as it was changed here."""

    ACTIVE = "active"
    DISABLED = "disabled"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class Patience:
    """The seconds that each wait may take.

    Attributes:
        follow_s: until the new version is ACSCurrent and published.
        ask_s: for which a temporary failure of KMS or RAM is retried.
        refusal_s: until a disabled key is refused.
        told_s: until every dependent was tried.
        others_s: for which another credential that holds the key is refreshed again and again.
        fleet_s: until every live host of the fleet has moved.
    """

    follow_s: float = 300.0
    ask_s: float = 60.0
    refusal_s: float = 60.0
    told_s: float = 900.0
    others_s: float = 60.0
    fleet_s: float = 300.0


@dataclass
class Result:
    """The object that `rotate --json` prints at the end, on failure too.

    Attributes:
        safe: a call signed with the old key was seen refused.
        time_to_safe_ms: from the command to that refusal; None where there was none, or it was before the command.
        left_behind: whoever is known to be still on the old key (left_behind.py).
        all_moved: the key was replaced, and nobody is known to be left behind.
        assumed: each credential and dependent that was told without an error, and of which there is no evidence either way.
        fleet: how each other host stood at the end; None where there is no fleet, or it was not waited for.
    """

    credential: str
    old_access_key_id: str = ""
    new_access_key_id: str = ""
    version_id: str = ""
    generation: int = 0
    steps: list[dict[str, Any]] = field(default_factory=list)
    old_key: OldKey = OldKey.ACTIVE
    safe: bool = False
    time_to_safe_ms: int | None = None
    left_behind: tuple[LeftBehind, ...] = ()
    all_moved: bool = False
    assumed: tuple[tuple[str, str], ...] = ()
    fleet: list[dict[str, Any]] | None = None
    notes: list[str] = field(default_factory=list)
    error: str | None = None
    exit_code: int = 0

    def as_json(self) -> dict[str, Any]:
        """Return the object as it is printed: with `error` and `fleet` only where there is one."""
        shown = {name: value for name, value in vars(self).items() if name != "exit_code"} | {
            "old_key": str(self.old_key),
            "left_behind": [one.as_json() for one in self.left_behind],
            "assumed": [{"credential": name, "dependent": whom} for name, whom in self.assumed],
        }
        for name in ("error", "fleet"):
            if shown[name] is None:
                del shown[name]
        return shown


class Steps:
    """The steps of one emergency: each is timed, kept in the result, and shown as it begins and as it ends.

    Between its entry and its exit, what is waited for is shown as well.
    """

    def __init__(self, clock: Clock, result: Result, show: Show) -> None:
        self._clock, self._result, self._show = clock, result, show
        self._started = clock.boottime()
        self._showing = threading.Lock()
        self.activity = Activity()
        self._silence = Silence(lambda: str(self.activity), self._shown)

    def __enter__(self) -> Self:
        """Say from now on what is waited for, whenever nothing is shown for a while."""
        self._silence.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        """Say nothing any more."""
        self._silence.__exit__(*error)

    def do(self, name: str, work: Callable[[], T]) -> T:
        """Do one step: a text that `work` returns is its detail, and a list names whom it could not tell.

        Raises:
            KeyturnError: what `work` raised; the step has been shown as failed.
        """
        began = self.begin(name)
        try:
            outcome = work()
        except KeyturnError:
            self.note(name, StepOutcome.FAILED, began)
            raise
        wrong = isinstance(outcome, list) and outcome
        detail = outcome if isinstance(outcome, str) else f"not told: {', '.join(map(str, wrong))}" if wrong else ""
        self.note(name, StepOutcome.FAILED if wrong else StepOutcome.DONE, began, detail)
        return outcome

    def show(self, name: str, work: Callable[[], tuple[StepOutcome, str]]) -> None:
        """Do one step that says itself how it ended, and its detail.

        Raises:
            KeyturnError: as `work`; the step is shown as failed before.
        """
        began = self.begin(name)
        try:
            outcome, detail = work()
        except KeyturnError:
            self.note(name, StepOutcome.FAILED, began)
            raise
        self.note(name, outcome, began, detail)

    def begin(self, name: str) -> float:
        """Show that a step begins; return the boottime."""
        self._shown({"name": "begin", "outcome": BEGUN, "ms": 0, "detail": name, "at_ms": self.passed_ms()})
        return self._clock.boottime()

    def note(self, name: str, outcome: StepOutcome, began: float, detail: str = "") -> None:
        """Add a step that began at boottime `began` and ends now."""
        self.add(name, outcome, round((self._clock.boottime() - began) * 1000), detail)

    def add(self, name: str, outcome: StepOutcome, ms: int, detail: str = "", *, ago_ms: int = 0) -> None:
        """Add a step that took `ms` and ended `ago_ms` ago, or now."""
        step: dict[str, Any] = {"name": name, "outcome": str(outcome), "ms": ms}
        if detail:
            step["detail"] = detail
        step["at_ms"] = max(0, self.passed_ms() - ago_ms)
        self._result.steps.append(step)
        self._silence.heard()
        self._shown(step)

    def wait_for(self, what: str) -> None:
        """Say at once what is waited for from now on; it is said again while that lasts."""
        self.activity.begin(what)
        self._silence.heard(of_a_wait=True)
        at_ms = self.passed_ms()
        self._shown({"name": "wait", "outcome": WAITING, "ms": 0, "detail": what, "at_ms": at_ms})

    def _shown(self, step: dict[str, Any]) -> None:
        try:
            with self._showing:
                self._show(step)
        except Exception:
            log.debug("a step could not be shown", step=step["name"])  # a closed terminal never stops an emergency

    def passed_ms(self) -> int:
        """Return the milliseconds since the command."""
        return round((self._clock.boottime() - self._started) * 1000)
