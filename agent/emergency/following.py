"""The new value on its way from the source to the sinks: refreshed again and again until it is published."""

from __future__ import annotations

import random
from collections.abc import Callable

from agent.core.errors import KeyturnError, VerifyRefusedError
from agent.core.outcome import Report
from agent.core.retry import Retry
from agent.emergency.case import Case
from agent.emergency.report import StepOutcome


def follow(
    case: Case, arrived: Callable[[], bool], *, not_arrived: Callable[[], KeyturnError], hands_out_another: bool
) -> None:
    """Refresh until the new value is published; show the steps of that refresh.

    Args:
        case: the emergency.
        arrived: whether what is published is the new value.
        not_arrived: the error where every refresh went well and the new value did not come.
        hands_out_another: a source that answers with the old value may answer otherwise when it is asked again.

    Raises:
        KeyturnError: it was not published in `follow_s` seconds, or cannot be.
    """
    activity, clock = case.steps.activity, case.clock
    pause, limit_s = activity.pausing(case.held.pause), case.patience.follow_s
    retry = Retry(1.0, 2.0, limit_s, chance=random.random, pause=pause, monotonic=clock.boottime)
    activity.begin(f"the new value of {case.place}")
    case.steps.begin("publish")
    while True:
        began = clock.boottime()
        report = case.refresh()
        activity.failed(report.error.problem if report.error else "the source still hands out the old one")
        if report.outcome is not None and arrived():
            _show_timings(case, report, began)
            return
        hopeless = not report.error.retryable if report.error is not None else not hands_out_another
        if hopeless or not retry.again():
            error = report.error or not_arrived()
            name = "verify" if isinstance(error, VerifyRefusedError) else "publish"
            case.steps.note(name, StepOutcome.FAILED, began)
            raise error


def _show_timings(case: Case, report: Report, began: float) -> None:
    timings = report.outcome.timings_ms if report.outcome else {}
    ago_ms = sum(timings.values())  # one behind the other, and all is over now
    for name, ms in timings.items():
        ago_ms -= ms
        case.steps.add(name, StepOutcome.DONE, ms, ago_ms=ago_ms)
    if not timings:
        case.steps.note("fetch", StepOutcome.DONE, began, "the new version was published already")
