"""How far a long piece of work is: a counter on a terminal, which the next line overwrites.

It goes to standard error, where what is waited for stands as well; standard output is for what came of it.
"""

from __future__ import annotations

import sys

from agent.system.columns import cut
from agent.system.terminal import erased, is_terminal, terminal_size


class Counter:
    """One line at the bottom of the terminal; where standard error is none, nothing is shown at all."""

    def __init__(self) -> None:
        self._shows = is_terminal(sys.stderr)
        self._text = ""

    def show(self, text: str) -> None:
        """Put a text in the place of the one before."""
        self._text = text
        if self._shows:
            print(erased(sys.stderr) + cut(text, terminal_size().columns - 1), end="", file=sys.stderr, flush=True)

    def above(self) -> None:
        """Make room for a line that stays: take the counter away until `again`."""
        if self._shows and self._text:
            sys.stdout.flush()
            print(erased(sys.stderr), end="", file=sys.stderr, flush=True)

    def again(self) -> None:
        """Show it again, below what was printed."""
        if self._text:
            sys.stdout.flush()
            self.show(self._text)

    def end(self) -> None:
        """Take it away for good."""
        self.above()
        self._text = ""
