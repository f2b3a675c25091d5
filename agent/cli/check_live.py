"""A line at the bottom of the terminal that says what is being waited for, and is gone once it came."""

from __future__ import annotations

import os
from typing import TextIO

from agent.system.terminal import paint, terminal_size

_CLEAR = "\r\x1b[K"


class Live:
    """What is printed while a check goes on. Where standard output is no terminal, no more than the lines."""

    def __init__(self, out: TextIO) -> None:
        """Keep where it is printed."""
        self._out = out
        self._shows = out.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._shown = False

    def begins(self, text: str) -> None:
        """Show what begins, cut to one line, until `clear` or the next line."""
        self.clear()
        if self._shows:
            self._out.write(paint(f"...     {text}"[: terminal_size().columns - 1], "dim"))
            self._out.flush()
            self._shown = True

    def line(self, text: str) -> None:
        """Print a line that stays."""
        self.clear()
        print(text, file=self._out, flush=True)

    def clear(self) -> None:
        """Take away what is shown for the time being."""
        if self._shown:
            self._out.write(_CLEAR)
            self._out.flush()
            self._shown = False
