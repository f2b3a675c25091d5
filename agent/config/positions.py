"""Where the keys and values of a config stand in its text.

`tomllib` tells a position only of a text that is no TOML, and no maintained reader for Python tells the positions of one that
is (docs/adr/0025). So this is a look over the text beside `tomllib`, which alone decides what is TOML and what it means: a
test compares the two on texts that hypothesis makes. It is made only once there is a problem to be shown.

Offsets count characters of the text without its byte order mark, with a line's end as one.
"""

from __future__ import annotations

import re
import tomllib
from typing import NamedTuple

from agent.core.problem import Place

_BLANK = re.compile(r"[ \t]*")
_BLANK_LINES = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_PLAIN = re.compile(r"[^\n,\]}#]+")
_STRINGS = (
    ('"""', re.compile(r'"""(?:[^"\\]++|\\.|"{1,2}(?!"))*+"{3,5}', re.DOTALL)),
    ("'''", re.compile(r"'''(?:[^']++|'{1,2}(?!'))*+'{3,5}")),
    ('"', re.compile(r'"(?:[^"\\\n]++|\\[^\n])*+"')),
    ("'", re.compile(r"'[^'\n]*+'")),
)


class Span(NamedTuple):
    """A stretch of the text, from `start` to before `end`."""

    start: int
    end: int


class Entry(NamedTuple):
    """One part of the tree.

    Attributes:
        place: where in the tree.
        key: its key, in a header the part of it that names this table; None for an item of an array.
        value: its value; None for a table with a header of its own, or one that other keys only pass through.
        is_named: whether it is named for its own sake: not passed through by a header or a dotted key.
        is_leaf: whether the value has no parts of its own.
    """

    place: Place
    key: Span | None
    value: Span | None
    is_named: bool = True
    is_leaf: bool = True


class _LostError(Exception):
    """The text goes on in a way that is no TOML."""


