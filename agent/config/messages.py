"""The parts of the config's error messages: places, kinds, values that may be shown, alternatives.

A value that stands in a config by mistake may be a secret. So a value is quoted only when it is a short scalar
and no key above it looks like one for secrets; an AccessKey secret (30 characters) is always too long.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Iterable
from typing import NamedTuple

from agent.core.problem import Place
from agent.core.suspects import looks_secret
from agent.core.text import MAX_NAME, escaped

MAX_QUOTED = 20
"""The most characters of a value that an error quotes."""
KNOWN_NOWHERE = "unknown key; known here: "
"""How the sentence about a key begins that is like none of keyturn's, whose value could be anything."""


_INNER = r"(?P<key>[A-Za-z0-9_-]+)(?:\[(?P<number>[0-9]+)\])?(?:\.(?P<rest>.+))?"
_BARE_KEY = r"[A-Za-z0-9_-]+"


class Note(NamedTuple):
    """A problem and its place.

    Attributes:
        place: where it is.
        text: the sentence.
        of_key: whether it is about the key that stands there, not about its value.
        other: another place, which the sentence names.
    """

    place: Place
    text: str
    of_key: bool = False
    other: Place = ()


class Report:
    """The problems found so far, each once, in the order in which they were found."""

    def __init__(self) -> None:
        self._notes: dict[tuple[Place, str], Note] = {}

    def add(self, place: Place, sentence: str, *, of_key: bool = False, other: Place = ()) -> None:
        """Note one problem."""
        text = escaped(sentence)  # a settings class may quote what stands in the file, control characters and all
        self._notes.setdefault((place, text), Note(place, text, of_key, other))

    def knows(self, place: Place) -> bool:
        """Tell whether something was said about this place already."""
        return any(note.place == place for note in self._notes.values())

    @property
    def notes(self) -> list[Note]:
        """The problems."""
        return list(self._notes.values())

    def __bool__(self) -> bool:
        return bool(self._notes)


def inner_place(written: str) -> Place:
    """Return the place inside of a table that a settings class names: `mode`, `regions[0]`, `files[0].name`, `fields.x`."""
    match = re.fullmatch(_INNER, written)
    if match is None:
        return (written,) if written else ()
    number = (int(match["number"]),) if match["number"] else ()
    return (match["key"], *number, *((match["rest"],) if match["rest"] else ()))


def shown_place(place: Place) -> str:
    """Write a place as an operator reads it: `credentials.uploader.sinks[1].mode`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{shown_key(part)}" for part in place)
    return text.removeprefix(".")


def shown_key(key: str) -> str:
    """Write a key as it stands in TOML, cut and escaped: it must not garble a terminal; hidden where it looks like a secret."""
    if looks_secret(key):
        return "***"
    return key if re.fullmatch(_BARE_KEY, key) and len(key) <= MAX_NAME else shown_name(key)


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
    from agent.config.masking import is_for_secrets, masked  # once something is wrong: the daemon's memory is counted

    if is_for_secrets(place) or (isinstance(value, str) and "://" in value):
        return ""
    return _scalar(masked((), value) if isinstance(value, str) and len(value) <= MAX_QUOTED else value)


def _scalar(value: object) -> str:
    if isinstance(value, str):
        return quoted(value) if len(value) <= MAX_QUOTED else ""
    if isinstance(value, int | float) and abs(value) < 10**MAX_QUOTED:  # nan is not, and is called a number
        return str(value).lower()
    return ""


def either(words: Iterable[str]) -> str:
    """Join alternatives: `a`, `a or b`, `a, b or c`."""
    *head, last = words
    return f"{', '.join(head)} or {last}" if head else last


def one_of(names: Iterable[str]) -> str:
    """Return a clause with the names that are accepted."""
    known = sorted(names)
    return "want " + either(map(quoted, known)) if known else "there is none to choose from"
