"""What was probably meant, ready to be typed: the second half of many a sentence about the config.

Imported once something is wrong. Each function returns a clause that begins with "; ", or "" where nothing can be said for sure.
A value is only repeated where `messages.shown_value` repeats it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from agent.config.keys_of_types import KEYS
from agent.config.messages import either, quoted, shown_place, shown_value
from agent.core.problem import Place
from agent.core.scalars import Duration, FileMode, FilePath
from agent.core.spans import whole_span

_AMOUNT = re.compile(r"(?P<number>[0-9]{1,6})(?P<part>\.[0-9]{1,3})?\s*(?P<unit>[a-z]*)\.?", re.I)
_UNITS = {
    "ms": ("ms", "msec", "millis", "millisecond", "milliseconds"),
    "s": ("", "s", "sec", "secs", "second", "seconds"),
    "m": ("m", "min", "mins", "minute", "minutes"),
    "h": ("h", "hr", "hrs", "hour", "hours"),
    "d": ("d", "day", "days"),
    "w": ("w", "week", "weeks"),
}
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")
_ADDRESSES = frozenset({"listen", "metrics_listen"})


def wrong_scalar(raw: Any, annotation: Any, place: Place) -> str:
    """Return how a scalar is written that another type is wanted for, such as `; write "60s"`."""
    if annotation is Duration:
        meant = _duration(raw)
        return _write(meant) if meant != quoted(str(raw)) else ""
    if annotation is FileMode:
        return _write(_mode(raw))
    shown = shown_value(raw, place)
    if annotation is FilePath or not shown:
        return ""
    if annotation is bool:
        word = str(raw).lower()
        return _write("true" if word in _TRUE else "false" if word in _FALSE else "")
    if annotation in (int, float) and isinstance(raw, str):
        return f"; write {raw}, without quotes" if re.fullmatch(r"-?[0-9]{1,9}", raw) else ""
    if annotation is str and isinstance(raw, bool | int | float):
        is_port = place[-1] in _ADDRESSES and isinstance(raw, int) and 0 < raw < 65536
        return _write(quoted(f"127.0.0.1:{raw}" if is_port else shown))
    return ""


def _write(written: str) -> str:
    return f"; write {written}" if written else ""


def _duration(raw: Any) -> str:
    if isinstance(raw, bool) or not isinstance(raw, int | float | str):
        return ""
    match = _AMOUNT.fullmatch(str(raw).strip())
    unit = next((unit for unit, names in _UNITS.items() if match and match["unit"].lower() in names), None)
    if match is None or unit is None or (match["part"] and unit == "ms"):
        return ""
    if not match["part"]:
        return quoted(f"{int(match['number']) * 7}d" if unit == "w" else f"{int(match['number'])}{unit}")
    return quoted(whole_span(float(match["number"] + match["part"]) * _SECONDS[unit]))


def _mode(raw: Any) -> str:
    if isinstance(raw, str) and re.fullmatch(r"[r-][w-][x-]([r-][w-][x-]){2}", raw):
        bits = sum((each != "-") << (8 - number) for number, each in enumerate(raw))
        return quoted(f"{bits:04o}")
    if isinstance(raw, bool) or not isinstance(raw, int):
        return ""
    # 640 was meant as it is written; 0o640 is 416 by the time that it is seen here.
    meant = [int(str(raw), 8)] if re.fullmatch(r"[0-7]{3}", str(raw)) else []
    fitting = [mode for mode in (*meant, raw) if 0 < mode <= 0o777 and not mode & 0o007 and mode & 0o400]
    return quoted(f"{fitting[0]:04o}") if fitting else ""


def not_absolute(text: str, place: Place) -> str:
    """Return how a path is written out."""
    if text.startswith("~"):
        return '; "~" is not replaced, so write the directory out, such as "/home/NAME/..."'
    shown = shown_value(text, place)
    if not shown or not re.fullmatch(r"[\w./-]+", text) or ".." in text:
        return ', which begins with "/"'
    below_root = text.split("/")[0] in ("etc", "home", "opt", "root", "run", "srv", "tmp", "usr", "var")
    return f"; write {quoted('/' + text if below_root else '/etc/keyturn/' + text.removeprefix('./'))}"


def no_array(raw: Any, place: Place, *, of_tables: bool) -> str:
    """Return how a value stands in an array."""
    if isinstance(raw, dict):
        return f"; write [[{_keys(place)}]]" if of_tables else ""
    shown = shown_value(raw, place)
    if of_tables:
        return _family_table(raw, (*place, 0), shown)
    if isinstance(raw, str) and shown and place[-1] == "command":
        try:
            return f"; write [{', '.join(map(quoted, shlex.split(raw)))}]"
        except ValueError:
            return ""
    return f"; write [{shown or '...'}]"


def no_table(raw: Any, place: Place, types: Sequence[str], required: Sequence[str]) -> str:
    """Return how a table is written.

    Args:
        raw: what stands in its place.
        place: where.
        types: the types that such a table may name, where it names one.
        required: the keys that it must have besides.
    """
    if isinstance(raw, list) and all(isinstance(each, dict) for each in raw):
        return f"; write [{_keys(place)}]"
    shown = shown_value(raw, place)
    if types:
        return _family_table(raw if raw in types else None, place, shown)
    if isinstance(raw, str) and shown and len(required) == 1:
        return f"; write {{ {required[0]} = {shown} }}"
    return ""


def _keys(place: Place) -> str:
    """Return a place as a header names it: without the numbers of items, since a header means the last one."""
    return shown_place(tuple(part for part in place if isinstance(part, str)))


def _family_table(raw: Any, place: Place, shown: str) -> str:
    header = f"[{_keys(place)}]" if isinstance(place[-1], str) else f"[[{_keys(place)}]]"
    named = f" and below it type = {shown}" if isinstance(raw, str) and shown else ""
    return f"; write {header}{named}"


def missing(key: str, annotation: Any, place: Place, *, is_table: bool) -> str:
    """Return how a key that is missing is written."""
    if is_table:
        return f"; add a table [{_keys((*place, key))}]"
    example = {Duration: '"30s"', FileMode: '"0600"', FilePath: '"/..."', bool: "true", int: "1"}.get(
        annotation, '"..."'
    )
    text = str(annotation)
    return f"; add {key} = {'[...]' if text.startswith(('tuple', 'list')) else example}"


def elsewhere(homes: Sequence[Place], place: Place) -> str:
    """Return the tables, besides the one at `place`, that a key belongs into."""
    if not homes:
        return ""
    brackets = "[[{}]]" if homes[0] and isinstance(homes[0][-1], int) else "[{}]"
    header = brackets.format(_keys(homes[0])) if homes[0] else "the beginning of the file, before the first [table]"
    above = homes[0] == place[: len(homes[0])] and homes[0]
    order = ", above the tables inside of it" if above else ""
    return f"it belongs into {header}{order}"


def of_other_type(own: str, owners: Sequence[str]) -> str:
    """Return which types have a key that this one has not."""
    return f"it belongs to type {either(map(quoted, owners))}, and this is {quoted(own)}" if owners else ""


def account(kind: str, name: str) -> str:
    """Return the command that makes a user or a group."""
    command = {"user": "useradd --system", "group": "groupadd --system"}[kind]
    return f" (`{command} {name}`)" if re.fullmatch(r"[a-z_][a-z0-9_-]{0,30}", name) else ""


def credential_name(name: str) -> str:
    """Return the nearest name that a credential may have."""
    meant = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._")[:64]
    return f", such as {meant}" if meant and meant.isascii() else ""


def owners(word: str, types: Sequence[str] | Mapping[str, Any], key: str) -> list[str]:
    """Return which of the types of a family, such as "sink", have a key."""
    return [name for name in KEYS.get(word, {}).get(key, ()) if name in types]
