"""The problems of a config with their lines: in the order of the file, which is how it will be mended."""

from __future__ import annotations

from collections.abc import Sequence

from agent.config.excerpt import excerpt
from agent.config.messages import KNOWN_NOWHERE, Note, shown_place
from agent.config.positions import Positions, Span
from agent.core.problem import Mistake

SHOWN = 50
"""Problems whose line is shown; each costs a look over all parts of the file, and who reads more than so many?"""


def located(notes: Sequence[Note], file: str, text: str) -> list[Mistake]:
    """Return what is wrong with a text that is TOML, in its order; what stands nowhere in it comes last."""
    positions = Positions(text)
    marked = [(_mark(positions, note), note) for note in notes]
    unknown = frozenset(note.place for note in notes if note.text.startswith(KNOWN_NOWHERE))
    marked.sort(key=lambda each: len(positions.text) if each[0] is None else each[0].start)
    return [
        Mistake(
            file,
            *((0, 0) if mark is None else positions.line_and_column(mark.start)),
            shown_place(note.place),
            _with_line(positions, note),
            excerpt(positions, mark, unknown) if mark is not None and number < SHOWN else "",
        )
        for number, (mark, note) in enumerate(marked)
    ]


def _with_line(positions: Positions, note: Note) -> str:
    """Return a sentence that names another place with the line of that one, so that nobody has to count."""
    other = positions.find(note.other)
    if other is None or other.key is None or other.place != note.other:
        return note.text
    named = shown_place(note.other)
    line, _column = positions.line_and_column(other.key.start)
    return note.text.replace(named, f"{named} (line {line})", 1)


def _mark(positions: Positions, note: Note) -> Span | None:
    """Return what of the text a problem is about: a value, a key, or the table that lacks a key."""
    entry = positions.find(note.place)
    if entry is None:
        return None
    if note.of_key or entry.place != note.place:
        return entry.key or entry.value
    return entry.value or entry.key
