"""A `Page` as Markdown (CommonMark with GitHub's tables): to be read raw in a ticket, or rendered.

Nothing that stands in a text can change the document: control characters and line ends are written out; a text with any
character that Markdown could take for its own is put into a code span, where it is shown as it is and nobody is mentioned, or,
where a table's pipe would end the span, escaped. What is to be copied stands in a fenced block, behind a fence that it cannot end.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from agent.core.text import escaped
from agent.evidence.page import Block, Cell, Commands, Facts, Notice, Page, Paragraph, Pill, Section, Table

_HARMLESS = re.compile(r"(?!.*www\.)(?:[^\W_]|(?<=\w)_(?=\w)|[ .,;()'\"/+=%…?-]|:(?= |$|\d\d))*")
"""Letters, digits and what has no meaning within a line: an underscore only between letters, a colon not as in an address, and
no "www.", which GitHub takes for a link."""
_MEANS = re.compile(r"[\\`*_{}\[\]<>()#+!|~$&@]")


def markdown(page: Page) -> Iterator[str]:
    """Yield the document, a piece for each block."""
    yield f"# {_text(page.title)}\n\n{_text(page.subtitle)}\n"
    yield from _blocks(page.blocks, 2)
    yield "\n---\n"
    for line in page.footer:
        yield f"\n{_text(line)}\n"


def _blocks(blocks: Iterable[Block], level: int) -> Iterator[str]:
    for block in blocks:
        match block:
            case Section():
                yield f"\n{'#' * level} {_text(block.title)}\n"
                yield from _blocks(block.blocks, min(level + 1, 6))
            case Notice():
                yield f"\n**{_text(block.text)}**\n"
                if block.details:
                    yield "\n" + "".join(f"* {_text(detail)}\n" for detail in block.details)
            case Paragraph():
                yield f"\n{_text(block.text)}\n"
            case Facts():
                yield "\n" + "".join(f"* {_text(name)}: {_value(cell)}\n" for name, cell in block.pairs)
            case Table():
                yield "\n" + "".join(_table(block))
            case Commands():
                yield "\n" + _fenced(block.text)
            case _:
                raise TypeError(f"no Markdown for {type(block).__name__}")


def _table(table: Table) -> Iterator[str]:
    yield _row([_text(name) for name in table.head])
    yield _row(["---"] * len(table.head))
    for row in table.rows:
        yield _row([_value(cell, in_table=True) for cell in row])
    if table.caption:
        yield f"\n{_text(table.caption)}\n"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |\n"


def _value(cell: Cell, *, in_table: bool = False) -> str:
    items = (cell,) if isinstance(cell, str | Pill) else cell
    return "; ".join(_item(item, in_table=in_table) for item in items)


def _item(item: str | Pill, *, in_table: bool) -> str:
    if isinstance(item, Pill):
        return f"**{_text(item.text)}**" if item.mood in ("bad", "so-so") else _text(item.text)
    shown = escaped(item).strip()
    if _HARMLESS.fullmatch(shown):
        return shown
    return _text(shown) if in_table and "|" in shown else _code(shown)


def _text(text: str) -> str:
    """Return a text in which nothing is taken for Markdown."""
    shown = escaped(text).strip()
    return _MEANS.sub(lambda found: found[0] if _is_inside_word(shown, found) else f"\\{found[0]}", shown)


def _is_inside_word(text: str, found: re.Match[str]) -> bool:
    """Return whether it is a letter of a name rather than emphasis, or brackets of prose, which no link follows."""
    if found[0] in "()+":
        return True
    around = text[max(0, found.start() - 1) : found.start()] + text[found.end() : found.end() + 1]
    return found[0] == "_" and len(around) == 2 and around.isalnum()


def _code(text: str) -> str:
    """Return a code span that its content cannot end."""
    fence = "`" * (1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def _fenced(text: str) -> str:
    """Return a fenced block that its content cannot end."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
    lines = "\n".join(map(escaped, text.split("\n")))
    return f"{fence}\n{lines}\n{fence}\n"
