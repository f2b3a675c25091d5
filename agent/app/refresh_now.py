"""What an operator can have done, whether a daemon does it or the command itself under the same lock.

These functions block, so they are called from a thread that is not the engine's.
"""

from __future__ import annotations

import queue
from collections.abc import Sequence
from functools import partial
from typing import Any

from agent.app.status import notifications
from agent.core.errors import (
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_SOURCE_UNAVAILABLE,
    CancelledError,
    SourceUnavailableError,
    UsageError,
)
from agent.core.events import Cause
from agent.core.outcome import Outcome, Report
from agent.core.text import nearest
from agent.engine.attempts import RefreshSlot
from agent.engine.dependency_graph import family, in_order
from agent.engine.engine import Engine

WAIT_S = 900.0
LOOK_AGAIN_S = 0.2


def chosen(engine: Engine, names: Sequence[str]) -> list[str]:
    """The credentials that the operator named, or all.

    Raises:
        UsageError: one is not in the config.
    """
    for name in names:
        if name not in engine.desks:
            near = nearest(name, engine.desks)
            raise UsageError(
                f"there is no credential {name!r} in the config",
                f"did you mean {near}?" if near else "see `keyturn status`",
            )
    return list(dict.fromkeys(names)) or in_order(engine.desks)


def refresh(engine: Engine, names: Sequence[str], cause: Cause, *, retry_for_s: float = 0.0) -> dict[str, Any]:
    """Refresh, publish and notify; return what came of each, and the exit code.

    Args:
        engine: the engine; must be running on another thread.
        names: of credentials; none means all.
        cause: for the audit.
        retry_for_s: how long temporary failures of a source, and failed notifications, are tried again.
    """
    wanted = chosen(engine, names)
    before = engine.loop.call(partial(_marks, engine))
    until = engine.clock.boottime() + retry_for_s
    reports = _refreshed(engine, wanted, cause, until)
    touched = engine.loop.call(partial(_at_rest, engine, wanted))
    while touched is None:  # what builds on a credential that changed renews behind its report
        if engine.loop.cancel.wait(LOOK_AGAIN_S / 4):
            break
        touched = engine.loop.call(partial(_at_rest, engine, wanted))
    _wait_until_told(engine, touched or wanted, until)
    reports += engine.loop.call(partial(_also, engine, touched or [], wanted, before))
    rows = [engine.loop.call(partial(_row, engine, report)) for report in reports]
    return {"credentials": rows, "exit_code": _exit_code(reports, rows)}


def _marks(engine: Engine) -> dict[str, tuple[int, int]]:
    """By which it is seen afterwards what happened to a credential meanwhile."""
    states = {name: desk.managed.state for name, desk in engine.desks.items()}
    return {name: (state.published.generation, state.consecutive_failures) for name, state in states.items()}


def _at_rest(engine: Engine, names: Sequence[str]) -> list[str] | None:
    """Everybody whom a refresh of `names` can touch, None while one of them is at work."""
    touched = family(engine.desks, names)
    return touched if all(engine.desks[name].attempt is None for name in touched) else None


def _also(
    engine: Engine, touched: Sequence[str], wanted: Sequence[str], before: dict[str, tuple[int, int]]
) -> list[Report]:
    """What came of those that were refreshed besides: a base first, or because they build on what changed."""
    reports = []
    for name, now in _marks(engine).items():
        generation, failures = before.get(name, (0, 0))
        if name not in touched or name in wanted:
            continue
        if now[1] > failures:
            error = SourceUnavailableError(engine.desks[name].managed.state.last_error, code="")
            reports.append(Report(name, None, error))
        elif now[0] != generation:
            reports.append(Report(name, Outcome("published", now[0]), None))
    return reports


def _refreshed(engine: Engine, names: Sequence[str], cause: Cause, until: float) -> list[Report]:
    answers: queue.SimpleQueue[Report] = queue.SimpleQueue()

    def ask() -> None:
        for name in names:
            engine.refresh(name, cause, answers.put, retry_until=until)

    engine.loop.post(ask)
    try:
        found = [answers.get(timeout=WAIT_S) for _ in names]
    except queue.Empty:
        raise CancelledError("the agent did not answer in time", "see its log and `keyturn status`") from None
    return sorted(found, key=lambda report: names.index(report.credential))


def _wait_until_told(engine: Engine, names: Sequence[str], until: float) -> None:
    """Wait until every debt was tried, and until `until` for those that failed."""
    answers: queue.SimpleQueue[None] = queue.SimpleQueue()

    def tell() -> None:
        for desk in _still_there(engine, names):
            engine.dispatcher.owe(desk.managed, urgent=True)
        engine.dispatcher.when_tried(set(names), partial(answers.put, None))

    engine.loop.post(tell)
    try:
        answers.get(timeout=WAIT_S)
    except queue.Empty:
        return
    while engine.clock.boottime() < until and engine.loop.call(partial(_owing, engine, names)):
        if engine.loop.cancel.wait(LOOK_AGAIN_S):
            return


def _owing(engine: Engine, names: Sequence[str]) -> bool:
    return any(desk.managed.state.debts for desk in _still_there(engine, names))


def _still_there(engine: Engine, names: Sequence[str]) -> list[RefreshSlot]:
    """A reload may have taken away what was asked for."""
    return [engine.desks[name] for name in names if name in engine.desks]


def _row(engine: Engine, report: Report) -> dict[str, Any]:
    desk = engine.desks.get(report.credential)
    if desk is None:
        gone = str(report.error or "it is not in the config any more")
        return {"credential": report.credential, "outcome": "failed", "generation": 0, "access_key_id": None,
                "version_id": None, "notify": [], "error": gone}  # fmt: skip
    managed, done = desk.managed, desk.managed.state.published
    row: dict[str, Any] = {
        "credential": report.credential,
        "outcome": report.outcome.what if report.outcome else "failed",
        "generation": done.generation,
        "access_key_id": done.access_key_id or None,
        "version_id": done.version_id or None,
        "notify": notifications(managed),
    }
    if report.error is not None:
        row["error"] = str(report.error)
    return row


def _exit_code(reports: Sequence[Report], rows: Sequence[dict[str, Any]]) -> int:
    codes = [report.error.exit_code for report in reports if report.error is not None]
    final = [code for code in codes if code != EXIT_SOURCE_UNAVAILABLE]
    if codes:
        return final[0] if final else EXIT_SOURCE_UNAVAILABLE
    return EXIT_FAILED if any(_untold(one) for row in rows for one in row["notify"]) else EXIT_DONE


def _untold(notification: dict[str, Any]) -> bool:
    return bool(notification["owed"]) or str(notification["last_outcome"] or "").startswith("gave up")
