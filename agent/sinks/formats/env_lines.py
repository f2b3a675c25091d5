"""Env files cut into entries the way their readers do, so that a `KEY=` inside a quoted value is left alone.

| dialect | an entry goes on over a line end | source |
| --- | --- | --- |
| systemd | in quotes that open a value or follow a closed quote; after a backslash | `src/basic/env-file.c` v254 |
| shell | in quotes; after a backslash | POSIX.1-2017 XCU 2.2 |
| dotenv | in quotes that open the value and are closed | python-dotenv 1.2 `parser.py` |
| docker | never | docker CLI `pkg/kvfile/kvfile.go` |

In every dialect the last assignment of a name wins, and an unquoted value of `[A-Za-z0-9+/=._:-]` means itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Dialect = Literal["systemd", "docker", "shell", "dotenv"]

_LINE = rb"[^\r\n]*"
_EOF = rb"(?<!\\\n)(?<!\\\r)\Z"  # after an escaped line end the entry goes on: into what is appended
_END = rb"(?:\r\n|\n|\r|" + _EOF + rb")"
_FEED = rb"(?:\n|" + _EOF + rb")"
_DOUBLE = rb'"(?:[^"\\]|\\.)*"'
_PLAIN = rb"(?:[^\\\r\n]|\\.)*"


_SHELL_WORDS = rb"(?:'[^']*'|" + _DOUBLE + rb"|\\.|(?<=[ \t;])#[^\n]*|[^'\"\\\n])*"
_HEAD = rb"[^=\r\n]*"
_SHELL_HEAD = rb"[ \t]*(?:export[ \t]+)?[A-Za-z_][A-Za-z0-9_]*"


def _grammar(comment: bytes, head: bytes, value: bytes, other: bytes, end: bytes) -> re.Pattern[bytes]:
    """Return the pattern of one entry: a comment, an assignment, or another line. An open quote matches nothing."""
    assignment = rb"(?P<head>" + head + rb")=" + value
    kinds = rb"(?P<comment>[ \t]*" + comment + rb")|" + assignment + rb"|" + other
    return re.compile(rb"(?:" + kinds + rb")" + end, re.DOTALL)


_GRAMMARS: dict[Dialect, re.Pattern[bytes]] = {
    "systemd": _grammar(
        comment=rb"[#;]" + _LINE,
        head=_HEAD,
        value=rb"(?:[ \t]*(?:'[^']*'|" + _DOUBLE + rb"))*[ \t]*(?:(?=[^'\" \t\r\n])" + _PLAIN + rb")?",
        other=_HEAD,
        end=_END,
    ),
    "shell": _grammar(rb"#[^\n]*", _SHELL_HEAD, _SHELL_WORDS, _SHELL_WORDS, _FEED),
    "dotenv": _grammar(
        comment=rb"#" + _LINE,
        head=_HEAD,
        value=rb"(?:[ \t]*(?:'(?:\\'|[^'])*'|\"(?:\\\"|[^\"])*\")" + _LINE + rb"|" + _LINE + rb")",
        other=_HEAD,
        end=_END,
    ),
    "docker": _grammar(rb"#[^\n]*", rb"[^=\n]*", rb"[^\n]*", rb"[^=\n]*", _FEED),
}
_NAME = re.compile(rb"[ \t]*(?P<export>export[ \t]+)?(?P<key>[A-Za-z_][A-Za-z0-9_]*)[ \t]*")


class UnclosedError(ValueError):
    """A quote is never closed, so the rest of the file has no meaning. `args[0]` is its line number, from 1."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One assignment, comment or other line, with all its bytes.

    Attributes:
        key: the name that it assigns, empty for anything else.
        exported: True for `export KEY=…`.
        swallows: True for a comment that ends in a backslash: systemd before 254 takes the next line for a part of it.
    """

    raw: bytes
    key: str = ""
    exported: bool = False
    swallows: bool = False


def entries(content: bytes, dialect: Dialect) -> Iterator[Entry]:
    """Cut an env file into entries; joined again, their bytes are the file.

    Raises:
        UnclosedError: a quote, or a backslash, is open at the end of the file.
    """
    grammar, position = _GRAMMARS[dialect], 0
    while position < len(content):
        match = grammar.match(content, position)
        if match is None or match.end() == position:
            raise UnclosedError(content.count(b"\n", 0, position) + 1)
        yield _entry(match, dialect)
        position = match.end()


def _entry(match: re.Match[bytes], dialect: Dialect) -> Entry:
    raw = match[0]
    if match["comment"] is not None:
        return Entry(raw, swallows=dialect == "systemd" and _ends_in_backslash(raw))
    head = match["head"]
    if head is None and dialect == "docker":
        head = raw.rstrip(b"\r\n")  # a bare KEY: docker copies it from its own environment
    name = None if head is None else _NAME.fullmatch(head)
    return Entry(raw) if name is None else Entry(raw, name["key"].decode(), name["export"] is not None)


def _ends_in_backslash(raw: bytes) -> bool:
    body = raw.rstrip(b"\r\n")
    return (len(body) - len(body.rstrip(b"\\"))) % 2 == 1
