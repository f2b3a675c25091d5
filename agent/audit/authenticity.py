"""What the HMACs of a log prove, seen by `audit verify` record by record (docs/adr/0023).

An HMAC covers `prev`, and so everything before its record: who has no key can alter nothing up to the last record that has one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from agent.audit.chain import authenticated
from agent.audit.hmac_key import HmacKey

MAX_MISFITS = 100


@dataclass(slots=True)
class Authenticity:
    """What was seen so far.

    Attributes:
        keys: those that may have been in use, one after the other; empty where the auditor has none.
    """

    keys: Sequence[HmacKey] = ()
    _signed: int = 0
    _fitting: int = 0
    _bare_before: list[int] = field(default_factory=list)
    """The first and the last record before the first that has an HMAC."""
    _misfits: list[str] = field(default_factory=list)
    _stops: list[str] = field(default_factory=list)
    _was_signed: bool = False

    def see(self, place: str, record: dict[str, Any]) -> None:
        """Judge one record; `place` is its file and line."""
        seq = record["seq"]
        if "hmac" not in record:
            if self._was_signed and len(self._stops) < MAX_MISFITS:
                self._stops.append(f"{place}: seq {seq}: has no HMAC, and the record before it has one")
            elif not self._signed:
                self._bare_before = [*self._bare_before[:1], seq]
            self._was_signed = False
            return
        self._signed += 1
        self._was_signed = True
        if not self.keys:
            return
        content = authenticated(record)
        if any(key.fits(content, record["hmac"]) for key in self.keys):
            self._fitting += 1
        elif len(self._misfits) < MAX_MISFITS:
            self._misfits.append(
                f"{place}: seq {seq}: its HMAC does not fit the key: it was forged, or made by another key"
            )

    def problems(self) -> list[str]:
        """Return what is wrong, as far as a key shows it."""
        if not self.keys:
            return []
        if not self._signed:
            return ["no record has an HMAC: keyturn has never run with a key here, or all were stripped"]
        if not self._fitting:
            return [
                f"none of the {self._signed} HMACs fits the key: it is not the key of this log, or all were forged; "
                "keys of earlier times are given by further --hmac-key-file"
            ]
        return [*self._misfits, *self._stops]

    def notes(self) -> list[str]:
        """Return what is no sign of forgery, and an auditor should know."""
        if not self._signed:
            return []
        if not self.keys:
            told = f"{self._signed} records have an HMAC, which was not checked: give the key by --hmac-key-file"
            return [told, *self._stops[:1]]
        notes = []
        if self._bare_before:
            first, last = self._bare_before[0], self._bare_before[-1]
            notes.append(
                f"seq {first} to {last} have no HMAC: they are older than the key; the first that has one shows that they "
                "were not altered since"
            )
        return notes
