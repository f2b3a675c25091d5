"""Values of a report or an incident as JSON has them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from typing import Any

from agent.core.timestamps import rfc3339


def plain(value: Any, instant: Callable[[datetime], str] = rfc3339) -> Any:
    """Return dataclasses and what they hold as objects, lists and scalars; `instant` writes the times."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {each.name: plain(getattr(value, each.name), instant) for each in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: plain(item, instant) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, instant) for item in value]
    if isinstance(value, datetime):
        return instant(value)
    return str(value) if isinstance(value, StrEnum) else value
