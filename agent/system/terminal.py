"""The terminal: its size, and colours."""

from __future__ import annotations

import os
import sys

COLOURS = {"good": "32", "bad": "31", "so-so": "33", "dim": "2"}


def terminal_size() -> os.terminal_size:
    """Return columns and lines, as `shutil.get_terminal_size` does: by $COLUMNS and $LINES, the terminal, else 80 and 24.

    It stands here because every command asks for it, and `shutil` imports the modules of four archive formats.
    """
    try:
        found = os.get_terminal_size(sys.__stdout__.fileno() if sys.__stdout__ else -1)
    except (ValueError, OSError):
        found = os.terminal_size((0, 0))
    columns, lines = (
        int(text) if text.isdecimal() else 0 for text in map(os.environ.get, ("COLUMNS", "LINES"), ("", ""))
    )
    return os.terminal_size((columns or found.columns or 80, lines or found.lines or 24))


def paint(text: str, mood: str | None) -> str:
    """Return the text in colour, or as it is where standard output is no terminal or NO_COLOR is set."""
    if mood is None or not sys.stdout or not sys.stdout.isatty() or "NO_COLOR" in os.environ:
        return text
    return f"\x1b[{COLOURS[mood]}m{text}\x1b[0m"
