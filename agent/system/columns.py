"""Text in the columns of a terminal, where a Chinese letter takes two and an accent none."""

from __future__ import annotations

from collections.abc import Iterator

MARK = "…"


def columns(text: str) -> int:
    """Return how many columns a printable text takes."""
    return len(text) if text.isascii() else sum(map(_columns, text))


def padded(text: str, width: int) -> str:
    """Return a text with blanks behind it, so that it takes `width` columns."""
    return text + " " * (width - columns(text))


def cut(text: str, width: int) -> str:
    """Return a text that takes `width` columns at most; what was cut off is marked."""
    if columns(text) <= width:
        return text
    kept, _rest = _parted(text, width - columns(MARK))
    return kept + MARK


def wrapped(text: str, width: int | None, indent: str = "", first: str | None = None) -> list[str]:
    """Return a text in lines of `width` columns at most; one line for None.

    A line ends at a blank, or between two wide letters. A word that is longer than a line, a path for example, stays in one
    piece where it is of narrow letters, so that it can be copied.

    Args:
        text: printable.
        width: of the lines.
        indent: begins each line.
        first: begins the first line instead.
    """
    line = indent if first is None else first
    if width is None:
        return [line + text]
    lines, begun = [], False
    for piece, is_spaced in _pieces(text):
        blank = " " if is_spaced and begun else ""
        if begun and columns(line) + len(blank) + columns(piece) > width:
            lines.append(line)
            line, blank = indent, ""
        line += blank + piece
        begun = True
    return [*lines, line]


def _pieces(text: str) -> Iterator[tuple[str, bool]]:
    """Yield what no line's end may part, and whether a blank stands before it."""
    for word in text.split():
        run, is_spaced = "", True
        for letter in [word] if word.isascii() else word:
            if run and _may_part(run[-1], letter):
                yield run, is_spaced
                run, is_spaced = "", False
            run += letter
        yield run, is_spaced


def _may_part(before: str, letter: str) -> bool:
    """Return whether a line may end between two letters of a word: beside a wide one, but not before a comma or an accent."""
    import unicodedata

    is_wide = 2 in (_columns(before), _columns(letter))
    return is_wide and _columns(letter) > 0 and unicodedata.category(letter) not in ("Pe", "Pf", "Po")


def _parted(text: str, width: int) -> tuple[str, str]:
    left = width
    for position, letter in enumerate(text):
        left -= _columns(letter)
        if left < 0:
            return text[:position], text[position:]
    return text, ""


def _columns(letter: str) -> int:
    if letter.isascii():
        return 1
    import unicodedata  # a library of its own, which most texts do not need

    if unicodedata.combining(letter):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1
