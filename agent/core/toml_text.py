"""Values written as TOML, each in one line."""

from __future__ import annotations

import datetime
from typing import Any


def toml(value: Any) -> str:
    """Return a value as TOML in one line."""
    if isinstance(value, dict):
        return (
            "{ " + ", ".join(f"{toml_key(key)} = {toml(part)}" for key, part in value.items()) + " }" if value else "{}"
        )
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    return str(value).lower() if isinstance(value, bool) else str(value)


def toml_key(key: str) -> str:
    """Return a part of a key: bare where TOML lets it be, else quoted."""
    return key if key and all(each.isascii() and (each.isalnum() or each in "-_") for each in key) else _string(key)


def _string(text: str) -> str:
    """Return a basic string. JSON's would not do: it writes DEL as it is, and letters beyond the BMP as two surrogates."""
    escapes = {'"': '\\"', "\\": "\\\\"}
    return (
        '"'
        + "".join(escapes.get(each) or (each if each.isprintable() else f"\\U{ord(each):08x}") for each in text)
        + '"'
    )
