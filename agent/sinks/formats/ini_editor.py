"""An editor for one section of an INI file as Python's configparser reads it; everything else stays byte for byte.

The rules of configparser that a line editor must know (CPython 3.11 `configparser.RawConfigParser._read`):
the first `=` or `:` ends a key; keys compare in lower case; a line indented deeper than the key above it, and
blank lines before such a line, continue that key's value, even if it looks like a header or a key; a key or a
section that occurs twice makes the whole file unreadable. All Alibaba SDKs for Python read with it.
"""

from __future__ import annotations

import configparser
import io
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from agent.sinks.formats.text import BOM, line_end, split_end, terminate

_HEADER = re.compile(rb"\s*\[(?P<name>.+)\]")
_OPTION = re.compile(rb"(?P<head>\s*(?P<key>.*?)\s*[=:][ \t]*)")
_COMMENT = (b"#", b";")
_FEED = b"\n"


class DuplicateSectionError(ValueError):
    """The section occurs twice, and readers refuse such a file."""


class ByteOrderMarkError(ValueError):
    """The file begins with a byte order mark. `args`: the problem and the remedy."""

    def __init__(self) -> None:
        super().__init__(
            "this file begins with a byte order mark, behind which readers do not know the first section",
            "save it as UTF-8 without one (`sed -i '1s/^\\xef\\xbb\\xbf//' FILE`)",
        )


def section_fault(name: str) -> str | None:
    """Return why this cannot be the name of a section; None when it can."""
    if not name or not name.isprintable() or name != name.strip() or set(name) & set("[]"):
        return "want the name of a section, without brackets or line breaks"
    if name == "DEFAULT":
        return 'the section [DEFAULT] holds defaults for all others; want another name such as "default"'
    return None


@dataclass(slots=True)
class _Option:
    """A key of our section: the lines `[start, end)` hold it with its continuations."""

    key: str
    head: bytes
    start: int
    end: int


@dataclass(slots=True)
class _Section:
    """A section: its name, the header's line, and its keys in order."""

    name: bytes
    header: int
    options: list[_Option] = field(default_factory=list)


def edit(content: bytes, section: str, values: Mapping[str, str], drop: frozenset[str] = frozenset()) -> bytes:
    """Return `content` with the given keys of one section set, and those in `drop` removed.

    An existing key keeps its place, spelling and spacing; a second occurrence of it is removed. A new key goes below
    the header, indented like the section's first key. A missing section is appended.

    Args:
        content: the file.
        section: its name, as in the header.
        values: key, in the spelling for a new one -> value that `is_plain` (text.py).
        drop: keys; like the others they are compared in lower case.

    Raises:
        DuplicateSectionError: the section occurs more than once.
        ByteOrderMarkError: the file begins with one.
    """
    if content.startswith(BOM):
        raise ByteOrderMarkError
    lines = content.splitlines(keepends=True)
    found = _find(lines, section.encode())
    if found is None:
        return _append(lines, section, values)
    end = line_end(lines)
    by_key = {key.lower(): value for key, value in values.items()}
    edits = _rewrite(found, by_key, frozenset(map(str.lower, drop)), lines)
    new = [_line(_indent(found), key, value, end) for key, value in values.items() if not _has(found, key.lower())]
    result: list[bytes] = []
    for index, line in enumerate(lines):
        result.extend(edits.get(index, [line]))
        if index == found.header and new:
            terminate(result, end)
            result.extend(new)
    return b"".join(result)


def _rewrite(
    found: _Section, values: Mapping[str, str], drop: frozenset[str], lines: list[bytes]
) -> dict[int, list[bytes]]:
    """Return line number -> the lines that replace it; lines of others are absent."""
    edits: dict[int, list[bytes]] = {}
    seen: set[str] = set()
    for option in found.options:
        if option.key not in values and option.key not in drop:
            continue
        edits.update((index, []) for index in range(option.start, option.end))
        if option.key in values and option.key not in seen:
            ending = split_end(lines[option.end - 1])[1]
            value = values[option.key].encode()
            edits[option.start] = [_head(option, value) + value + ending]
        seen.add(option.key)
    return edits


def _head(option: _Option, value: bytes) -> bytes:
    """Return the part before the value; its `:` becomes `=` where the value has one, at which ossutil would split the line."""
    name, colon, blank = option.head.rpartition(b":")
    return name + b"=" + blank if colon and b"=" in value and b"=" not in option.head else option.head


def sections(content: bytes) -> list[str]:
    """Return the name of every section, as the file spells it."""
    return [section.name.decode("utf-8", "replace") for section in _walk(content.splitlines(keepends=True))]


