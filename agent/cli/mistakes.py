"""What was meant: the sentence for a command line that argparse does not understand, and the command line put right.

Imported only once something is wrong. The words are read once more, with the parser of every command; what stands in the place
of a command, an action, an option or an option's value and is none is compared with those that there are. A line that can be put
right is shown whole, to be pasted, but only where the parser then understands it. A word that looks like a secret, pasted into the
wrong place, is not repeated: what a command prints may end in a mail or a journal.
"""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from agent.cli.parsers import Mistake, Parser
from agent.config.outline import outline
from agent.core.suspects import suspects, without_suspects
from agent.core.text import escaped, nearest

ELSEWHERE = {
    "ls": "status", "list": "status", "show": "status", "get": "credential", "validate": "check", "test": "check", "lint": "check",
    "doctor": "check", "renew": "refresh", "update": "refresh", "sync": "refresh", "reload": "refresh", "log": "audit show",
    "logs": "audit show", "history": "audit show", "start": "run", "serve": "run", "daemon": "run", "agent": "run",
    "configure": "init", "setup": "init", "new": "init", "revoke": "rotate", "emergency": "rotate", "leak": "rotate",
    "completions": "completion", "version": "--version", "report": "audit report", "bugreport": "report-bug",
}  # fmt: skip
"""What other programs call it."""
AT_MOST = 6
"""So many mistakes of one line are put right."""


class Slip(NamedTuple):
    """One word that is not understood: what is wrong, and all words with this one put right, None where nothing is near."""

    sentence: str
    choices: str
    words: list[str] | None
    meant: str = ""


def explained(whole: Parser, words: Sequence[str], mistake: Mistake) -> str:
    """Return what is wrong, with the nearest thing that there is, or an example: one sentence.

    Args:
        whole: the parser of all commands.
        words: the arguments.
        mistake: what argparse says of them.
    """
    slip = _slip(whole, list(words))
    if slip is None:
        where = mistake.parser
        examples = [one for one in where.examples if " " in where.prog]
        rest = f"example: {examples[0]}" if examples else f"see `{where.prog} --help`"
        return without_suspects(escaped(f"{where.prog}: {mistake.message}; {rest}"))
    if slip.words is None:
        return without_suspects(escaped(f"{slip.sentence}; {slip.choices}"))
    right = _put_right(whole, slip.words)
    if right is None or not _may_be_shown(right):
        return without_suspects(escaped(f"{slip.sentence}; did you mean {slip.meant}?"))
    return escaped(f"{slip.sentence}; did you mean: {shlex.join(['keyturn', *right])}")


def with_command(sentence: str, words: Sequence[str], options: argparse.Namespace) -> str:
    """Return a command's own sentence; where it names the credential that was meant, with the whole command put right.

    Args:
        sentence: ends with `did you mean uploader?`, where that is what is wrong.
        words: the arguments.
        options: what they were understood as.
    """
    given = [
        *(getattr(options, "names", None) or []),
        getattr(options, "name", None),
        getattr(options, "credential", None),
    ]
    found = outline(options.config, os.environ)
    known = found.credentials if found is not None else ()
    for typed in filter(None, given):
        near = nearest(typed, known) if typed not in known else None
        question = f"did you mean {near}?"
        places = [at for at, word in enumerate(words) if word in (typed, f"--credential={typed}")]
        if near is not None and sentence.endswith(question) and len(places) == 1 and _may_be_shown(words):
            right = _replaced(list(words), places[0], [words[places[0]].removesuffix(typed) + near])
            return f"{sentence.removesuffix(question)}did you mean: {shlex.join(['keyturn', *right])}"
    return without_suspects(sentence)


def _may_be_shown(words: Sequence[str]) -> bool:
    """Return whether a line of these words can be pasted, and holds nothing that looks like a secret."""
    return all(word.isprintable() and not any(suspects(word)) for word in words)


def _put_right(whole: Parser, words: list[str]) -> list[str] | None:
    """Return words of which the parser understands every one, None where they cannot be found."""
    for _again in range(AT_MOST):
        slip = _slip(whole, words)
        if slip is None:
            return words if _is_understood(whole, words) else None
        if slip.words is None:
            return None
        words = slip.words
    return None


def _is_understood(whole: Parser, words: list[str]) -> bool:
    if {"-h", "--help", "-V", "--version"} & set(words):
        return True  # it would be printed now
    try:
        whole.parse_args(words)
    except Mistake:
        return False
    return True


