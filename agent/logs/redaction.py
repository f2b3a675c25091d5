"""The secrets in use, and how to hide them in a line of text.

Each secret's spellings are found by their first characters, so that a line costs as much as it is long, and a new value
as much as its own spellings, however many credentials there are: going through all of them for each fetch and each line
took half the time of a thousand refreshes at once.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable

from agent.core.secret import SHOWN

MASKED_FROM = 8
"""The length of the shortest secret that is masked: a shorter one would make holes into harmless words."""


class Redactor:
    """The set of texts that no line may show. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._in_use: dict[str, tuple[frozenset[str], frozenset[str]]] = {}
        self._users: dict[str, int] = {}  # each spelling, and how many values have it
        # First characters -> the spellings that begin so. Read without the lock, so that no line waits for another
        # one, or for a value that is put: a tuple is replaced as a whole.
        self._found_by: dict[str, tuple[str, ...]] = {}

    def put(self, values: Iterable[str], of: str) -> None:
        """Hide these values and the ones that `of` used just before them, and forget all older ones of `of`."""
        now = frozenset(value for value in values if len(value) >= MASKED_FROM)
        with self._lock:
            newest, older = self._in_use.get(of, (frozenset(), frozenset()))
            if now == newest:
                return
            self._in_use[of] = (now, newest)
            self._count(now, 1)
            self._count(older, -1)

    def _count(self, values: frozenset[str], change: int) -> None:
        for form in (form for value in values for form in spellings(value)):
            begins, users = form[:MASKED_FROM], self._users.get(form, 0) + change
            known = self._found_by.get(begins, ())
            if users == 0:
                del self._users[form]
                left = tuple(one for one in known if one != form)
                if left:
                    self._found_by[begins] = left
                else:
                    del self._found_by[begins]
                continue
            self._users[form] = users
            if form not in known:
                self._found_by[begins] = (*known, form)

    def hide(self, line: str) -> str:
        """Return the line with a mark in the place of each secret; two that overlap become one mark."""
        beginnings = [line[at : at + MASKED_FROM] for at in range(len(line) - MASKED_FROM + 1)]
        if self._found_by.keys().isdisjoint(beginnings):  # nearly always, and in a third of the time
            return line
        ends = [
            (at, at + len(form))
            for at, begins in enumerate(beginnings)
            for form in self._found_by.get(begins, ())
            if line.startswith(form, at)
        ]
        return _without(line, ends) if ends else line


def _without(line: str, spans: list[tuple[int, int]]) -> str:
    """Put one mark for each run of spans, which are in the order of their beginnings."""
    kept: list[str] = []
    at = 0
    for begin, end in spans:
        if begin >= at:
            kept += [line[at:begin], SHOWN]
        at = max(at, end)
    return "".join([*kept, line[at:]])


def spellings(value: str) -> frozenset[str]:
    """Return the forms in which the renderers write a value, alone or within a list or another object."""
    texts = (value, repr(value)[1:-1])
    return frozenset(
        form for text in texts for form in (text, text.encode("unicode_escape").decode(), escaped(text), _json(text))
    )


def escaped(text: str) -> str:
    """Return the text with control characters, line ends and quotes escaped."""
    return text.encode("unicode_escape").decode().replace('"', '\\"')


def _json(text: str) -> str:
    return json.dumps(text)[1:-1]


_masks = Redactor()


def mask(values: Iterable[str], *, of: str = "") -> None:
    """Mask these secrets in every line from now on.

    Args:
        values: all secrets that `of` uses now. Those before them stay masked until the next change, because the old
            value may be valid for days, and a hook that runs now may have read it.
        of: the owner of the values, such as a credential's name; each has its own.
    """
    _masks.put(values, of)


def redacted(text: str) -> str:
    """Return the text without the secrets in use."""
    return _masks.hide(text)
