"""Helpers for the texts of messages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

MAX_NAME = 64
"""Characters of the longest key that an error repeats; also bounds the work of finding the nearest one."""


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return the known name that is most like `name`, None when none is at all like it."""
    import difflib  # needed only once something is wrong: the daemon's memory is counted

    found = difflib.get_close_matches(name[:MAX_NAME], list(known), n=1, cutoff=cutoff)
    return found[0] if found else None


def first_few(texts: Sequence[str], most: int = 5) -> list[str]:
    """Return the first texts, and how many more there are as the last one: "and 3 more"."""
    left = len(texts) - most
    return [*texts[:most], f"and {left} more"] if left > 0 else list(texts)


def escaped(text: str) -> str:
    """Write out as escapes what could forge a line or drive a terminal; nothing of the text is lost."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def blanked(text: str) -> str:
    """Put blanks in the place of what could forge a line or drive a terminal."""
    return "".join(each if each.isprintable() else " " for each in text)
