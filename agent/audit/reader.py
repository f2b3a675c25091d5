"""The reader of the audit log: the form of a record, the rotated files, and the proof that nothing is missing."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.core.errors import AuditError, NotPermittedError
from agent.logs.log import log
from agent.system.two_slot_file import read_slots

GENESIS = "0" * 64
MAX_LINE_BYTES = 256 * 1024
END_BYTES = 2 * 1024 * 1024
"""Bytes that are read at each start: some five thousand records, in thirty milliseconds or so."""


def canonical(record: dict[str, Any]) -> bytes:
    """Return a record as canonical JSON: keys sorted, no spaces, UTF-8 unescaped.

    No record of ours has a lone surrogate (`_plain`). In a forged one it must not stop the proof, and must not be
    encoded like some other text.
    """
    text = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "surrogatepass")


def digest(record: dict[str, Any]) -> str:
    """Return the SHA-256 of a record without its `hash`."""
    return hashlib.sha256(canonical({key: value for key, value in record.items() if key != "hash"})).hexdigest()


@dataclass(frozen=True, slots=True)
class Head:
    """The number and the hash of the newest record."""

    seq: int = 0
    hash: str = GENESIS


def read_head(path: Path) -> Head | None:
    """Return the head that the state remembers; None where it has none."""
    try:
        content = read_slots(path, MAX_LINE_BYTES)
        if content is None:
            return None
        known = json.loads(content)
        return Head(int(known["seq"]), str(known["hash"]))
    except (ValueError, KeyError, TypeError):
        return None


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
        record = _parsed(line)
        if before is not None:
            if record is None or any(_faults(record, before.seq + 1, before)):
                return at
            before = Head(record["seq"], str(record.get("hash")))
        elif (
            known is not None and record is not None and (record["seq"], record.get("hash")) == (known.seq, known.hash)
        ):
            before = known
        at += len(line) + 1
    return whole


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of `audit verify`."""

    records: int
    files: tuple[str, ...]
    problems: tuple[str, ...]

    @property
    def whole(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def rotated_files(path: Path) -> list[Path]:
    """Return the log and its rotated files, the one with the oldest record first; damaged ones come before all others.

    Raises:
        NotPermittedError: one of them may not be read by this user.
    """
    numbered = []
    for file in [path, *_brothers(path)]:
        try:
            first = next(_lines(file), None)
        except AuditError:
            first = (0, b"")
        if first is not None:
            numbered.append((_seq_of(first[1]), file))
    return [file for _seq, file in sorted(numbered, key=lambda pair: (pair[0], pair[1].name))]


def _brothers(path: Path) -> list[Path]:
    found = [*path.parent.glob(f"{path.name}.*"), *path.parent.glob(f"{path.name}-*")]
    return [file for file in found if file.is_file() and not file.is_symlink()]


def records_behind(path: Path, after: int) -> Iterator[dict[str, Any]]:
    """Yield the records with a `seq` above `after`, newest file first; files that can hold none are not read through."""
    begins = _first_seq(path)
    yield from _legible(path, after)
    if begins is not None and begins <= after + 1:
        return  # nothing in the rotated files is newer
    numbered = [(first, file) for file in _brothers(path) if (first := _first_seq(file)) is not None]
    for first, file in sorted(numbered, reverse=True):
        yield from _legible(file, after)
        if first <= after + 1:
            return


def records_at_end(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the records in the last `END_BYTES` of the newest file; none where it cannot be read."""
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - END_BYTES))
            lines = stream.read(END_BYTES).split(b"\n")
    except OSError:
        return
    yield from (record for line in lines if (record := _parsed(line)) is not None)


def highest_generations(records: Iterable[dict[str, Any]]) -> dict[str, int]:
    """Return the highest generation of each credential."""
    found: dict[str, int] = {}
    for record in records:
        name, generation = record.get("credential"), record.get("generation")
        if isinstance(name, str) and isinstance(generation, int):
            found[name] = max(generation, found.get(name, 0))
    return found


def _first_seq(file: Path) -> int | None:
    return next((int(record["seq"]) for record in _legible(file, -1)), None)


def _legible(file: Path, after: int) -> Iterator[dict[str, Any]]:
    """Yield the records above `after` up to where the file cannot be read any further."""
    try:
        for _number, line in _lines(file):
            record = _parsed(line)
            if record is not None and record["seq"] > after:
                yield record
    except AuditError as error:
        log.warning("a file of the audit log is passed over", error=str(error))


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Yield every record of the log and its rotated files, oldest first; what cannot be read is passed over.

    Raises:
        NotPermittedError: a file may not be read by this user.
    """
    for file in rotated_files(path):
        yield from _legible(file, -1)


def verify(path: Path, remembered: Head | None, *, first_seq: int = 1) -> Verdict:
    """Check that the log is whole.

    Args:
        path: the newest file of the log.
        remembered: the head in the state directory; None where it has none, and so cannot prove the end.
        first_seq: the number that the oldest kept record must have; more than 1 where older files were
            archived elsewhere.

    Raises:
        NotPermittedError: a file may not be read by this user.
    """
    problems: list[str] = []
    kept = rotated_files(path)
    count = 0
    previous: Head | None = None if first_seq > 1 else Head()
    expected = first_seq
    for file in kept:
        try:
            for number, line in _lines(file):
                place = f"{file}:{number}"
                record = _parsed(line)
                if record is None:
                    problems.append(f"{place}: not a whole record")
                    continue
                count += 1
                if line != canonical(record):
                    problems.append(f"{place}: seq {record['seq']}: the line was edited (it is not what was written)")
                problems.extend(f"{place}: {what}" for what in _faults(record, expected, previous))
                previous = Head(_seq_of(line), str(record.get("hash")))
                expected = previous.seq + 1
        except AuditError as error:
            problems.append(str(error))
    # The chain proves the records among themselves; that none is missing at the end, only the state can prove.
    last = previous or Head()
    if remembered is None and count:
        problems.append(f"{path}: the end cannot be proved: the state does not remember the newest record")
    elif remembered is not None and last.seq < remembered.seq:
        problems.append(f"{path}: the end is missing: seq {last.seq + 1} to {remembered.seq} were written and are gone")
    elif remembered is not None and last.seq == remembered.seq and last.hash != remembered.hash:
        problems.append(f"{path}: seq {last.seq} is not the record that the state remembers")
    return Verdict(count, tuple(str(file) for file in kept), tuple(problems))


def _faults(record: dict[str, Any], expected: int, previous: Head | None) -> Iterator[str]:
    seq = record.get("seq")
    if digest(record) != record.get("hash"):
        yield f"seq {seq}: the record was edited (its hash does not fit its content)"
    if seq != expected:
        if isinstance(seq, int) and seq > expected:
            gone = f"seq {expected}" if seq == expected + 1 else f"seq {expected} to {seq - 1}"
            yield f"{gone} removed (the next record is seq {seq})"
        else:
            yield f"seq {seq}: out of order (seq {expected} was due here)"
    elif previous is not None and record.get("prev") != previous.hash:
        yield f"seq {seq}: does not follow the record before it (`prev` differs)"


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) and isinstance(record.get("seq"), int) else None


def _seq_of(line: bytes) -> int:
    record = _parsed(line)
    return int(record["seq"]) if record else 0


def _lines(file: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as stream:
            for number, line in enumerate(stream, 1):
                yield number, line.rstrip(b"\n")
    except FileNotFoundError:
        return
    except (EOFError, zlib.error, gzip.BadGzipFile) as err:
        raise AuditError(f"{file}: is damaged ({type(err).__name__})", "restore it from a backup") from err
    except PermissionError as err:
        raise NotPermittedError(f"{file}: this user may not read the audit log", "run as root") from err
    except OSError as err:
        raise AuditError(f"{file}: cannot be read ({type(err).__name__})", "run as root, or restore the file") from err
