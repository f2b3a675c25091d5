"""The reader of the audit log and its rotated files. What cannot be read is passed over; the proof is in `proof`."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from agent.audit.lines import lines, parsed
from agent.core.errors import AuditError, NotPermittedError
from agent.logs.log import log
from agent.system import files

END_BYTES = 2 * 1024 * 1024
"""Bytes that are read at each start: some five thousand records, in thirty milliseconds or so."""


def rotated_files(path: Path) -> list[Path]:
    """Return the log and its rotated files, the one with the oldest record first; damaged ones come before all others.

    Raises:
        NotPermittedError: one of them may not be read by this user.
    """
    numbered = []
    for file in [path, *brothers(path)]:
        try:
            first = next(lines(file), None)
        except AuditError:
            numbered.append((0, file))
            continue
        if first is not None:
            numbered.append((_seq_of(first.record), file))
    return [file for _seq, file in sorted(numbered, key=lambda pair: (pair[0], pair[1].name))]


def brothers(path: Path) -> list[Path]:
    """Return the rotated files of a log, in no order; links and whatever is no file are none."""
    name = glob.escape(path.name)
    found = [*path.parent.glob(f"{name}.*"), *path.parent.glob(f"{name}-*")]
    return [file for file in found if file.is_file() and not file.is_symlink()]


def newest_first(path: Path) -> Iterator[Path]:
    """Yield the log and its rotated files, the one with the newest records first."""
    yield path
    numbered = [(first, file) for file in brothers(path) if (first := first_seq(file)) is not None]
    yield from (file for _first, file in sorted(numbered, reverse=True))


def records_behind(path: Path, after: int) -> Iterator[dict[str, Any]]:
    """Yield the records with a `seq` above `after`, newest file first; files that can hold none are not read through."""
    begins = first_seq(path)
    yield from legible(path, after)
    if begins is not None and begins <= after + 1:
        return  # nothing in the rotated files is newer
    numbered = [(first, file) for file in brothers(path) if (first := first_seq(file)) is not None]
    for first, file in sorted(numbered, reverse=True):
        yield from legible(file, after)
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
    return next((int(record["seq"]) for record in legible(file, -1)), None)


def legible(file: Path, after: int) -> Iterator[dict[str, Any]]:
    """Yield the records above `after` up to where the file cannot be read any further."""
    try:
        for line in lines(file):
            if line.record is not None and line.record["seq"] > after:
                yield line.record
    except (AuditError, NotPermittedError) as error:
        log.warning("a file of the audit log is passed over", error=str(error))


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Yield every record of the log and its rotated files, oldest first; what cannot be read is passed over.

    Raises:
        NotPermittedError: a file may not be read by this user.
    """
    for file in rotated_files(path):
        yield from legible(file, -1)


def _seq_of(record: dict[str, Any] | None) -> int:
    return int(record["seq"]) if record else 0
