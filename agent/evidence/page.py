"""One HTML file that stands alone: for a report or an incident, to be mailed, archived, printed.

No script, no address, no font or image from elsewhere; a policy in the page forbids a browser all of these, whatever stands in
the text. Light and dark by the reader's setting. Everything that is shown passes Jinja2's autoescape, and what could turn
letters around or hide some (U+202E and its like) is written out.

A document is a `Page` of blocks; `render` turns it into HTML, block by block, so that these may come from a generator:

    page = Page("Rotation report", "web-1, 2026-07-01 to 2026-09-30", [
        Notice("bad", "The log did not verify", ["audit.jsonl:17: seq 17: the record was edited"]),
        Section("uploader", [Facts([("Owner", "team oss"), ("Compliant", Pill("no", "bad"))])]),
    ])
    file.writelines(render(page))

Moods are those of the terminal (`agent.system.terminal.COLOURS`): good, bad, so-so, dim; "" is none.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from jinja2 import Environment, StrictUndefined, Template

from agent.core.text import escaped
from agent.evidence.page_source import STYLE, TEMPLATE


@dataclass(frozen=True, slots=True)
class Pill:
    """A word that is judged: it stands out in its mood's colour, and has a sign besides for who sees no colour."""

    text: str
    mood: str


Cell: TypeAlias = "str | Pill | Sequence[str | Pill]"
"""What stands in a field: a text, a pill, or several of them below each other."""


@dataclass(frozen=True, slots=True)
class Notice:
    """A box that is seen first, in a mood, with a line for each detail."""

    mood: str
    text: str
    details: Sequence[str] = ()
    kind: str = field(default="notice", init=False)


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Plain text."""

    text: str
    kind: str = field(default="paragraph", init=False)


@dataclass(frozen=True, slots=True)
class Facts:
    """Names and what they stand for, side by side."""

    pairs: Sequence[tuple[str, Cell]]
    kind: str = field(default="facts", init=False)


@dataclass(frozen=True, slots=True)
class Table:
    """A table; on a narrow screen each row folds into a block of its own, with the column's name before each cell."""

    head: Sequence[str]
    rows: Iterable[Sequence[Cell]]
    caption: str = ""
    kind: str = field(default="table", init=False)


@dataclass(frozen=True, slots=True)
class Step:
    """One line of a course of events: when, what, and how it came out."""

    at: str
    text: str
    detail: str = ""
    mood: str = ""


@dataclass(frozen=True, slots=True)
class Steps:
    """A course of events, the first at the top."""

    steps: Iterable[Step]
    kind: str = field(default="steps", init=False)


@dataclass(frozen=True, slots=True)
class Commands:
    """Lines to be copied into a shell or a console, as they are."""

    text: str
    kind: str = field(default="commands", init=False)


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of a timeline. `begin` and `end` are in percent of its width."""

    begin: float
    end: float
    text: str
    mood: str = ""


@dataclass(frozen=True, slots=True)
class Mark:
    """A point of a timeline, `at` in percent; `shape` is one of SHAPES."""

    at: float
    shape: str
    text: str
    mood: str = ""


SHAPES = ("dot", "diamond", "square", "cross")


@dataclass(frozen=True, slots=True)
class Timeline:
    """Spans and marks over time, drawn; the text of each is shown where the pointer rests.

    Attributes:
        text: what is drawn, in a sentence, for who cannot see it.
        ticks: (percent, label) pairs below it.
    """

    text: str
    spans: Sequence[Span]
    marks: Sequence[Mark]
    ticks: Sequence[tuple[float, str]]
    kind: str = field(default="timeline", init=False)


@dataclass(frozen=True, slots=True)
class Legend:
    """What the shapes and colours of the timelines mean: (shape or "span", mood, text)."""

    entries: Sequence[tuple[str, str, str]]
    kind: str = field(default="legend", init=False)


@dataclass(frozen=True, slots=True)
class Section:
    """A heading with blocks below it; it is printed without a break where that is possible.

    Attributes:
        remark: a word or two beside the heading.
    """

    title: str
    blocks: Iterable[Block]
    remark: Pill | None = None
    kind: str = field(default="section", init=False)


Block: TypeAlias = Notice | Paragraph | Facts | Table | Steps | Commands | Timeline | Legend | Section


@dataclass(frozen=True, slots=True)
class Page:
    """A whole document. `footer` has a line for each text."""

    title: str
    subtitle: str
    blocks: Iterable[Block]
    footer: Sequence[str] = ()


def render(page: Page) -> Iterator[str]:
    """Yield the document's HTML, a piece for each block of the page."""
    return _template().generate(page=page)


@functools.cache
def _template() -> Template:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, finalize=_shown, trim_blocks=True, lstrip_blocks=True
    )
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    environment.globals.update(style=STYLE, style_hash=digest)
    environment.filters["cells"] = _cells
    return environment.from_string(TEMPLATE)


def _shown(value: object) -> object:
    """Write out what is not printable; what the template itself made (Markup) is left alone."""
    return escaped(value) if type(value) is str else value


def _cells(cell: Cell) -> Sequence[str | Pill]:
    return (cell,) if isinstance(cell, str | Pill) else cell
