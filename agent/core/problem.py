"""The one type for "something is wrong", found by a look or on the way to an error.

A look returns `Problem | None`; `Finding.of` makes a line of `check` of it, and `KeyturnError.of` an error. What a key
of the config says wrong is told by `problems()` of its settings, whose reader knows the place (agent/config/converter.py).
"""

from __future__ import annotations

from typing import NamedTuple

Place = tuple[str | int, ...]
"""A place in the config: ("credentials", "uploader", "sinks", 1, "mode")."""


class Problem(NamedTuple):
    """Something that is wrong.

    Attributes:
        text: one clause without a full stop, which names the file, the key or the credential.
        remedy: what the operator does about it; empty where nothing can be said.
    """

    text: str
    remedy: str = ""

    def at(self, place: str) -> Problem:
        """Return the same problem with a place, or what was being done, before its text."""
        return Problem(f"{place}: {self.text}", self.remedy)

    def __str__(self) -> str:
        return f"{self.text}; {self.remedy}" if self.remedy else self.text


class Mistake(NamedTuple):
    """A problem of a config file, with its position in there.

    Attributes:
        file: the config.
        line: where it is, counted from 1; 0 where it is nowhere in the text, such as that a table is missing.
        column: the character of that line, counted from 1; 0 likewise.
        place: the key path, such as `credentials.uploader.sinks[1].mode`; "" for the file as a whole.
        text: the sentence, with its remedy.
        excerpt: that line with a caret below, two lines without what may be a secret; "" where it is not shown.
    """

    file: str
    line: int
    column: int
    place: str
    text: str
    excerpt: str = ""

    def __str__(self) -> str:
        spot = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return ": ".join(filter(None, (spot, self.place, self.text)))
