"""Secret values as a type, so that printing one takes a deliberate act.

A `Secret` shows `[secret]` in repr, str, format and f-strings, and refuses json, pickle and copy-to-dict.
`.reveal()` is called in a handful of files, and a test counts them. This prevents printing, not the
reading of this process's memory: nothing in Python can.
"""

from __future__ import annotations

import hmac
from typing import NoReturn

SHOWN = "[secret]"


class Secret:
    """A string that does not print itself."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        if not isinstance(value, str):
            raise TypeError("a Secret holds a str")
        self._value = value

    def reveal(self) -> str:
        """Return the value. Only for a signature, a rendered sink, or a request to the source."""
        return self._value

    def __repr__(self) -> str:
        return SHOWN

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return SHOWN

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return id(type(self))  # equal secrets hash alike, and the hash says nothing of the value

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Secret cannot be pickled or copied")