def values(content: bytes, section: str) -> dict[str, str]:
    """Return the keys of a section in lower case -> the first line of their value, as Alibaba's SDK for Python cuts it."""
    lines = content.splitlines(keepends=True)
    found = _find(lines, section.encode())
    held = {} if found is None else {option.key: lines[option.start][len(option.head) :] for option in found.options}
    return {key: value.partition(b"#")[0].strip().decode("utf-8", "replace") for key, value in held.items()}


def _find(lines: list[bytes], section: bytes) -> _Section | None:
    found = [one for one in _walk(lines) if one.name == section]
    if len(found) > 1:
        raise DuplicateSectionError(section.decode())
    return found[0] if found else None


def _walk(lines: list[bytes]) -> Iterator[_Section]:
    """Yield each section, walking the file the way configparser does."""
    section: _Section | None = None
    depth = 0
    current: _Option | None = None
    for index, line in enumerate(lines):
        text = line.strip()
        if not text or text.startswith(_COMMENT):
            continue
        indent = len(line) - len(line.lstrip())
        # Deeper than the key above it: part of that key's value, even if it looks like a header or a key.
        if current is not None and indent > depth:
            current.end = index + 1
            continue
        depth, current = indent, None
        if header := _HEADER.match(line):
            if section is not None:
                yield section
            section = _Section(header["name"], index)
            continue
        current = _option(line, index)
        if section is not None:
            section.options.append(current)
    if section is not None:
        yield section


def _option(line: bytes, index: int) -> _Option:
    match = _OPTION.match(line)
    if match is None:  # no key, but its indentation counts
        return _Option("", line, index, index + 1)
    return _Option(match["key"].decode("utf-8", "replace").lower(), match["head"], index, index + 1)


def _has(found: _Section, key: str) -> bool:
    return any(option.key == key for option in found.options)


def _indent(found: _Section) -> bytes:
    """Return the indentation of the section's first key: with less, that key would become a continuation of ours."""
    if not found.options:
        return b""
    head = found.options[0].head
    return head[: len(head) - len(head.lstrip())]


def _line(indent: bytes, key: str, value: str, end: bytes) -> bytes:
    return indent + f"{key} = {value}".encode() + end


def _append(lines: list[bytes], section: str, values: Mapping[str, str]) -> bytes:
    end = line_end(lines)
    result = list(lines)
    if result:
        terminate(result, end)
        if result[-1].strip():
            result.append(end)
    result.append(f"[{section}]".encode() + end)
    result.extend(_line(b"", key, value, end) for key, value in values.items())
    return b"".join(result)


def read_lines(content: bytes, section: str) -> dict[str, str]:
    """Return a section as key in lower case -> value, for readers that take each line by itself, the last one winning.

    Such are ossutil 1 (alyu/configparser) and the OSS SDK for Java (`IniEditor`), to which indentation means nothing.
    """
    found: dict[str, str] = {}
    inside = False
    for line in content.splitlines():
        if header := _HEADER.match(line):
            inside = header["name"].strip() == section.strip().encode()
        elif inside and not line.strip().startswith(_COMMENT) and (match := _OPTION.match(line)):
            value = line[match.end() :].strip()
            found[match["key"].decode("utf-8", "replace").lower()] = value.decode("utf-8", "replace")
    return found


class _Here(threading.local):
    """What one thread keeps: a parser, which takes as long to make as a small file takes to read."""

    def __init__(self) -> None:
        self.parser = configparser.ConfigParser()


_here = _Here()


def unreadable(content: bytes, *, with_interpolation: bool = False) -> str:
    """Return why configparser cannot read a file, "" where it can; names a line or a section and quotes no value.

    Args:
        content: the file.
        with_interpolation: the reader takes the value of every key of every section, as Alibaba's SDK for Python does
            (alibabacloud_credentials 1.0.12, `provider/profile.py`), so that a lone `%` anywhere is too much.
    """
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        return f"line {content.count(_FEED, 0, error.start) + 1} is not UTF-8"
    parser = _here.parser
    try:
        parser.read_file(io.StringIO(text, newline=None))
        for section in parser.sections() if with_interpolation and "%" in text else ():
            parser.items(section)
    except configparser.InterpolationError as error:
        return f"a value of [{error.section}] holds a `%` that configparser cannot resolve"
    except configparser.MissingSectionHeaderError as error:
        return f"line {error.lineno} stands above the first section"
    except configparser.ParsingError as error:
        return f"line {error.errors[0][0]} is neither a section nor a key with a value"
    except configparser.DuplicateSectionError as error:
        return f"line {error.lineno} begins a section for the second time"
    except configparser.DuplicateOptionError as error:
        return f"line {error.lineno} sets a key of its section for the second time"
    finally:
        parser.clear()
        for key in [*parser.defaults()]:  # to clear the section itself would interpolate each value first
            parser.remove_option(configparser.DEFAULTSECT, key)
    return ""
