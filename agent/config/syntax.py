"""What is said of a text that is no TOML: tomllib's word for it, where, and how the usual slips are mended."""

from __future__ import annotations

import re

from agent.config.excerpt import excerpt
from agent.config.masking import holds_secret
from agent.config.positions import Positions, Span
from agent.core.problem import Mistake
from agent.core.suspects import looks_secret
from agent.core.text import escaped

_SAID = re.compile(
    r"(?P<what>.*) \(at (?:line (?P<line>[0-9]+), column (?P<column>[0-9]+)|end of document)\)", re.DOTALL
)
_PAIR = re.compile(r"[ \t]*(?P<key>[A-Za-z0-9_-]+)[ \t]*=[ \t]*(?P<value>[^#\n]*?)[ \t]*(?:#.*)?")
_UNQUOTED = re.compile(r"[A-Za-z0-9/$~.][A-Za-z0-9_./:@{}$~+-]{0,60}")
_MEND = "mend that line"


def syntax_mistake(said: str, file: str, text: str) -> Mistake:
    """Return the one mistake of a text that tomllib does not take.

    Args:
        said: the text of its error.
        file: the name of the config.
        text: the text.
    """
    positions = Positions(text)
    match = _SAID.fullmatch(said)
    if match is None:  # such as the limit of int() on digits, which has no position
        return Mistake(file, 0, 0, "", f"not valid TOML: {_lowered(escaped(said))}; {_MEND}")
    at = positions.offset(int(match["line"]), int(match["column"])) if match["line"] else len(positions.text)
    what, mark, remedy = _explained(match["what"], Span(at, at + 1), positions)
    line, column = positions.line_and_column(mark.start)
    shown = excerpt(positions, mark)
    return Mistake(file, line, column, "", f"not valid TOML: {_lowered(escaped(what))}; {remedy}", shown)


def _lowered(text: str) -> str:
    return text[:1].lower() + text[1:120]


def _explained(what: str, mark: Span, positions: Positions) -> tuple[str, Span, str]:
    """Return what is wrong, where it is better looked for, and what to do."""
    line = positions.line(mark.start)
    written = positions.text[line.start : line.end]
    if positions.open_at is not None and mark.start >= positions.open_at:
        return _open_string(positions.text, positions.open_at)
    if what.startswith(("Cannot overwrite a value", "Cannot declare", "Duplicate inline table key")):
        return _twice(what, mark, positions)
    if what.startswith("Expected newline") and (slip := _leading_zero(written)):
        return "a number with a leading zero", mark, slip
    if what == "Invalid value":
        return what, mark, _quotes(written)
    if what.startswith("Invalid initial character for a key part") and written.count("{") > written.count("}"):
        return "an inline table that does not end in its line", mark, "write it in one line"
    said, remedy = next((known for beginning, known in _SLIPS.items() if what.startswith(beginning)), ("", _MEND))
    return said or what, mark, remedy


_LINES = 'a line is key = "value" or [table], or begins with "#"; a key with other characters stands in quotes'
_ESCAPE = ("a backslash that begins no escape", "write it twice, or put the value into single quotes: '...'")
_SLIPS = {
    "Expected '=' after a key": ("", 'write a key, "=" and a value: key = "value"'),
    "Unclosed array": ("", 'put a comma between two items, and a "]" behind the last'),
    "Unclosed inline table": ("", 'put a comma between two keys, and a "}" on the same line'),
    "Unescaped": _ESCAPE,
    "Invalid hex value": _ESCAPE,
    "Escaped character is not": _ESCAPE,
    "Expected ']": ("", "write [table], or [[table]] for one of several"),
    "Expected newline": ("something follows the value", "begin a new line for the next key; text stands in quotes"),
    "Invalid initial character for a key part": ("", _LINES),
    "Invalid statement": ("", _LINES),
}
"""How tomllib's sentences begin -> a better word for some, and what to do."""


def _open_string(text: str, begin: int) -> tuple[str, Span, str]:
    quote = text[begin]
    mark = quote * 3 if text.startswith(quote * 3, begin) else quote
    where = "" if len(mark) == 3 else " on the same line"
    return "a string that does not end", Span(begin, begin + len(mark)), f"put {mark} behind its last character{where}"


def _leading_zero(rest: str) -> str:
    match = _PAIR.fullmatch(rest)
    if match is None or not re.fullmatch(r"0[0-9]{1,5}", match["value"]):
        return ""
    if holds_secret(match["key"]):
        return f'write it in quotes: {match["key"]} = "..."'
    return f'write it in quotes: {match["key"]} = "{match["value"]}"'


def _quotes(rest: str) -> str:
    """Return how a value without quotes is written, with the value where that is no secret."""
    match = _PAIR.fullmatch(rest)
    if match is None or not match["value"]:
        return 'text stands in quotes: key = "value"'
    value = match["value"]
    if value.lower() in ("true", "false", "yes", "no", "on", "off"):
        return f"write {match['key']} = {'true' if value.lower() in ('true', 'yes', 'on') else 'false'}, or put text into quotes"
    if value in ("None", "null", "nil"):
        return "leave the line out, so that the default counts"
    may_be_shown = (
        _UNQUOTED.fullmatch(value) and not holds_secret(match["key"]) and not looks_secret(value) and "://" not in value
    )
    return f'text stands in quotes: {match["key"]} = "{value if may_be_shown else "..."}"'


def _twice(what: str, mark: Span, positions: Positions) -> tuple[str, Span, str]:
    """Return that a key or a table stands twice, at the second one, and where the first is."""
    here = positions.line(mark.start)
    is_table = positions.text[here.start : here.end].lstrip().startswith("[")
    seen: dict[object, int] = {}
    for entry in positions.entries:
        if entry.key is None or not entry.is_named:
            continue
        first = seen.setdefault(entry.place, entry.key.start)
        if first != entry.key.start and here.start <= entry.key.start <= here.end:
            line, _column = positions.line_and_column(first)
            remedy = f"move its keys to line {line}" if is_table else "keep one of the two"
            return f"this {'table' if is_table else 'key'} stands in line {line} already", entry.key, remedy
    # Such as a table by a header that has a value already: tomllib writes its name as a tuple of Python's.
    return re.sub(r"\(([^()]*?),?\)", lambda name: name[1].replace("', '", ".").replace("'", ""), what), mark, _MEND
