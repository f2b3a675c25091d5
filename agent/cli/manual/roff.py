"""Markdown to man(7), as far as our own documents use it: headings, paragraphs, lists, code blocks, tables.

A table becomes a list of terms, which reads well on 80 columns: the key, then type, default and meaning. Each
document may use what stands in `document`; anything else is shown as plain text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_ASIDE = ("type", "type of the key")
"""Columns that are told in brackets behind the term."""


def document(markdown: str) -> str:
    """Convert the text below the title; the caller writes .TH and NAME."""
    lines = iter(_blocks(markdown))
    return "\n".join(piece for block in lines for piece in _block(block)) + "\n"


def inline(text: str) -> str:
    """One paragraph's text, with `code`, **bold** and [links](target), as roff."""
    parts = re.split(r"(`[^`]+`)", _without_links(" ".join(text.split())))
    return "".join(_code(part[1:-1]) if part.startswith("`") and len(part) > 2 else _prose(part) for part in parts)


def escape(text: str) -> str:
    """Literal text: backslashes, dashes that a reader may copy, and what is not ASCII."""
    safe = (
        text.replace("\\", r"\e").replace("-", r"\-").replace("^", r"\(ha").replace("~", r"\(ti").replace("'", r"\(aq")
    )
    safe = safe.replace("`", r"\(ga")
    return "".join(each if ord(each) < 128 else rf"\[u{ord(each):04X}]" for each in safe)


def guarded(line: str) -> str:
    """A line of text that roff does not take for a request."""
    return rf"\&{line}" if line.startswith((".", "'")) else line


def _code(text: str) -> str:
    return rf"\fB{escape(text)}\fR"


def _prose(text: str) -> str:
    pieces = re.split(r"\*\*(.+?)\*\*", re.sub(r"\\([*_|\[\]])", "\\1", text))
    marked = (rf"\fB{escape(each)}\fR" if number % 2 else escape(each) for number, each in enumerate(pieces))
    return "".join(marked).replace(r"\-", "-")


def _without_links(text: str) -> str:
    """A link's text; in a man page its target leads nowhere."""
    return re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", text)


# -- blocks -----------------------------------------------------------------------------------------------------------
def _blocks(markdown: str) -> Iterator[list[str]]:
    """Runs of lines that belong together: a heading, a code block whole, else what blank lines separate."""
    block: list[str] = []
    fenced = False
    for line in markdown.splitlines():
        if line.startswith("```"):
            fenced = not fenced
            block.append(line)
        elif not fenced and (not line.strip() or line.startswith("#")):
            if block:
                yield block
            block = []
            if line.strip():
                yield [line]
        else:
            block.append(line)
    if block:
        yield block


def _block(lines: list[str]) -> Iterator[str]:
    first = lines[0]
    if first.startswith("# "):
        return
    if first.startswith("#"):
        yield (".SH " if first.startswith("## ") else ".SS ") + _heading(first)
    elif first.startswith("```"):
        yield from code([line for line in lines if not line.startswith("```")])
    elif first.startswith("|"):
        yield from _table(lines)
    elif re.match(r"[*-] ", first):
        yield from _bullets(lines)
    else:
        yield from (".PP", guarded(inline(" ".join(lines))))


def _heading(line: str) -> str:
    level, _space, text = line.partition(" ")
    plain = escape(text.replace("`", "")).replace(r"\-", "-")
    return f'"{plain.upper() if level == "##" and "[" not in text else plain}"'


def code(lines: list[str]) -> list[str]:
    """An indented block as it stands."""
    return [".PP", ".in +4n", ".EX", *(guarded(escape(line)) for line in lines), ".EE", ".in"]


def _bullets(lines: list[str]) -> Iterator[str]:
    items: list[str] = []
    for line in lines:
        if re.match(r"[*-] ", line):
            items.append(line[2:])
        else:
            items[-1] += " " + line.strip()
    for item in items:
        yield from (r".IP \(bu 3", guarded(inline(item)))


# -- tables -----------------------------------------------------------------------------------------------------------
def _table(lines: list[str]) -> Iterator[str]:
    titles, _rule, *rows = [_cells(line) for line in lines]
    term = titles.index("key") if "key" in titles else 0
    group = ""
    for row in rows:
        cells = dict(zip(titles, row, strict=False))
        if term and row[0] and row[0] != group:
            group = row[0]
            yield from (".PP", rf"{inline(titles[0])} {inline(group)}:")
        yield from (".TP", guarded(_term(row[term], cells if titles[0] == "key" or term else {}, grouped=bool(term))))
        yield guarded(_meaning(cells, titles[term]))


def _cells(line: str) -> list[str]:
    return [cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]


def _term(key: str, cells: dict[str, str], *, grouped: bool) -> str:
    asides = [
        cells[name]
        for name in _ASIDE
        if cells.get(name) and not (grouped and name == "type" and "type of the key" in cells)
    ]
    return inline(key) + (f" ({inline(asides[0])})" if asides else "")


def _meaning(cells: dict[str, str], term: str) -> str:
    """What stands in the columns that are neither the term nor beside it."""
    told = [text for name, text in cells.items() if text and name not in (*_ASIDE, term, "default")]
    default = cells.get("default", "")
    if default:
        told.append(default if default == "required" else f"default: {default}")
    return inline("; ".join(told)) or r"\&"
