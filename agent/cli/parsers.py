"""The parser that every command and every action of one has: its help, the options that all of them take, its complaints."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

from agent.core.docs import address
from agent.core.errors import EXITS
from agent.system.terminal import WHEN, terminal_size

DEFAULT_CONFIG = "/etc/keyturn/keyturn.toml"
EVERYWHERE = "options of every command"
"""The title of the group of options that may stand before the command, and behind it."""


class Mistake(Exception):
    """What argparse does not understand, by the parser that does not. agent/cli/mistakes.py explains it."""

    def __init__(self, parser: Parser, message: str) -> None:
        super().__init__(message)
        self.parser, self.message = parser, message


class _Help(argparse.RawDescriptionHelpFormatter):
    """Help as wide as the terminal. argparse asks for one with each option that is added."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=terminal_size().columns - 2)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        """Wrap what is prose; what is indented stands as it is, to be pasted."""
        from textwrap import fill

        return "\n".join(
            line if line.startswith(" ") else fill(line, width, break_long_words=False, break_on_hyphens=False)
            for line in text.splitlines()
        )

    def add_usage(
        self,
        usage: str | None,
        actions: Iterable[argparse.Action],
        groups: Iterable[Any],
        prefix: str | None = None,
    ) -> None:
        """Leave out of a command's usage what every command takes."""
        super().add_usage(usage, [one for one in actions if one.default is not _NOT_GIVEN], groups, prefix)


_NOT_GIVEN = argparse.SUPPRESS
"""The default of a global option behind the command: one that stands before it is not overwritten."""


class Parser(argparse.ArgumentParser):
    """A parser whose help ends with examples, exit codes and an address, and whose complaints are one sentence."""

    color = False
    """From Python 3.14 on argparse colours its help by rules of its own."""
    examples: Sequence[str] = ()
    exit_codes: Sequence[int] = ()
    docs = ""

    def below(self) -> dict[str, Parser] | None:
        """Return its commands or actions by name; None where it has none."""
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                found: dict[str, Parser] = action.choices
                return found
        return None

    def inherit(self) -> None:
        """Have its actions say its own exit codes and document, where they named none."""
        for action in (self.below() or {}).values():
            action.exit_codes, action.docs = action.exit_codes or self.exit_codes, action.docs or self.docs

    def error(self, message: str) -> NoReturn:
        """Raise what is wrong with the command line, as a `Mistake`."""
        raise Mistake(self, message)

    def format_help(self) -> str:
        """Return the help: what this command alone takes comes first."""
        self._positionals.title = "arguments"
        self._action_groups.sort(key=lambda group: group.title == EVERYWHERE)
        self.epilog = "\n".join(_last_words(self))
        return super().format_help()


def _last_words(parser: Parser) -> list[str]:
    """The lines below the options."""
    lines = []
    if parser.examples:
        lines += ["examples:" if len(parser.examples) > 1 else "example:", *(f"  {one}" for one in parser.examples), ""]
    if parser.exit_codes:
        lines += ["exit codes:", *exit_codes(parser.exit_codes), ""]
    return [*lines, f"docs: {address(parser.docs)}"] if parser.docs else lines[:-1]


def exit_codes(codes: Iterable[int]) -> list[str]:
    """Return the lines that say what these exit codes mean."""
    return [*(f"  {code:<4} {EXITS[code]}" for code in codes), "  any other: failed; there may be more one day"]


def subparser(
    make: Callable[..., Any],
    *args: str,
    examples: Sequence[str] = (),
    codes: Sequence[int] = (),
    docs: str = "",
    **keywords: str,
) -> Parser:
    """Return what `make` makes of this, with our help, and without abbreviated options, of which tomorrow there may be two.

    Args:
        make: `Parser`, or the `add_parser` of one's actions.
        args: the name, of a command.
        examples: command lines, the most usual first; a complaint ends with it.
        codes: the exit codes that it can end with; of an action, () is as its command.
        docs: the document about it, like "emergency.md"; of an action, "" is as its command.
        keywords: what argparse takes besides.
    """
    made: Parser = make(*args, formatter_class=_Help, allow_abbrev=False, **keywords)
    made.examples, made.exit_codes, made.docs, made.color = examples, codes, docs, False
    _add_everywhere(made, {} if isinstance(make, type) else {"default": _NOT_GIVEN})
    return made


def _add_everywhere(parser: argparse.ArgumentParser, default: dict[str, Any]) -> None:
    group = parser.add_argument_group(EVERYWHERE)
    group.add_argument("--config", metavar="PATH", help=f"default: $KEYTURN_CONFIG, then {DEFAULT_CONFIG}", **default)
    group.add_argument(
        "--color",
        choices=WHEN,
        metavar="WHEN",
        help="when there is colour: auto, always or never; default: auto",
        **(default or {"default": "auto"}),
    )
