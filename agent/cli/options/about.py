"""The options of what is about keyturn itself: help."""

from __future__ import annotations

import argparse


def help(help: argparse.ArgumentParser) -> None:
    """Add those of `help`."""
    help.add_argument(
        "words", metavar="COMMAND", nargs="*", help="a command, and an action of it; or exit-codes, environment"
    )
