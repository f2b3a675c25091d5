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
    what, at, remedy = _explained(match["what"], at, positions)
    line, column = positions.line_and_column(at)
    shown = excerpt(positions, Span(at, at + 1))
    return Mistake(file, line, column, "", f"not valid TOML: {_lowered(escaped(what))}; {remedy}", shown)


def _lowered(text: str) -> str:
    return text[:1].lower() + text[1:120]


def _explained(what: str, at: int, positions: Positions) -> tuple[str, int, str]:
    """Return what is wrong, where it is better looked for, and what to do."""
    text, line = positions.text, positions.line(at)
    rest = text[line.start : line.end]
    if what.startswith(("Unterminated string", "Illegal character '\\n'", 'Expected "\'"', "Expected '\"")) or (
        positions.open_at is not None and at >= positions.open_at
    ):
        return _open_string(what, at, positions)
    if what == "Expected newline or end of document after a statement" and (slip := _leading_zero(rest)):
        return "a number with a leading zero", at, slip
    if what == "Invalid value":
        return what, at, _quotes(rest)
    if what.startswith("Expected '=' after a key"):
        return what, at, 'write a key, "=" and a value: key = "value"'
    if what.startswith("Unclosed array"):
        return what, at, 'put a comma between two items, and a "]" behind the last'
    if what.startswith("Unclosed inline table"):
        return what, at, 'put a comma between two keys, and a "}" on the same line'
    if what.startswith("Unescaped '\\\\'"):
        return "a backslash that begins no escape", at, "write it twice, or put the value into single quotes: '...'"
    if what.startswith(("Cannot overwrite a value", "Cannot declare", "Duplicate inline table key")):
        return _twice(what, at, positions)
    if what.startswith("Expected ']"):
        return what, at, "write [table], or [[table]] for one of several"
    if what.startswith("Expected newline"):
        return "something follows the value", at, "begin a new line for the next key; text with blanks stands in quotes"
    if what.startswith(("Invalid initial character for a key part", "Invalid statement")):
        return (
            what,
            at,
            'a line is key = "value", [table], or begins with "#"; a key with other characters stands in quotes',
        )
    return what, at, _MEND


def _open_string(what: str, at: int, positions: Positions) -> tuple[str, int, str]:
    begin = positions.open_at
    if begin is None:
        return what, at, _MEND
    quote = positions.text[begin]
    mark = quote * 3 if positions.text.startswith(quote * 3, begin) else quote
    where = "" if len(mark) == 3 else " on the same line"
    return "a string that does not end", begin, f"put {mark} behind its last character{where}"


def _leading_zero(rest: str) -> str:
    match = _PAIR.fullmatch(rest)
    if match is None or not re.fullmatch(r"0[0-9]{1,5}", match["value"]):
        return ""
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


def _twice(what: str, at: int, positions: Positions) -> tuple[str, int, str]:
    """Return that a key or a table stands twice, at the second one, and where the first is."""
    here = positions.line(at)
    seen: dict[object, int] = {}
    for entry in positions.entries:
        if entry.key is None or not entry.is_named:
            continue
        first = seen.setdefault(entry.place, entry.key.start)
        if first != entry.key.start and here.start <= entry.key.start <= here.end:
            line, _column = positions.line_and_column(first)
            kind = "table" if positions.text[here.start : entry.key.start].lstrip().startswith("[") else "key"
            remedy = f"put what both hold into the one of line {line}" if kind == "table" else "keep one of the two"
            return f"this {kind} stands in line {line} already", entry.key.start, remedy
    return (
        what.replace("(", "").replace(",)", "").replace(")", "") if what.startswith("Cannot declare") else what,
        at,
        _MEND,
    )
