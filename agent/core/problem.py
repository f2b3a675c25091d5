"""The one type for "something is wrong", found by a look or on the way to an error.

A look returns `Problem | None`; `Finding.of` makes a line of `check` of it, and `KeyturnError.of` an error. What a key
of the config says wrong is told by `problems()` of its settings, whose reader knows the place (agent/config/converter.py).
"""

from __future__ import annotations

from typing import NamedTuple


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
