"""`once` and `refresh`, for whoever waits for them: refresh, publish, and see who was told.

Runs on another thread than the loop's; whatever it sees of the engine is asked for by a message to the loop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, as_completed
from concurrent.futures import TimeoutError as FuturesTimeoutError
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from agent.app.status import notify_rows
from agent.core.errors import (
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_SOURCE_UNAVAILABLE,
    CancelledError,
    SourceUnavailableError,
)
from agent.core.events import Cause
from agent.core.names import known_names
from agent.core.outcome import Outcome, Report, Result
from agent.engine.engine import Engine
from agent.engine.snapshot import CredentialSnapshot
from agent.runtime.event_loop import answer_of
from agent.system.waiting import BEGUN

T = TypeVar("T")
WAIT_S = 900.0
CALL_S = 60.0
LOOK_AGAIN_S = 0.2
LOOK_S = 1.0


def chosen(engine: Engine, names: Sequence[str]) -> list[str]:
    """Return the credentials that the operator named, or all. On the loop's thread.

    Raises:
        UsageError: one is not in the config.
    """
    return known_names(engine.names(), names)


class RefreshNow:
    """One `once` or `refresh`."""

    def __init__(self, engine: Engine, cause: Cause, retry_for_s: float = 0.0) -> None:
        """Keep what is asked for.

        Args:
            engine: runs on another thread.
            cause: for the audit.
            retry_for_s: how long temporary failures of a source, and failed notifications, are tried again.
        """
        self._engine, self._cause = engine, cause
        self._names: Sequence[str] = ()
        self._until = engine.clock.boottime() + retry_for_s

    def under_way(self) -> str:
        """Return what it waits for, within a second. From any thread.

        Raises:
            CancelledError: the agent is too busy to say so.
        """
        look = partial(self._engine.under_way, self._names)
        text = answer_of(self._engine.submit(look), LOOK_S, CancelledError("the agent is busy"))
        return text or "the outcome"

    def run(self, names: Sequence[str], show: Callable[[dict[str, Any]], None] = lambda _ended: None) -> dict[str, Any]:
        """Refresh, publish and notify; return what came of each, and the exit code.

        Args:
            names: of credentials; none means all.
            show: called at the beginning, and with each refresh as it ends: `done` of `of` have, and its row so far.

        Raises:
            UsageError: a name is not in the config.
            CancelledError: the engine did not answer in time.
        """
        self._names = tuple(names)
        wanted, before, futures = self._call(partial(self._begin, names))
        reports = self._gathered(futures, show)
        touched = self._come_to_rest(wanted)
        self._see_told(touched)
        now = self._seen(dict.fromkeys([*wanted, *touched]))
        reports += _besides(touched, wanted, before, now)
        rows = [_row(report, now.get(report.credential)) for report in reports]
        return {"credentials": rows, "exit_code": _exit_code(reports, now)}

    def _begin(self, names: Sequence[str]) -> tuple[list[str], dict[str, CredentialSnapshot], list[Future[Report]]]:
        wanted = chosen(self._engine, names)
        before = {one.name: one for one in self._engine.snapshot().credentials}
        futures = [self._engine.refresh(name, self._cause, retry_until=self._until) for name in wanted]
        return wanted, before, futures

    def _gathered(self, futures: Sequence[Future[Report]], show: Callable[[dict[str, Any]], None]) -> list[Report]:
        """Return the reports in the order of the names; each is shown as it comes."""
        step: dict[str, Any] = {"name": "refresh", "of": len(futures)}
        show({**step, "outcome": BEGUN, "done": 0})
        with suppress(FuturesTimeoutError):
            for done, future in enumerate(as_completed(futures, WAIT_S), 1):
                report = answer_of(future, 0.0, _late())
                row = _row(report, self._seen([report.credential]).get(report.credential))
                show({**step, **row, "name": report.credential, "done": done})
        return [answer_of(future, 0.0, _late()) for future in futures]

    def _come_to_rest(self, wanted: Sequence[str]) -> list[str]:
        """Return every credential that was touched: followers of one that changed renew behind its report."""
        while (touched := self._call(partial(self._engine.at_rest, wanted))) is None:
            if self._engine.stops_within(LOOK_AGAIN_S / 4):
                return list(wanted)
        return touched

    def _see_told(self, names: Sequence[str]) -> None:
        """Wait until every debt was tried; and for those that failed, until they are paid or the patience ends."""
        try:
            self._call(partial(self._engine.tell_now, names)).result(WAIT_S)
        except FuturesTimeoutError:
            return
        while self._engine.clock.boottime() < self._until and self._call(partial(self._engine.owes, names)):
            if self._engine.stops_within(LOOK_AGAIN_S):
                return

    def _seen(self, names: Sequence[str] | dict[str, None]) -> dict[str, CredentialSnapshot]:
        def look() -> dict[str, CredentialSnapshot]:
            found = ((name, self._engine.look(name)) for name in names)
            return {name: one for name, one in found if one is not None}

        return self._call(look)

    def _call(self, function: Callable[[], T]) -> T:
        return answer_of(self._engine.submit(function), CALL_S, _late())


def _besides(
    touched: Sequence[str],
    wanted: Sequence[str],
    before: dict[str, CredentialSnapshot],
    now: dict[str, CredentialSnapshot],
) -> list[Report]:
    """Return reports on those that were refreshed besides: as a base, or because they build on one that changed."""
    reports = []
    for name in touched:
        one, earlier = now.get(name), before.get(name)
        if name in wanted or one is None:
            continue
        if one.failures > (earlier.failures if earlier else 0):
            reports.append(Report(name, None, SourceUnavailableError(one.last_error)))
        elif one.published.generation != (earlier.published.generation if earlier else 0):
            reports.append(Report(name, Outcome(Result.PUBLISHED, one.published.generation), None))
    return reports


def _row(report: Report, one: CredentialSnapshot | None) -> dict[str, Any]:
    done = one.published if one is not None else None
    row: dict[str, Any] = {
        "credential": report.credential,
        "outcome": str(report.outcome.result) if report.outcome and one is not None else "failed",
        "generation": done.generation if done else 0,
        "access_key_id": (done.access_key_id or None) if done else None,
        "version_id": (done.version_id or None) if done else None,
        "notify": notify_rows(one) if one is not None else [],
    }
    if one is None:
        row["error"] = str(report.error or "it is not in the config any more")
    elif report.error is not None:
        row["error"] = str(report.error)
    return row


def _exit_code(reports: Sequence[Report], now: dict[str, CredentialSnapshot]) -> int:
    codes = [report.error.exit_code for report in reports if report.error is not None]
    final = [code for code in codes if code != EXIT_SOURCE_UNAVAILABLE]
    if codes:
        return final[0] if final else EXIT_SOURCE_UNAVAILABLE
    seen = [now[report.credential] for report in reports if report.credential in now]
    return EXIT_FAILED if any(who.untold for one in seen for who in one.dependents) else EXIT_DONE


def _late() -> CancelledError:
    return CancelledError("the agent did not answer in time", "see its log and `keyturn status`")
