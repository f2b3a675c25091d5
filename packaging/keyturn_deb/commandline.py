"""keyturn's command line as plain data, read from its argparse parser: what man page and completions are made from."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Option:
    """`flags` share one meaning; without `value` it is a switch."""

    flags: tuple[str, ...]
    value: str
    help: str
    required: bool
    kind: str
    choices: tuple[str, ...] = ()

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


@dataclass(frozen=True)
class Command:
    """`words` lead to it from the program's name: () is the program, ("audit", "show") an action of a command."""

    words: tuple[str, ...]
    summary: str
    example: str
    options: tuple[Option, ...]
    arguments: tuple[Argument, ...]
    commands: tuple[Command, ...]

    @property
    def path(self) -> str:
        """The words in one."""
        return " ".join(self.words)

    def walk(self) -> Iterator[Command]:
        """This command and all below it, in the parser's order."""
        yield self
        for each in self.commands:
            yield from each.walk()


KINDS = {"PATH": "file", "DIR": "directory", "NAME": "credential"}
"""What a value of that name is completed with."""


def read(parser: argparse.ArgumentParser) -> Command:
    """Read a parser with everything below it."""
    return _command(parser, (), parser.description or "")


def _command(parser: argparse.ArgumentParser, words: tuple[str, ...], summary: str) -> Command:
    options: list[Option] = []
    arguments: list[Argument] = []
    commands: list[Command] = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
            commands += [_command(sub, (*words, name), helps.get(name, "")) for name, sub in action.choices.items()]
        elif action.option_strings:
            options.append(_option(action))
        else:
            arguments.append(Argument(str(action.metavar or action.dest), action.nargs == "*", _kind(action)))
    example = next(iter(getattr(parser, "examples", ())), "")
    return Command(words, summary, example, tuple(options), tuple(arguments), tuple(commands))


def _option(action: argparse.Action) -> Option:
    value = "" if action.nargs == 0 else str(action.metavar or action.dest.upper())
    choices = tuple(str(each) for each in action.choices or ())
    text = (action.help or "").replace("%%", "%")
    return Option(tuple(action.option_strings), value, text, action.required, _kind(action), choices)


def _kind(action: argparse.Action) -> str:
    """How a value is completed: by "file", "directory", "credential", or "" where nobody can know."""
    if action.nargs == 0:
        return ""
    return "credential" if action.dest == "credential" else KINDS.get(str(action.metavar), "")


def synopsis(command: Command) -> str:
    """One line as in a man page: `keyturn rotate --reason TEXT [--leaked ACCESS_KEY_ID] NAME`."""
    parts = ["keyturn", *command.words]
    parts += [
        each.usage if each.required else f"[{each.usage}]" for each in command.options if "--help" not in each.flags
    ]
    parts += [f"[{each.value}...]" if each.many else each.value for each in command.arguments]
    return " ".join(parts)
