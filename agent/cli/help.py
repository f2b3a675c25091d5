"""`keyturn help`; and what a command that has actions prints where none was named."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from agent.cli.command_line import COMMANDS, overview_text, understood
from agent.cli.overview import rows
from agent.cli.parsers import exit_codes
from agent.core.errors import EXIT_DONE, EXITS
from agent.core.text import nearest
from agent.system.terminal import terminal_size

TOPICS = ("exit-codes", "environment")
ENVIRONMENT = {
    "KEYTURN_CONFIG": "the config, where --config names none",
    "NO_COLOR": "no colour, even on a terminal",
    "FORCE_COLOR, CLICOLOR_FORCE": "colour even where the output is no terminal; --color is stronger than all three",
    "COLUMNS, LINES": "the size of the terminal, where it does not say",
}


def overview(_options: argparse.Namespace) -> int:
    """Print every command in its group."""
    print(overview_text(), end="")
    return EXIT_DONE


def shown(options: argparse.Namespace) -> int:
    """Print what `keyturn help WORDS` asks for."""
    words = [word for word in options.words if word != "help"]
    if not words:
        return overview(options)
    if (topic := _topic(words)) is not None:
        print("\n".join(topic))
        return EXIT_DONE
    understood([*words, "--help"])
    raise AssertionError("argparse exits behind a help")


def actions(options: argparse.Namespace) -> int:
    """Print which actions a command has: it was given none."""
    understood([options.command, "--help"])
    raise AssertionError("argparse exits behind a help")


def _topic(words: Sequence[str]) -> list[str] | None:
    """Return the lines about something that is no command; None where it is one, or nothing."""
    found = words[0] if words[0] in TOPICS else words[0] not in COMMANDS and nearest(words[0], TOPICS, 0.75)
    if found == "exit-codes":
        return ["How a command ends:", *exit_codes(EXITS), "  130  ended by Ctrl-C"]
    if found == "environment":
        return ["What is read from the environment:", *rows(ENVIRONMENT.items(), terminal_size().columns)]
    return None
