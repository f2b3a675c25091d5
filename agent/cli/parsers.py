"""The parser that every command and every action of one has: help as wide as the terminal, complaints with an example."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import NoReturn

from agent.core.errors import EXIT_USAGE
from agent.system.terminal import terminal_size


class _Help(argparse.RawDescriptionHelpFormatter):
    """Help as wide as the terminal. argparse asks for one with each option that is added."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=terminal_size().columns - 2)


class Parser(argparse.ArgumentParser):
    """A parser that ends a complaint with the command's example, which can be typed as it stands."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the command line, and exit."""
        self.print_usage(sys.stderr)
        example = f"; {self.epilog}" if self.epilog and " " in self.prog else ""
        self.exit(EXIT_USAGE, f"{self.prog}: error: {message}{example}\n")


def subparser(make: Callable[..., argparse.ArgumentParser], *args: str, **keywords: str) -> argparse.ArgumentParser:
    """Return what `make` makes of this, with our help, and without abbreviated options, of which tomorrow there may be two."""
    return make(*args, formatter_class=_Help, allow_abbrev=False, **keywords)
