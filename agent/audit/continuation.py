"""Where a log is continued: behind the newest record that keyturn wrote, whatever somebody else made of the file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.audit.chain import digest, faults
from agent.audit.head import Break, Head
from agent.audit.lines import MAX_LINE_BYTES, parsed
from agent.audit.reader import legible
from agent.audit.recent import newest_first, passed_over
from agent.system import files

TAIL_BYTES = 2 * MAX_LINE_BYTES
"""Bytes that are read at each start; only where the newest record is not in them, more is."""
MAX_BEHIND = 100


@dataclass(frozen=True, slots=True)
class Behind:
    """What a log says about the newest record that is known, and after it.

    Attributes:
        met: whether that record is in the log.
        records: number and true hash of each record after it, the first `MAX_BEHIND`; where it is not in the log, of each with
            a higher number.
        instead: another record with its number.
        linked: whether a record holds its hash, so that it lies in a file elsewhere.
    """

    met: bool
    records: tuple[Head, ...] = ()
    instead: Head | None = None
    linked: bool = False

    def first_break(self, known: Head, announced: Iterable[str] | None) -> Break | None:
        """Return where the log is not what keyturn wrote; None where it is, or where only its end is missing.

        Args:
            known: the newest record that is known.
            announced: the hashes of what may follow it; None where that is not known.
        """
        if not self.met:
            if self.instead is not None:
                return Break(known.seq, known.hash, self.instead.hash)
            return Break(self.records[0].seq, "", self.records[0].hash) if self.records else None
        if announced is None:
            return None
        return next((Break(found.seq, "", found.hash) for found in self.records if found.hash not in announced), None)


def look_behind(path: Path, known: Head) -> Behind:
    """Look for the newest known record in a log and its rotated files, newest file first."""
    found = _scan(_records_of_tail(path), known)
    if found.met:
        return found
    newer: tuple[Head, ...] = ()
    instead, linked = None, False
    for file in newest_first(path):
        found = _scan(legible(file, -1, passed_over), known)
        newer = (*found.records, *newer)[:MAX_BEHIND]
        if found.met:
            return Behind(True, newer)
        instead, linked = instead or found.instead, linked or found.linked
    return Behind(linked and instead is None, newer, instead)


def _scan(records: Iterator[dict[str, Any]], known: Head) -> Behind:
    met, behind, instead, linked = known.seq == 0, list[Head](), None, False
    for record in records:
        seq = record["seq"]
        linked = linked or (seq == known.seq + 1 and record.get("prev") == known.hash)
        if seq == known.seq or ((met or seq > known.seq) and len(behind) < MAX_BEHIND):
            found = Head(seq, _true_hash(record))
            if found == known:
                met = True
                behind.clear()
            elif met or seq > known.seq:
                behind.append(found)
            else:
                instead = found
    return Behind(met, tuple(behind), instead, linked)


def _true_hash(record: dict[str, Any]) -> str:
    try:
        return digest(record)
    except RecursionError:
        return ""


def _records_of_tail(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with os.fdopen(files.open_regular(path), "rb") as stream:
            tail = read_tail(stream.fileno())
    except OSError:
        return iter(())
    return (record for line in tail.split(b"\n") if (record := parsed(line)) is not None)


def read_tail(fd: int) -> bytes:
    """Return the end of a log."""
    size = os.fstat(fd).st_size
    span = min(size, TAIL_BYTES)
    return os.pread(fd, span, size - span)


def sound_bytes(tail: bytes, known: Head | None) -> int:
    """Return how many bytes of the end of a log can be continued after a crash.

    That is up to the last newline, and after the newest record that is known to be on the disk only as far as the
    chain holds: a power cut may lose a page that was not flushed yet and keep the next one. What is before that record
    was flushed, so damage there is for `verify` to find, and is left as it is.

    Args:
        tail: the end of the file.
        known: the head that the state remembers.
    """
    whole = tail.rfind(b"\n") + 1
    at, before = 0, None
    for line in tail[:whole].split(b"\n")[:-1]:
        record = parsed(line)
        if before is not None:
            if record is None or any(faults(record, before.seq + 1, before)):
                return at
            before = Head(record["seq"], str(record.get("hash")))
        elif (
            known is not None and record is not None and (record["seq"], record.get("hash")) == (known.seq, known.hash)
        ):
            before = known
        at += len(line) + 1
    return whole
