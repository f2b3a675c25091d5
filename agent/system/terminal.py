"""The terminal: its size, the one palette, and whether a stream takes either. No other module writes an escape.

Whether there is colour is asked in this order: `--color always` or `never`; `NO_COLOR` (https://no-color.org), which forbids it;
`FORCE_COLOR` or `CLICOLOR_FORCE` (https://force-color.org, https://bixense.com/clicolors), which ask for it in pipes too, as CI
services do; whether the stream is a terminal that is neither without a name nor `dumb`. Of each variable, "" is as if it were
not set; "0" does not force. The cursor is moved on such a terminal only, whatever was said of colour.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import TextIO

PALETTE = {"good": "32", "bad": "31", "so-so": "33", "dim": "2", "strong": "1"}
"""Mood: what sets it (SGR). The sixteen colours that a terminal's theme keeps readable, dark or light."""

WHEN = ("auto", "always", "never")
"""What `--color` takes."""

_chosen = {"when": "auto"}


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


def choose_colour(when: str) -> None:
    """Set what `--color` says, one of WHEN, for the rest of this process."""
    _chosen["when"] = when


def has_colour(stream: TextIO | None = None, environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether a stream takes colours; None: standard output."""
    if _chosen["when"] != "auto":
        return _chosen["when"] == "always"
    if environ.get("NO_COLOR"):
        return False
    if any(environ.get(name, "0") not in ("", "0") for name in ("FORCE_COLOR", "CLICOLOR_FORCE")):
        return True
    return is_terminal(stream, environ)


def is_terminal(stream: TextIO | None = None, environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether a stream is a terminal on which the cursor can be moved; None: standard output."""
    stream = sys.stdout if stream is None else stream
    return bool(stream) and stream.isatty() and environ.get("TERM", "dumb") not in ("", "dumb")


def paint(text: str, mood: str | None, stream: TextIO | None = None) -> str:
    """Return the text in the colour of a mood of PALETTE, or as it is where the stream has none; None: standard output."""
    if mood is None or not text or not has_colour(stream):
        return text
    return f"\x1b[{PALETTE[mood]}m{text}\x1b[0m"


def cleared() -> str:
    """Return what empties the screen before it is drawn again; "" where standard output has no cursor to move."""
    return "\x1b[H\x1b[2J" if is_terminal() else ""


def erased(stream: TextIO) -> str:
    """Return what empties the line of the cursor, to be written anew; "" where a stream has no cursor to move."""
    return "\r\x1b[K" if is_terminal(stream) else ""
