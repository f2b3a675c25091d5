"""A line at the bottom of the terminal that says what is being waited for, and is gone once it came."""

from __future__ import annotations

import sys

from agent.system.columns import cut
from agent.system.terminal import erased, is_terminal, paint, terminal_size


class Live:
    """What is printed while a check goes on. Where standard output is no terminal, no more than the lines."""

    def __init__(self) -> None:
        """Begin with nothing shown."""
        self._shows = is_terminal()
        self._shown = False

    def begins(self, text: str) -> None:
        """Show what begins, cut to one line, until `clear` or the next line."""
        self.clear()
        if self._shows:
            sys.stdout.write(paint(cut(f"...     {text}", terminal_size().columns - 1), "dim"))
            sys.stdout.flush()
            self._shown = True

    def line(self, text: str) -> None:
        """Print a line that stays."""
        self.clear()
        print(text, flush=True)

    def clear(self) -> None:
        """Take away what is shown for the time being."""
        if self._shown:
            sys.stdout.write(erased(sys.stdout))
            sys.stdout.flush()
            self._shown = False
