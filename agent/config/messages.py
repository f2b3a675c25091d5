"""The parts of the config's error messages: places, kinds, values that may be shown, alternatives.

A value that stands in a config by mistake may be a secret. So a value is quoted only when it is a short scalar
and no key above it looks like one for secrets; an AccessKey secret (30 characters) is always too long.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Iterable

from agent.core.text import MAX_NAME, escaped

Place = tuple[str | int, ...]
"""A place in the tree: ("credentials", "uploader", "sinks", 1, "mode")."""

MAX_QUOTED = 20
"""The most characters of a value that an error quotes."""


_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_FOR_SECRETS = re.compile(r"secret|passw|passphrase|token|private|credentials?$|(access|api)_?key|bearer", re.I)
_FOR_NAMES = re.compile(r"(path|file|variable|env|name|id|arn|endpoint|ur[il]|type|stage|period|timeout)$", re.I)


class Unfit(ValueError):
    """A value does not fit. The text is the sentence without the place."""


class Report:
    """The problems found so far, each once, in the order in which they were found."""

    def __init__(self) -> None:
        self._lines: dict[str, str] = {}  # each with its place

    def add(self, place: Place, sentence: str) -> None:
        """Note one problem."""
        self.add_at(shown_place(place), sentence)

    def add_at(self, where: str, sentence: str) -> None:
        """Note one problem at a place that is already written out."""
        # A settings class may quote what stands in the file, control characters and all.
        self._lines[escaped(f"{where}: {sentence}" if where else sentence)] = where

    def knows(self, place: Place) -> bool:
        """Tell whether something was said about this place already."""
        return shown_place(place) in self._lines.values()

    def lines(self, file: str) -> list[str]:
        """Return every problem with the file's name before it."""
        return [f"{file}: {line}" for line in self._lines]

    def __bool__(self) -> bool:
        return bool(self._lines)


def shown_place(place: Place) -> str:
    """Write a place as an operator reads it: `credentials.uploader.sinks[1].mode`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{shown_key(part)}" for part in place)
    return text.removeprefix(".")


def shown_key(key: str) -> str:
    """Write a key as it stands in TOML, cut and escaped so that it cannot garble a terminal."""
    return key if _BARE_KEY.fullmatch(key) and len(key) <= MAX_NAME else shown_name(key)


def shown_name(name: str) -> str:
    """Quote a name that is no secret, cut to a length that fits into a line."""
    return quoted(name if len(name) <= MAX_NAME else name[:MAX_NAME] + "…")


def quoted(text: str) -> str:
    """Put a text into double quotes, with everything that does not print escaped."""
    return json.dumps(text, ensure_ascii=not text.isprintable())


def kind(value: object) -> str:
    """Return the kind of a TOML value in plain words."""
    words = {
        str: "a string",
        bool: "true or false",
        int: "an integer",
        float: "a number",
        dict: "a table",
        list: "an array",
        datetime.datetime: "a date with a time",
        datetime.date: "a date",
        datetime.time: "a time",
    }
    return words[type(value)]


def got(value: object, place: Place) -> str:
    """Return what stands in the file, as far as it is safe to show: `got "0649"`, or else only its kind."""
    return f"got {shown_value(value, place) or kind(value)}"


def shown_value(value: object, place: Place) -> str:
    """Return a value as an error may repeat it, "" where it may be a secret: a URL may hold a password or a token."""
    is_url = isinstance(value, str) and "://" in value
    return "" if is_for_secrets(place) or is_url else _scalar(value)


def _scalar(value: object) -> str:
    if isinstance(value, str):
        return quoted(value) if len(value) <= MAX_QUOTED else ""
    if isinstance(value, int | float) and abs(value) < 10**MAX_QUOTED:  # nan is not, and is called a number
        return str(value).lower()
    return ""


def is_for_secrets(place: Place) -> bool:
    """Return whether a key of the place, other than the credential's name, looks as if a secret could stand there."""
    inner = place[2:] if place[:1] == ("credentials",) else place
    return any(isinstance(part, str) and _FOR_SECRETS.search(part) for part in inner)


def holds_secret(key: str) -> bool:
    """Return whether a key asks for a secret itself, rather than for the name of what holds it."""
    return bool(_FOR_SECRETS.search(key)) and not _FOR_NAMES.search(key)


def either(words: Iterable[str]) -> str:
    """Join alternatives: `a`, `a or b`, `a, b or c`."""
    *head, last = words
    return f"{', '.join(head)} or {last}" if head else last


def one_of(names: Iterable[str]) -> str:
    """Return a clause with the names that are accepted."""
    known = sorted(names)
    return "want " + either(map(quoted, known)) if known else "there is none to choose from"
