"""The result type of `keyturn check` and of every `inspect`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of `keyturn check`. `level` is "ok", "warning" or "error"; the latter two name a remedy where there is one."""

    level: str
    place: str
    text: str
    remedy: str = ""
