"""The result of telling a dependent, as the state keeps it and `status` shows it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Self


class NotifyResult(StrEnum):
    """The way in which telling a dependent ended."""

    TOLD = "told"
    TOLD_IN_VAIN = "told, but"
    """The news may have had no effect (agent/notifiers/known_readers.py)."""
    FAILED = "failed"
    GAVE_UP = "gave up"


_SEPARATOR = {
    NotifyResult.TOLD: "",
    NotifyResult.TOLD_IN_VAIN: " ",
    NotifyResult.FAILED: ": ",
    NotifyResult.GAVE_UP: ": ",
}


@dataclass(frozen=True, slots=True)
class NotifyOutcome:
    """One outcome; `text` says why, "" for a dependent that was told."""

    result: NotifyResult
    text: str = ""

    @classmethod
    def read(cls, written: str) -> Self:
        """Return the outcome that `str` wrote into a state file."""
        for result in (NotifyResult.TOLD_IN_VAIN, NotifyResult.GAVE_UP, NotifyResult.FAILED):
            head = f"{result}{_SEPARATOR[result]}"
            if written.startswith(head):
                return cls(result, written.removeprefix(head))
        return cls(NotifyResult.TOLD)

    @property
    def told(self) -> bool:
        """Whether the dependent was told, with effect or without."""
        return self.result in (NotifyResult.TOLD, NotifyResult.TOLD_IN_VAIN)

    @property
    def gave_up(self) -> bool:
        """Whether it is not tried again by itself."""
        return self.result is NotifyResult.GAVE_UP

    def __str__(self) -> str:
        return f"{self.result}{_SEPARATOR[self.result]}{self.text}"
