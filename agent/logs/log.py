"""The logger, and what may be said of an exception."""

from __future__ import annotations

import os
import sys
import traceback

import structlog
from structlog.typing import EventDict

from agent.core.errors import KeyturnError

log: structlog.stdlib.BoundLogger = structlog.get_logger("keyturn")


def safe_exception(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Replace `exc_info` by the error's type and its frames; the text only where the error is ours."""
    info = event.pop("exc_info", None)
    if info is True:
        info = sys.exc_info()[1]
    elif isinstance(info, tuple):
        info = info[1]
    if isinstance(info, BaseException):
        event["error"] = describe(info)
        event["frames"] = frames(info)
    return event


def describe(error: BaseException) -> str:
    """Say what went wrong in a way that is safe to write down."""
    return str(error) if isinstance(error, KeyturnError) else type(error).__name__


def frames(error: BaseException) -> str:
    """The places the error came through, innermost last, without values."""
    places = traceback.extract_tb(error.__traceback__)
    return " > ".join(f"{os.path.basename(place.filename)}:{place.lineno}:{place.name}" for place in places[-8:])
