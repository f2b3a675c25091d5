"""The types of options that argparse does not have."""

from __future__ import annotations

from datetime import datetime, timedelta

from agent.config.duration import duration
from agent.config.unfit import Unfit
from agent.core.errors import UsageError
from agent.core.timestamps import moment_of


def seconds(text: str, option: str) -> float:
    """Return the seconds of a duration like `20s`.

    Raises:
        UsageError: it is not one.
    """
    try:
        return float(duration(text))
    except Unfit as error:
        raise UsageError(f"{option}: {error}") from error


def moment(text: str, option: str, now: datetime) -> datetime:
    """Return an instant: RFC 3339 (UTC where it names no zone), a date, or how long ago, like `2d`.

    Raises:
        UsageError: it is none of these.
    """
    found = moment_of(text) or moment_of(f"{text}+00:00") or moment_of(f"{text}T00:00:00+00:00")
    if found is not None:
        return found
    try:
        return now - timedelta(seconds=float(duration(text)))
    except (Unfit, OverflowError):
        raise UsageError(
            f"{option}: {text!r} is neither a time nor a duration", "give a time like 2026-11-22T03:00:00Z, or 2d"
        ) from None
