"""Env files cut into entries the way their readers do, so that a `KEY=` inside a quoted value is left alone.

| dialect | an entry goes on over a line end | source |
| --- | --- | --- |
| systemd | in quotes that open a value or follow a closed quote; after a backslash | `src/basic/env-file.c` v254 |
| shell | wherever a command goes on | `shell_lines.py` |
| dotenv | in quotes that open the value and are closed | python-dotenv 1.2 `parser.py` |
| docker | never | docker CLI `pkg/kvfile/kvfile.go` |

In every dialect the last assignment of a name wins, and an unquoted value of `[A-Za-z0-9+/=._:-]` means itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from agent.sinks.formats.shell_lines import OpenError, ShellEntry, shell_entries
from agent.sinks.formats.text import BOM

Dialect = Literal["systemd", "docker", "shell", "dotenv"]

_LINE = rb"[^\r\n]*"
_EOF = rb"(?<!\\\n)(?<!\\\r)\Z"  # after an escaped line end the entry goes on: into what is appended
_END = rb"(?:\r\n|\n|\r|" + _EOF + rb")"
_FEED = rb"(?:\n|" + _EOF + rb")"
_DOUBLE = rb'"(?:[^"\\]|\\.)*"'
_PLAIN = rb"(?:[^\\\r\n]|\\.)*"


_HEAD = rb"[^=\r\n]*"


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
    "dotenv": _grammar(
        comment=rb"#" + _LINE,
        head=_HEAD,
        value=rb"(?:[ \t]*(?:'(?:\\'|[^'])*'|\"(?:\\\"|[^\"])*\")" + _LINE + rb"|" + _LINE + rb")",
        other=_HEAD,
        end=_END,
    ),
    "docker": _grammar(rb"#[^\n]*", rb"[^=\n]*", rb"[^\n]*", rb"[^=\n]*", _FEED),
}
_DOCKER_LINE = 64 * 1024  # bufio.Scanner's
_NAME = re.compile(rb"[ \t]*(?P<export>export[ \t]+)?(?P<key>[A-Za-z_][A-Za-z0-9_]*)[ \t]*")


class UnclosedError(ValueError):
    """A quote or a command is never closed, so the rest of the file has no meaning. `args[0]` is its line number, from 1."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One assignment, comment or other line, with all its bytes.

    Attributes:
        key: the name that it assigns, empty for anything else.
        exported: True for `export KEY=…`.
        swallows: True for a comment that ends in a backslash: systemd before 254 takes the next line for a part of it.
        exports: the names that it exports and does nothing else to; a shell's.
        touches: the names to which it may do something besides; a shell's.
        leaves: a shell reads nothing below it.
        is_comment: True for a comment; a shell's are not told apart.
    """

    raw: bytes
    key: str = ""
    exported: bool = False
    swallows: bool = False
    exports: frozenset[str] = frozenset()
    touches: frozenset[str] = frozenset()
    leaves: bool = False
    is_comment: bool = False


def entries(content: bytes, dialect: Dialect) -> Iterator[Entry]:
    """Cut an env file into entries; joined again, their bytes are the file.

    Raises:
        UnclosedError: a quote, a backslash or a shell's command is open at the end of the file.
    """
    if dialect == "shell":
        yield from _of_shell(content)
        return
    grammar, position = _GRAMMARS[dialect], 0
    while position < len(content):
        match = grammar.match(content, position)
        if match is None or match.end() == position:
            raise UnclosedError(content.count(b"\n", 0, position) + 1)
        yield _entry(match, dialect)
        position = match.end()


def _of_shell(content: bytes) -> Iterator[Entry]:
    try:
        for entry in shell_entries(content):
            yield _from_shell(entry)
    except OpenError as error:
        raise UnclosedError(content.count(b"\n", 0, error.args[0]) + 1) from None


def _from_shell(entry: ShellEntry) -> Entry:
    return Entry(entry.raw, entry.key, entry.exported, exports=entry.exports, touches=entry.names, leaves=entry.leaves)


def _entry(match: re.Match[bytes], dialect: Dialect) -> Entry:
    raw = match[0]
    if match["comment"] is not None:
        return Entry(raw, swallows=dialect == "systemd" and _ends_in_backslash(raw), is_comment=True)
    head = match["head"]
    if head is None and dialect == "docker":
        head = raw.rstrip(b"\r\n")  # a bare KEY: docker copies it from its own environment
    name = None if head is None else _NAME.fullmatch(head)
    return Entry(raw) if name is None else Entry(raw, name["key"].decode(), name["export"] is not None)


def _ends_in_backslash(raw: bytes) -> bool:
    body = raw.rstrip(b"\r\n")
    return (len(body) - len(body.rstrip(b"\\"))) % 2 == 1


def unreadable(content: bytes, dialect: Dialect) -> tuple[int, str] | None:
    """Return the first line for which a reader refuses the whole file, and why; None where it reads it.

    Measured: systemd 252 (`src/basic/env-file.c`), docker's command line 28.2 (`pkg/kvfile`), python-dotenv 1.2. A shell
    takes whatever it is given.
    """
    if dialect == "systemd":
        return _unreadable_by_systemd(content)
    if dialect == "shell":
        return None
    for number, line in enumerate(content.split(b"\n"), 1):
        if not _is_utf8(line):
            return number, "is not UTF-8"
        if dialect == "docker" and (why := _unreadable_by_docker(line.removeprefix(BOM if number == 1 else b""))):
            return number, why
    return None


def _unreadable_by_systemd(content: bytes) -> tuple[int, str] | None:
    line = 1
    for entry in entries(content, "systemd"):
        if b"\0" in entry.raw:
            return line, "holds a zero byte"
        if b"=" in entry.raw and not entry.is_comment and not _is_utf8(entry.raw):
            return line, "is not UTF-8"
        line += entry.raw.count(b"\n")
    return None


def _unreadable_by_docker(line: bytes) -> str:
    text = line.decode().lstrip()
    if len(line) >= _DOCKER_LINE:
        return f"has more than {_DOCKER_LINE} bytes"
    if not text or text.startswith("#"):
        return ""
    name = text.partition("=")[0]
    if not name:
        return "names no variable"
    return "has a blank in the name of a variable" if any(char.isspace() for char in name) else ""


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True
