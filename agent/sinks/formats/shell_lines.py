"""A shell file cut into whole commands, so that a line of ours can be told from a part of somebody's command.

Only the grammar is followed (POSIX.1-2017 XCU 2.2 to 2.10, and what bash adds to it), nothing is expanded or run. An
entry is as many lines as its commands need: a quote, a here-document, an `if` or a `{` that is open, or an `&&` at a
line's end, goes on. Three things matter to an editor of assignments:

* An entry that does nothing but give one variable a value (`KEY=…`, `export KEY=…`, `KEY=…; export KEY`) can be replaced.
* An entry that says `export KEY OTHER` exports what it names, and stays.
* Any other entry with one of our names as a word (`export KEY=… OTHER=…`, `unset KEY`, an `if` around `KEY=…`) does more than
  can be kept if the name is taken out of it, so the editor refuses it.

What cannot be understood counts as open, and is refused too: a line of ours in the wrong place would be lost in silence.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_BLANK = re.compile(rb"(?:[ \t]|\\\n)*")
_COMMENT = re.compile(rb"#[^\n]*")
_OPERATOR = re.compile(rb"&&|\|\||;;&|;;|;&|<<<|<<-|<<|>>|[<>]&|<>|>\||&>|\|&|[&;|()<>]")
_PLAIN = re.compile(rb"[^ \t\n;&|<>()'\"\\$`]+")
_QUOTING = re.compile(rb"['\"\\]")
_NAME = rb"[A-Za-z_][A-Za-z0-9_]*"
_ASSIGNED = re.compile(rb"(" + _NAME + rb")=")
_NAMED = re.compile(rb"(" + _NAME + rb")(?:\+?=.*|\[.*)?", re.DOTALL)

_OPENING = {b"if", b"while", b"until", b"{", b"for", b"case", b"select"}
_CLOSING = {b"fi", b"done", b"esac", b"}"}
_BEFORE_A_COMMAND = {b"then", b"else", b"elif", b"do", b"if", b"while", b"until", b"{", b"!"}
_GOES_ON = {b"&&", b"||", b"|", b"|&"}
_LEAVING = {b"return", b"exit"}


class OpenError(ValueError):
    """Something is open at the end of the file, or not understood. `args[0]` is the byte at which its entry begins."""


@dataclass(frozen=True, slots=True)
class ShellEntry:
    """The commands of one or more whole lines.

    Attributes:
        key: the variable that it gives a value, if it does nothing else; else empty.
        exported: it exports that variable too.
        exports: the variables that it exports, if it does nothing else.
        names: every word that could be the name of a variable to which something else is done.
        leaves: nothing below it is read: it is a `return`, an `exit` or an `exec` of another program.
    """

    raw: bytes
    key: str = ""
    exported: bool = False
    exports: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()
    leaves: bool = False


@dataclass(slots=True)
class _Reading:
    """One entry while it is read."""

    start: int
    tokens: list[bytes] = field(default_factory=list)  # words and operators, as they stand
    open: list[bytes] = field(default_factory=list)
    documents: list[tuple[bytes, bool]] = field(default_factory=list)  # delimiter, whether tabs before it are skipped
    at_command: bool = True

    def goes_on(self) -> bool:
        return bool(self.open) or bool(self.tokens and self.tokens[-1] in _GOES_ON)

    def operator(self, text: bytes) -> None:
        self.tokens.append(text)
        if text == b"(":
            self.open.append(text)
        elif text == b")" and self.open and self.open[-1] == b"(":
            self.open.pop()
        elif text == b")" and b"case" not in self.open[-1:]:
            raise OpenError(self.start)
        if text[:1] not in b"<>" and text != b"&>":
            self.at_command = True

    def word(self, text: bytes) -> None:
        before, self.tokens = self.tokens[-1:], [*self.tokens, text]
        if before and before[0] in (b"<<", b"<<-"):
            self.documents.append((_QUOTING.sub(b"", text), before[0] == b"<<-"))
        elif self.at_command:
            if text in _OPENING:
                self.open.append(text)
            elif text in _CLOSING:
                if not self.open:
                    raise OpenError(self.start)
                self.open.pop()
            self.at_command = text in _BEFORE_A_COMMAND
        elif before == [b"function"]:
            self.at_command = True  # bash: its name, and then the body


def shell_entries(content: bytes) -> Iterator[ShellEntry]:
    """Cut a file into entries; joined again, their bytes are the file.

    Raises:
        OpenError: a quote, a here-document or a command is open at the end of the file.
    """
    at, reading = 0, _Reading(0)
    while at < len(content):
        at = _BLANK.match(content, at).end()  # type: ignore[union-attr]  # it matches nothing, too
        if at == len(content):
            break
        if content[at : at + 1] == b"\n":
            at = _past_documents(content, at + 1, reading)
            if not reading.goes_on():
                yield _entry(content[reading.start : at], reading)
                reading = _Reading(at)
            else:
                reading.at_command = True
        elif comment := _COMMENT.match(content, at):
            at = comment.end()
        elif operator := _OPERATOR.match(content, at):
            reading.operator(operator[0])
            at = operator.end()
        else:
            try:
                end = _past_word(content, at, reading.start)
            except RecursionError:
                raise OpenError(reading.start) from None
            reading.word(content[at:end])
            at = end
    if reading.goes_on() or reading.documents or content.endswith(b"\\\n"):
        raise OpenError(reading.start)
    if reading.start < len(content):
        yield _entry(content[reading.start :], reading)


def _past_documents(content: bytes, at: int, reading: _Reading) -> int:
    """Return where the here-documents end that begin at a line's end."""
    for delimiter, tabs in reading.documents:
        while True:
            if at >= len(content):
                raise OpenError(reading.start)
            end = content.find(b"\n", at) + 1 or len(content)
            line = content[at:end].removesuffix(b"\n")
            at = end
            if (line.lstrip(b"\t") if tabs else line) == delimiter:
                break
    reading.documents = []
    return at


