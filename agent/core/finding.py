"""What `check` finds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of `check`: `level` is "ok", "warning" or "error"; a failure names its remedy."""

    level: str
    place: str
    text: str
    remedy: str = ""
