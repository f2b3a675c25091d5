"""The log read once: proved and collected in the same pass, in memory that is bounded by credentials and keys."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from agent.audit.head import Remembered, read_head
from agent.audit.proof import NOBODY_ELSE, Onlooker, Verdict, Witnesses, verify, verify_against
from agent.evidence.fields import text_of, time_of
from agent.evidence.history import History
from agent.evidence.model import LogRange

MOST_ORIGINS = 100
"""Hosts, agent versions and configs that are named, each."""
MOST_CREDENTIALS = 100_000
"""More than any config has: a log that somebody forged does not fill the memory."""


class Collected:
    """What a log says, credential by credential. `see` takes every record, in the order of the log."""

    def __init__(self, since: datetime | None) -> None:
        self._since = since
        self.histories: dict[str, History] = {}
        self.origins: dict[str, dict[str, None]] = {"host": {}, "agent_version": {}, "config": {}}
        self.first: tuple[int, datetime | None] | None = None
        self.last: tuple[int, datetime | None, str] = (0, None, "")

    def see(self, record: Mapping[str, Any]) -> None:
        """Take note of a record."""
        at = time_of(record)
        self.first = self.first or (record["seq"], at)
        self.last = (record["seq"], at or self.last[1], record["hash"])
        for name, known in self.origins.items():
            if (found := text_of(record, name)) and len(known) < MOST_ORIGINS:
                known[found] = None
        name = text_of(record, "credential")
        if not name or at is None:
            return
        history = self.histories.get(name)
        if history is None:
            if len(self.histories) >= MOST_CREDENTIALS:
                return
            history = self.histories[name] = History(name, self._since)
        history.see(record, at)

    def range(self, verdict: Verdict, *, end_proved: bool) -> LogRange:
        """Return what the report rests on."""
        first_seq, first_at = self.first or (0, None)
        return LogRange(
            list(verdict.files),
            verdict.records,
            first_seq,
            self.last[0],
            first_at,
            self.last[1],
            self.last[2],
            verdict.whole,
            end_proved and verdict.whole,
            list(verdict.problems),
            list(verdict.notes),
        )


def collect(
    path: Path,
    head: Path | Remembered | None,
    since: datetime | None,
    *,
    first_seq: int = 1,
    witnesses: Witnesses = NOBODY_ELSE,
) -> tuple[Collected, LogRange]:
    """Read the log and its rotated files, while keyturn may be writing it.

    Args:
        path: the newest file of the log.
        head: the state's file about it; for a copy its newest record, as somebody knows it, or None: its end is not proved then.
        since: the beginning of the period that is reported; what is before is read all the same.
        first_seq: as for `audit verify`, and so are `witnesses`.
        witnesses: what an auditor has besides.

    Raises:
        NotPermittedError: a file may not be read by this user.
    """
    found = Collected(since)

    def begin() -> Onlooker:
        nonlocal found
        found = Collected(since)
        return found.see

    if isinstance(head, Path):
        verdict = verify_against(path, head, first_seq=first_seq, witnesses=witnesses, onlooker=begin)
        return found, found.range(verdict, end_proved=read_head(head) is not None)
    verdict = verify(path, head, first_seq=first_seq, witnesses=witnesses, is_copy=True, onlooker=found.see)
    return found, found.range(verdict, end_proved=head is not None)
