"""The line of a config that a problem is about, with a caret below; no secret is in it, and nothing that drives a terminal."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import NamedTuple

from agent.config.keys_of_types import KEYS
from agent.config.masking import HIDDEN, secret_stretches
from agent.config.positions import Entry, Positions, Span
from agent.core.problem import Place
from agent.core.suspects import suspects
from agent.core.text import escaped
from agent.system.columns import columns

COLUMNS = 68
"""Of a line that is shown: with its number it fits into 80."""
_BEFORE = 24
"""Columns of a longer line that are shown before what the caret points to."""
_TAB = "    "
_CUT = "…"
_ASSIGNED = re.compile(
    r"([A-Za-z0-9_-]*(?:secret|passw|passphrase|token|private|key|bearer|credential)[A-Za-z0-9_-]*)[\"']?\s*=\s*", re.I
)

_NO_PAIR = re.compile(r"[ \t]*([^\s\[:=]+)[ \t]*[:=]?[ \t]*")
"""The first word of a line that is no `key = value`, and what stands between it and the next."""


class _Cell(NamedTuple):
    """What is shown for some characters of the line: from `start` to before `end`, `width` columns wide."""

    start: int
    end: int
    shown: str
    width: int


def excerpt(positions: Positions, mark: Span, unknown: Collection[Place] = ()) -> str:
    """Return the line in which `mark` begins, with its number, and below it carets; "" where it cannot be shown for sure.

    Args:
        positions: of the text.
        mark: what the carets point to.
        unknown: the places of keys that nobody knows: nothing of their values is shown, since they may be secrets.
    """
    line = positions.line(mark.start)
    hidden = _hidden(positions, line, unknown)
    if hidden is None:
        return ""
    cells = list(_cells(positions.text, line, hidden))
    first = next((number for number, cell in enumerate(cells) if cell.end > mark.start), len(cells))
    last = next((number for number, cell in enumerate(cells) if cell.start >= mark.end), len(cells))
    cells, first, last = _cut(cells, first, max(last, first))
    number = str(positions.line_and_column(mark.start)[0])
    before, below = (sum(cell.width for cell in part) for part in (cells[:first], cells[first:last]))
    text = "".join(cell.shown for cell in cells).rstrip()
    return f"  {number} | {text}\n  {' ' * len(number)} | {' ' * before}{'^' * max(1, below)}"


def _cut(cells: list[_Cell], first: int, last: int) -> tuple[list[_Cell], int, int]:
    """Cut a line to what fits, around the marked cells."""
    if sum(cell.width for cell in cells) <= COLUMNS:
        return cells, first, last
    begin, room = first, _BEFORE
    while begin > 0 and cells[begin - 1].width <= room:
        begin -= 1
        room -= cells[begin].width
    end, room = begin, COLUMNS - 2
    while end < len(cells) and cells[end].width <= room:
        room -= cells[end].width
        end += 1
    shown = cells[begin:end]
    if begin:
        shown.insert(0, _Cell(cells[begin].start, cells[begin].start, _CUT, 1))
    if end < len(cells):
        shown.append(_Cell(cells[end].start, cells[end].start, _CUT, 1))
    shift = begin - (1 if begin else 0)
    return shown, first - shift, min(last, end) - shift


def _cells(text: str, line: Span, hidden: list[Span]) -> Iterator[_Cell]:
    at = line.start
    while at < line.end:
        mask = max((span.end for span in hidden if span.start <= at < span.end), default=None)
        if mask is not None:
            end = min(mask, line.end)
            yield _Cell(at, end, HIDDEN, len(HIDDEN))
            at = end
            continue
        shown = _TAB if text[at] == "\t" else escaped(text[at])
        yield _Cell(at, at + 1, shown, columns(shown))
        at += 1


def _hidden(positions: Positions, line: Span, unknown: Collection[Place]) -> list[Span] | None:
    """Return what of a line may be a secret; None where the look over the text did not come as far as this line."""
    lost = positions.lost_at
    if lost is not None and line.start > lost:
        return None
    found: list[Span] = []
    for entry in positions.entries:
        is_unknown = any(entry.place[: len(place)] == place for place in unknown)
        found += _of_value(positions.text, entry, line, is_unknown=is_unknown)
    for key in (entry.key for entry in positions.entries if entry.key is not None):
        if line.start <= key.start <= line.end:
            found += [
                Span(key.start + start, key.start + end) for start, end in suspects(positions.text[key.start : key.end])
            ]
    if lost is not None and line.start <= lost <= line.end:
        found += _unread(positions, line, lost, follows_secret=bool(found))
    found += _comment(positions, line)
    return _joined(found)


def _of_value(text: str, entry: Entry, line: Span, *, is_unknown: bool) -> Iterator[Span]:
    value = entry.value
    if value is None or not entry.is_leaf or value.end <= line.start or value.start > line.end:
        return
    written = text[value.start : value.end]
    quotes = next((len(mark) for mark in ('"""', "'''", '"', "'") if written.startswith(mark)), 0)
    inner = written[quotes : len(written) - quotes if len(written) >= 2 * quotes and quotes else None]
    shift = value.start + quotes
    if is_unknown and (quotes or len(inner) > len("false")):
        yield Span(shift, shift + len(inner))
    for start, end in secret_stretches(entry.place, inner, _before(text, entry)):
        yield Span(shift + start, shift + end)


def _before(text: str, entry: Entry) -> str:
    """Return the item before this one of an array, as far as it can be an option of a command."""
    if entry.key is not None or entry.value is None:
        return ""
    match = re.search(r"[\"']([^\"',\s]*)[\"']\s*,\s*$", text[max(0, entry.value.start - 200) : entry.value.start])
    return match[1] if match else ""


def _unread(positions: Positions, line: Span, lost: int, *, follows_secret: bool) -> Iterator[Span]:
    """Yield what may be a secret in a line whose rest is no TOML: what follows a key for one, and what looks like one."""
    text = positions.text
    rest = text[lost : line.end]
    if (match := _ASSIGNED.search(rest)) is not None:
        yield Span(lost + match.end(), line.end)
    if follows_secret:  # such as what stands behind a quote inside of a password
        yield Span(lost, line.end)
    has_entry = any(entry.key is not None and line.start <= entry.key.start < line.end for entry in positions.entries)
    if not has_entry and (word := _NO_PAIR.match(text, line.start, line.end)) is not None:
        is_alone = not text[word.end() : line.end].strip()
        yield Span(word.start(1) if is_alone and not _is_known(word[1]) else word.end(), line.end)
    for start, end in secret_stretches((), rest):
        yield Span(lost + start, lost + end)


def _is_known(key: str) -> bool:
    return any(key in keys for keys in KEYS.values())


def _comment(positions: Positions, line: Span) -> Iterator[Span]:
    """Yield the text of the comment that ends a line: nobody needs it there, and an old secret may stand in it."""
    behind = line.start
    for entry in positions.entries:
        for span in (entry.key, entry.value if entry.is_leaf else None):
            if span is not None and span.start < line.end and span.end > line.start:
                behind = max(behind, span.end)
    found = positions.text.find("#", behind, line.end)
    if found >= 0:
        yield Span(found + 1, line.end)


def _joined(spans: list[Span]) -> list[Span]:
    """Return spans that do not overlap: where two do, they are one."""
    joined: list[Span] = []
    for span in sorted(span for span in spans if span.start < span.end):
        if joined and span.start <= joined[-1].end:
            joined[-1] = Span(joined[-1].start, max(joined[-1].end, span.end))
        else:
            joined.append(span)
    return joined
