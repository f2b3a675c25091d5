"""The newest records of the audit log, for whoever goes on writing it: newest file first, and no more of it than is needed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from agent.audit.lines import parsed
from agent.audit.reader import brothers, legible
from agent.core.errors import KeyturnError
from agent.logs.log import log
from agent.system import files

END_BYTES = 2 * 1024 * 1024
"""Bytes that are read at each start: some five thousand records, in thirty milliseconds or so."""


def newest_first(path: Path) -> Iterator[Path]:
    """Yield the log and its rotated files, the one with the newest records first."""
    yield path
    numbered = [(first, file) for file in brothers(path) if (first := first_seq(file)) is not None]
    yield from (file for _first, file in sorted(numbered, reverse=True))


def records_behind(path: Path, after: int) -> Iterator[dict[str, Any]]:
    """Yield the records with a `seq` above `after`, newest file first; files that can hold none are not read through."""
    begins = first_seq(path)
    yield from legible(path, after, passed_over)
    if begins is not None and begins <= after + 1:
        return  # nothing in the rotated files is newer
    numbered = [(first, file) for file in brothers(path) if (first := first_seq(file)) is not None]
    for first, file in sorted(numbered, reverse=True):
        yield from legible(file, after, passed_over)
        if first <= after + 1:
            return


def records_at_end(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the records in the last `END_BYTES` of the newest file; none where it cannot be read."""
    try:
        with os.fdopen(files.open_regular(path), "rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - END_BYTES))
            ends = stream.read(END_BYTES).split(b"\n")
    except OSError:
        return
    yield from (record for line in ends if (record := parsed(line)) is not None)


def highest_generations(records: Iterable[dict[str, Any]]) -> dict[str, int]:
    """Return the highest generation of each credential."""
    found: dict[str, int] = {}
    for record in records:
        name, generation = record.get("credential"), record.get("generation")
        if isinstance(name, str) and isinstance(generation, int):
            found[name] = max(generation, found.get(name, 0))
    return found


def first_seq(file: Path) -> int | None:
    """Return the number of the first record of a file; None where there is none."""
    return next((int(record["seq"]) for record in legible(file, -1, passed_over)), None)


def passed_over(error: KeyturnError) -> None:
    """Log that a file cannot be read any further."""
    log.warning("a file of the audit log is passed over", error=str(error))