class Positions:
    """The parts of a text in their order, as far as the text is TOML.

    Attributes:
        text: the text.
        entries: what was found; what the text ends or breaks off in goes on to the end of the text.
        lost_at: where a text that is no TOML could not be followed any more; None where all of it was.
        open_at: where a string begins that does not end; None where there is none.
    """

    def __init__(self, text: str) -> None:
        """Look over a text, with or without a byte order mark."""
        self.text = text.removeprefix("\ufeff").replace("\r\n", "\n")
        self.entries: list[Entry] = []
        self.lost_at: int | None = None
        self.open_at: int | None = None
        self._at = 0
        self._items: dict[Place, int] = {}  # of each array of tables, how many there are so far
        try:
            self._document()
        except (_LostError, RecursionError):
            self.lost_at = self._at
        self._found: dict[Place, Entry] = {}
        for entry in self.entries:
            known = self._found.get(entry.place)
            if known is None or (entry.is_named and not known.is_named):
                self._found[entry.place] = entry

    def find(self, place: Place) -> Entry | None:
        """Return what stands at a place; where nothing does, the nearest thing that it would stand in; None for the file."""
        for length in range(len(place), 0, -1):
            if (entry := self._found.get(place[:length])) is not None:
                return entry
        return None

    def find_written(self, place: str) -> Entry | None:
        """Return what `find` returns, for a place as findings write it: `credentials.uploader.sinks[1].mode`."""
        written = {
            "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in key)[1:]: key
            for key in self._found
        }
        while place:
            if place in written:
                return self._found[written[place]]
            place = place[: max(place.rfind("."), place.rfind("["), 0)]
        return None

    def line_and_column(self, offset: int) -> tuple[int, int]:
        """Return both as people and editors count them, from 1; columns are characters."""
        start = self.text.rfind("\n", 0, offset) + 1
        return self.text.count("\n", 0, offset) + 1, offset - start + 1

    def offset(self, line: int, column: int) -> int:
        """Return the offset of a line and column, at most the end of the text."""
        start = 0
        for _ in range(line - 1):
            start = self.text.find("\n", start) + 1
        return min(start + column - 1, len(self.text))

    def line(self, offset: int) -> Span:
        """Return the whole line around an offset, without its end."""
        end = self.text.find("\n", offset)
        return Span(self.text.rfind("\n", 0, offset) + 1, len(self.text) if end < 0 else end)

    # -- the grammar --------------------------------------------------------------------------------

    def _document(self) -> None:
        table: Place = ()
        self._skip(_BLANK_LINES)
        while self._at < len(self.text):
            if self.text[self._at] == "[":
                table = self._header()
            else:
                self._pair(table)
            self._skip(_BLANK)
            if self._at < len(self.text) and self.text[self._at] not in "\n#":
                raise _LostError
            self._skip(_BLANK_LINES)

    def _header(self) -> Place:
        is_item = self.text.startswith("[[", self._at)
        self._at += 2 if is_item else 1
        self._skip(_BLANK)
        *through, (name, span) = self._key()
        place = self._through((), through)
        place = (*place, name)
        if is_item:
            number = self._items[place] = self._items.get(place, -1) + 1
            self.entries.append(Entry(place, span, None))
            place = (*place, number)
        self.entries.append(Entry(place, span, None))
        self._skip(_BLANK)
        self._expect("]]" if is_item else "]")
        return place

    def _through(self, place: Place, parts: list[tuple[str, Span]]) -> Place:
        """Note the tables that a header or a dotted key passes through, of an array the last one."""
        for name, span in parts:
            place = (*place, name)
            self.entries.append(Entry(place, span, None, is_named=False))
            if place in self._items:
                place = (*place, self._items[place])
        return place

    def _pair(self, table: Place) -> None:
        *through, (name, span) = self._key()
        place = (*self._through(table, through), name)
        self._skip(_BLANK)
        self._expect("=")
        self._skip(_BLANK)
        self._value(place, span)

    def _key(self) -> list[tuple[str, Span]]:
        parts = [self._key_part()]
        while True:
            self._skip(_BLANK)
            if not self.text.startswith(".", self._at):
                return parts
            self._at += 1
            self._skip(_BLANK)
            parts.append(self._key_part())

    def _key_part(self) -> tuple[str, Span]:
        start = self._at
        if self.text[start : start + 1] in ("'", '"') and not self.text.startswith(("'''", '"""'), start):
            self._string()
            written = self.text[start : self._at]
            try:
                name = str(tomllib.loads(f"x = {written}")["x"])
            except ValueError:
                name = written
            return name, Span(start, self._at)
        match = _BARE_KEY.match(self.text, start)
        if match is None:
            raise _LostError
        self._at = match.end()
        return match[0], Span(start, self._at)

    def _value(self, place: Place, key: Span | None) -> None:
        start, number = self._at, len(self.entries)
        first = self.text[start : start + 1]
        is_leaf = first not in ("[", "{")
        self.entries.append(Entry(place, key, Span(start, len(self.text)), is_leaf=is_leaf))
        if first == "[":
            self._array(place)
        elif first == "{":
            self._inline_table(place)
        elif first in ("'", '"'):
            self._string()
        else:
            match = _PLAIN.match(self.text, start)
            if match is None:
                self.entries[number] = Entry(place, key, Span(start, start))
                raise _LostError
            self._at = start + len(match[0].rstrip(" \t"))
        self.entries[number] = Entry(place, key, Span(start, self._at), is_leaf=is_leaf)

    def _array(self, place: Place) -> None:
        self._at += 1
        number = 0
        while True:
            self._skip(_BLANK_LINES)
            if self.text.startswith("]", self._at):
                break
            self._value((*place, number), None)
            number += 1
            self._skip(_BLANK_LINES)
            if not self.text.startswith(",", self._at):
                break
            self._at += 1
        self._expect("]")

    def _inline_table(self, place: Place) -> None:
        self._at += 1
        while True:  # lines and a last comma as in TOML 1.1: whether they are allowed is for tomllib to say
            self._skip(_BLANK_LINES)
            if self.text.startswith("}", self._at):
                break
            self._pair(place)
            self._skip(_BLANK_LINES)
            if not self.text.startswith(",", self._at):
                break
            self._at += 1
        self._expect("}")

    def _string(self) -> None:
        for opening, whole in _STRINGS:
            if self.text.startswith(opening, self._at):
                match = whole.match(self.text, self._at)
                if match is None:
                    self.open_at = self._at
                    raise _LostError
                self._at = match.end()
                return

    def _skip(self, what: re.Pattern[str]) -> None:
        match = what.match(self.text, self._at)
        self._at = match.end() if match else self._at

    def _expect(self, what: str) -> None:
        if not self.text.startswith(what, self._at):
            raise _LostError
        self._at += len(what)
