"""An editor for one section of an INI file as Python's configparser reads it; everything else stays byte for byte.

The rules of configparser that a line editor must know (CPython 3.11 `configparser.RawConfigParser._read`):
the first `=` or `:` ends a key; keys compare in lower case; a line indented deeper than the key above it, and
blank lines before such a line, continue that key's value, even if it looks like a header or a key; a key or a
section that occurs twice makes the whole file unreadable. All Alibaba SDKs for Python read with it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.sinks.formats.text import BOM, line_end, split_end, terminate

_HEADER = re.compile(rb"\s*\[(?P<name>.+)\]")
_OPTION = re.compile(rb"(?P<head>\s*(?P<key>.*?)\s*[=:][ \t]*)")
_COMMENT = (b"#", b";")
_UNSAFE = frozenset("#;%$\"'`\\")


class DuplicateSectionError(ValueError):
    """The section occurs twice, and readers refuse such a file."""


def is_plain(value: str) -> bool:
    """Return whether every reader of INI files takes a value as it is: without quotes, comments and interpolation."""
    return value.isascii() and value.isprintable() and " " not in value and not set(value) & _UNSAFE


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
    """Our section: the header's line, and its keys in order."""

    header: int
    options: list[_Option] = field(default_factory=list)


def edit(content: bytes, section: str, values: Mapping[str, str], drop: frozenset[str] = frozenset()) -> bytes:
    """Return `content` with the given keys of one section set, and those in `drop` removed.

    An existing key keeps its place, spelling and spacing; a second occurrence of it is removed. A new key goes below
    the header, indented like the section's first key. A missing section is appended.

    Args:
        content: the file.
        section: its name, as in the header.
        values: key, in the spelling for a new one -> value that `is_plain`.
        drop: keys; like the others they are compared in lower case.

    Raises:
        DuplicateSectionError: the section occurs more than once.
    """
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


def _find(lines: list[bytes], section: bytes) -> _Section | None:
    """Find our section by walking the file the way configparser does."""
    found: _Section | None = None
    inside, depth = False, 0
    current: _Option | None = None
    for index, raw in enumerate(lines):
        line = raw.removeprefix(BOM) if index == 0 else raw
        text = line.strip()
        if not text or text.startswith(_COMMENT):
            continue
        indent = len(line) - len(line.lstrip())
        # Deeper than the key above it: part of that key's value, even if it looks like a header or a key.
        if current is not None and indent > depth:
            current.end = index + 1
            continue
        depth, current = indent, None
        header = _HEADER.match(line)
        if header:
            inside = header["name"] == section
            if inside and found is not None:
                raise DuplicateSectionError(section.decode())
            found = _Section(index) if inside else found
            continue
        current = _option(line, index)
        if inside and found is not None:
            found.options.append(current)
    return found


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
    for line in content.removeprefix(BOM).splitlines():
        if header := _HEADER.match(line):
            inside = header["name"].strip() == section.encode()
        elif inside and not line.strip().startswith(_COMMENT) and (match := _OPTION.match(line)):
            value = line[match.end() :].strip()
            found[match["key"].decode("utf-8", "replace").lower()] = value.decode("utf-8", "replace")
    return found