def _past_word(content: bytes, at: int, start: int) -> int:
    begin = at
    while at < len(content) and content[at : at + 1] not in b" \t\n;&|<>()":
        at = _past_part(content, at, start)
    if at == begin:
        raise OpenError(start)
    return at


def _past_part(content: bytes, at: int, start: int) -> int:
    """Return where a run of plain characters, a quoted text or an expansion ends."""
    if plain := _PLAIN.match(content, at):
        return plain.end()
    two = content[at : at + 2]
    if two[:1] == b"'":
        return _past(content, b"'", at + 1, start)
    if two[:1] == b'"':
        return _past_nested(content, at + 1, b'"', start)
    if two[:1] == b"`":
        return _past_nested(content, at + 1, b"`", start)
    if two == b"$(":
        return _past_nested(content, at + 2, b")", start)
    if two == b"${":
        return _past_nested(content, at + 2, b"}", start)
    if two == b"$'":  # bash takes a backslash in it for an escape, sh does not
        end = _past(content, b"'", at + 2, start)
        if content[end - 2 : end] == b"\\'":
            raise OpenError(start)
        return end
    if two[:1] == b"\\":
        if len(two) < 2:
            raise OpenError(start)
        return at + 2
    return at + 1  # a lone `$`


def _past(content: bytes, end: bytes, at: int, start: int) -> int:
    found = content.find(end, at)
    if found < 0:
        raise OpenError(start)
    return found + len(end)


def _past_nested(content: bytes, at: int, end: bytes, start: int) -> int:
    """Return where a quoted text or an expansion ends that may hold others."""
    while at < len(content):
        one = content[at : at + 1]
        if one == end:
            return at + 1
        if one == b"(" and end == b")":
            at = _past_nested(content, at + 1, b")", start)
        elif one == b"\\":
            at += 2
        elif one in b"$`" or (one in b"'\"" and end != b'"'):
            at = _past_part(content, at, start)
        else:
            at += 1
    raise OpenError(start)


def _entry(raw: bytes, reading: _Reading) -> ShellEntry:
    commands = _commands(reading.tokens)
    if not commands:
        return ShellEntry(raw)
    first, others = commands[0], commands[1:]
    exported = first[0] == b"export"
    assigned = _ASSIGNED.match(first[-1]) if len(first) == 1 + exported else None
    if assigned and all(other == [b"export", assigned[1]] for other in others):
        return ShellEntry(raw, assigned[1].decode(), exported or bool(others))
    bare = (_QUOTING.sub(b"", word) for word in reading.tokens)
    named = frozenset(match[1].decode() for word in bare if (match := _NAMED.fullmatch(word)))
    if exported and not others and all(re.fullmatch(_NAME, word) for word in first[1:]):
        return ShellEntry(raw, exports=named)
    return ShellEntry(raw, names=named, leaves=not others and _leaves(first))


def _leaves(command: list[bytes]) -> bool:
    """Return whether a shell that reads this file reads no further."""
    if command[0] == b"exec":  # by itself, or before a redirection, it changes the shell's own files
        return len(command) > 1 and not command[1].isdigit() and not _OPERATOR.match(command[1])
    return command[0] in _LEAVING and not _GOES_ON.intersection(command)


def _commands(tokens: list[bytes]) -> list[list[bytes]]:
    """Return the words of each command, where nothing but `;` stands between them; an operator is a command's word too."""
    commands: list[list[bytes]] = [[]]
    for token in tokens:
        if token == b";":
            commands.append([])
        else:
            commands[-1].append(token)
    return [command for command in commands if command]
