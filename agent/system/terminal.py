"""Colours on a terminal."""

from __future__ import annotations

import os
import sys

COLOURS = {"good": "32", "bad": "31", "so-so": "33", "dim": "2"}


def paint(text: str, mood: str | None) -> str:
    """Return the text in colour, or as it is where standard output is no terminal or NO_COLOR is set."""
    if mood is None or not sys.stdout or not sys.stdout.isatty() or "NO_COLOR" in os.environ:
        return text
    return f"\x1b[{COLOURS[mood]}m{text}\x1b[0m"
