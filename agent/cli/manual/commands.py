"""keyturn's command line as plain data, read from its argparse parser: what man pages and completions are made from."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

from agent.cli.parsers import EVERYWHERE, Parser


@dataclass(frozen=True)
class Option:
    """`flags` share one meaning; without `value` it is a switch. `group` is the title that it stands below in the help."""

    flags: tuple[str, ...]
    value: str
    help: str
    required: bool
    kind: str
    choices: tuple[str, ...] = ()
    group: str = ""

    @property
    def usage(self) -> str:
        """As a synopsis shows it: `--reason TEXT`."""
        return f"{self.flags[-1]} {self.value}".strip()


@dataclass(frozen=True)
class Argument:
    """An operand; `many` may be repeated or left out."""

    value: str
    many: bool
    kind: str
    help: str = ""
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Command:
    """`words` lead to it from the program's name: () is the program, ("audit", "show") an action of a command."""

    words: tuple[str, ...]
    summary: str
    about: str
    examples: tuple[str, ...]
    exit_codes: tuple[int, ...]
    docs: str
    options: tuple[Option, ...]
    arguments: tuple[Argument, ...]
    commands: tuple[Command, ...]

    @property
    def path(self) -> str:
        """The words in one."""
        return " ".join(self.words)

    @property
    def own_options(self) -> tuple[Option, ...]:
        """Those that not every command has."""
        return tuple(each for each in self.options if "--help" not in each.flags and each.group != EVERYWHERE)

    def walk(self) -> Iterator[Command]:
        """This command and all below it, in the parser's order."""
        yield self
        for each in self.commands:
            yield from each.walk()


KINDS = {"PATH": "file", "FILE": "file", "DIR": "directory", "NAME": "credential", "COMMAND": "command"}
"""What a value of that name is completed with."""


def read(parser: Parser) -> Command:
    """Read a parser with everything below it."""
    return _command(parser, (), parser.description or "")


def _command(parser: Parser, words: tuple[str, ...], summary: str) -> Command:
    options: list[Option] = []
    arguments: list[Argument] = []
    commands: list[Command] = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
            commands += [_command(sub, (*words, name), helps.get(name, "")) for name, sub in action.choices.items()]
        elif action.option_strings:
            options.append(_option(action, _group(parser, action)))
        else:
            name, choices = str(action.metavar or action.dest), tuple(str(each) for each in action.choices or ())
            arguments.append(Argument(name, action.nargs == "*", _kind(action), _text(action), choices))
    options.sort(key=lambda option: option.group == EVERYWHERE)
    return Command(
        words,
        summary,
        parser.description or summary,
        tuple(parser.examples),
        tuple(parser.exit_codes),
        parser.docs,
        tuple(options),
        tuple(arguments),
        tuple(commands),
    )


def _group(parser: Parser, action: argparse.Action) -> str:
    """Return the title of the group that an option stands in, "" for that of all which were put into none."""
    titles = [group.title or "" for group in parser._action_groups[2:] if action in group._group_actions]
    return titles[0] if titles else ""


def _option(action: argparse.Action, group: str) -> Option:
    value = "" if action.nargs == 0 else str(action.metavar or action.dest.upper())
    choices = tuple(str(each) for each in action.choices or ())
    return Option(tuple(action.option_strings), value, _text(action), action.required, _kind(action), choices, group)


def _text(action: argparse.Action) -> str:
    return (action.help or "").replace("%%", "%")


def _kind(action: argparse.Action) -> str:
    """How a value is completed: by "file", "directory", "credential", or "" where nobody can know."""
    if action.nargs == 0:
        return ""
    return "credential" if action.dest == "credential" else KINDS.get(str(action.metavar), "")


def synopsis(command: Command) -> str:
    """One line as in a man page: `keyturn rotate --reason TEXT [--leaked ACCESS_KEY_ID] NAME`."""
    parts = ["keyturn", *command.words]
    parts += [each.usage if each.required else f"[{each.usage}]" for each in command.own_options]
    parts += [f"[{each.value}...]" if each.many else each.value for each in command.arguments]
    return " ".join(parts)