def _slip(whole: Parser, words: list[str]) -> Slip | None:
    """Return the first word that is not understood, None where there is none or argparse has the better sentence."""
    at, here, operands = 0, whole, 0
    while at < len(words):
        word = words[at]
        if word == "--":
            return None
        if word.startswith("-") and len(word) > 1 and not _is_number(word):
            flag, equals, value = word.partition("=")
            action = here._option_string_actions.get(flag)
            if action is None:
                return _unknown_option(here, words, at)
            if action.nargs == 0:
                at += 1
                continue
            if not equals:
                at += 1
                if at >= len(words) or (words[at].startswith("-") and not _is_number(words[at])):
                    return None  # its value is missing
                value = words[at]
            if action.choices and value not in action.choices:
                return _unknown_value(here, flag, list(action.choices), words, at, value)
        elif (below := here.below()) is not None:
            if word not in below:
                return _unknown_command(here, below, words, at)
            here = below[word]
        else:
            operands += 1
            if operands > _room(here):
                return _one_too_many(here, word)
            action = next((one for one in _operands(here) if one.choices), None)
            if action is not None and word not in (action.choices or ()):
                return _unknown_value(
                    here, str(action.metavar or action.dest), list(action.choices or ()), words, at, word
                )
        at += 1
    return None


def _is_number(word: str) -> bool:
    return word[1:].replace(".", "", 1).isdecimal()


def _operands(here: Parser) -> Iterator[argparse.Action]:
    return (one for one in here._actions if not one.option_strings and not isinstance(one, argparse._SubParsersAction))


def _room(here: Parser) -> float:
    """Return how many operands a parser takes at most."""
    return sum(float("inf") if one.nargs in ("*", "+") else 1 for one in _operands(here))


def _replaced(words: list[str], at: int, by: Sequence[str], *, taken: int = 1) -> list[str]:
    return [*words[:at], *by, *words[at + taken :]]


def _like(word: str, known: Iterable[str]) -> str | None:
    """Return what a word may stand for: the only one that it begins, or else the nearest."""
    names = list(known)
    begun = [name for name in names if name.startswith(word) and word.strip("-")]
    return begun[0] if len(begun) == 1 else nearest(word.lower(), names)


def _unknown_command(here: Parser, below: dict[str, Parser], words: list[str], at: int) -> Slip:
    word = words[at]
    kind = "action" if " " in here.prog else "command"
    meant = _like(word, below)
    if kind == "command":
        actions = [f"{name} {word}" for name, one in below.items() if word in (one.below() or ())]
        other = ELSEWHERE.get(word, "")
        other = other if other.split(" ")[0] in {*below, "--version"} else ""
        meant = (actions[0] if len(actions) == 1 else "") or (meant if meant and not other else other) or meant
    choices = "see `keyturn help`" if kind == "command" else f"there are {', '.join(below)}"
    right = _replaced(words, at, meant.split(" ")) if meant else None
    return Slip(f"{here.prog}: there is no {kind} {_shown(word)}", choices, right, meant or "")


def _unknown_option(here: Parser, words: list[str], at: int) -> Slip:
    flag, equals, value = words[at].partition("=")
    known = here._option_string_actions
    misplaced = _for_behind(here, flag, words, at)
    if misplaced is not None:
        place, right = misplaced
        return Slip(f"{here.prog}: {flag} belongs behind {place}", "", right, f"{place} {flag}")
    long = [one for one in known if one.startswith("--")]
    doubled = f"--{flag.lstrip('-')}"
    meant = doubled if doubled in known else _like(doubled, long)
    choices = f"see `{here.prog} --help`"
    put_right = _replaced(words, at, [f"{meant}{equals}{value}"]) if meant else None
    return Slip(f"{here.prog}: there is no option {_shown(flag)}", choices, put_right, meant or "")


def _for_behind(here: Parser, flag: str, words: list[str], at: int) -> tuple[str, list[str]] | None:
    """Return the command that has this option, where it is named behind it, and the words in their right order."""
    rest, path = words[at + 1 :], here
    last = None
    for number, word in enumerate(rest):
        below = path.below()
        if below is None or word.startswith("-"):
            break
        if word in below:
            path, last = below[word], number
            action = path._option_string_actions.get(flag)
            if action is not None:
                takes = action.nargs != 0 and "=" not in words[at]
                behind = rest[: last + 1] if not takes else rest[1 : last + 1]
                moved = [words[at], *([rest[0]] if takes else [])]
                return path.prog.removeprefix("keyturn "), [*words[:at], *behind, *moved, *rest[last + 1 :]]
    return None


def _unknown_value(here: Parser, place: str, choices: list[str], words: list[str], at: int, value: str) -> Slip:
    meant = _like(value, choices)
    joined = words[at] != value
    right = _replaced(words, at, [f"{place}={meant}" if joined else meant]) if meant else None
    *most, last = choices
    want = f"{', '.join(most)} or {last}" if most else last
    return Slip(f"{here.prog}: {place} does not take {_shown(value)}", f"want {want}", right, meant or "")


def _one_too_many(here: Parser, word: str) -> Slip:
    quote = "; quote a text that has blanks" if any(one.metavar == "TEXT" for one in here._actions) else ""
    return Slip(f"{here.prog}: {_shown(word)} is a word too many{quote}", f"see `{here.prog} --help`", None)


def _shown(word: str) -> str:
    return repr(word if len(word) <= 64 else word[:64] + "…")
