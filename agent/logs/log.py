"""The logger, and the parts of an exception that are safe to log."""

from __future__ import annotations

import os
import sys
import traceback

import structlog
from structlog.typing import EventDict

from agent.core.errors import KeyturnError
from agent.logs.redaction import redacted

log: structlog.stdlib.BoundLogger = structlog.get_logger("keyturn")


def safe_exception(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Replace `exc_info` by the error's description and its frames (a structlog processor)."""
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
    """Return the text of an error of ours, and only the type of any other, whose text may hold a secret."""
    return redacted(str(error)) if isinstance(error, KeyturnError) else type(error).__name__


def frames(error: BaseException) -> str:
    """Return the places the error came through, innermost last, without values."""
    places = traceback.extract_tb(error.__traceback__)
    return " > ".join(f"{os.path.basename(place.filename)}:{place.lineno}:{place.name}" for place in places[-8:])
