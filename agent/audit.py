"""The audit log: JSON lines, each bound to the one before by its hash, flushed before an act is reported.

What the chain proves: an edited, removed, reordered or truncated record is found and named, because the
newest `seq` and hash also stand in the state directory. What it cannot prove: that somebody who can write
both the log and the state did not write a whole new history. Ship the log, or its head, to another machine
where that matters.

Decisions. A log that ends before the head that the state remembers is not continued from its own end but
from that head, so that the gap stays visible for ever. The head is remembered after the flush of its record
and never before: a power cut may cost the head its newest step, and the log's own end is newer then, but no
head is kept whose line is lost. A half-written last line after a crash was never
reported to anybody; it is cut off, kept beside the log, and recorded. A log that logrotate renamed or
`copytruncate`d away goes on in the new file with the chain unbroken, and `verify` reads rotated files
(`audit.jsonl.1`, `audit.jsonl-20261122`, `.gz`) in the order of their `seq`.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agent.core.errors import AuditError, KeyturnError
from agent.core.events import Event
from agent.logs import log
from agent.system import files
from agent.system.slots import SlotFile, read_slots

GENESIS = "0" * 64
FIELDS = (
    "credential",
    "generation",
    "trigger",
    "actor",
    "reason",
    "access_key_id",
    "previous_access_key_id",
    "version_id",
    "expiration",
    "sinks",
    "notified",
    "outcome",
    "error",
    "duration_ms",
)
MAX_LINE_BYTES = 256 * 1024


def canonical(record: dict[str, Any]) -> bytes:
    """Canonical JSON: keys sorted, no spaces, UTF-8 unescaped.

    A lone surrogate is in no record of ours (`_plain`); in a forged one it must not stop the proof, and must not
    become what some other text becomes.
    """
    text = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "surrogatepass")


def digest(record: dict[str, Any]) -> str:
    """SHA-256 over the record without its `hash`."""
    return hashlib.sha256(canonical({key: value for key, value in record.items() if key != "hash"})).hexdigest()


@dataclass(frozen=True, slots=True)
class Head:
    """The newest record."""

    seq: int = 0
    hash: str = GENESIS


def read_head(path: Path) -> Head | None:
    """The head that the state remembers; None where it has none."""
    try:
        content = read_slots(path, MAX_LINE_BYTES)
        if content is None:
            return None
        known = json.loads(content)
        return Head(int(known["seq"]), str(known["hash"]))
    except (ValueError, KeyError, TypeError):
        return None


class AuditLog:
    """The log, open for appending. Safe to use from several threads."""

    def __init__(self, path: Path, head_path: Path, now: Callable[[], datetime]) -> None:
        """Open the log and find its end.

        Raises:
            AuditError: the log cannot be opened or read.
        """
        self.path = path
        self._head_path = head_path
        self._now = now
        self._lock = threading.Lock()
        self._fd = -1
        self.remarks: list[str] = []
        """What was found while opening, for the first record: a torn line, a missing tail."""
        self._open()
        self._head = self._find_end()
        self._slots = SlotFile(head_path)

    @property
    def head(self) -> Head:
        """The newest record's number and hash."""
        return self._head

    def record(self, event: Event, *, flush: bool = True, **fields: Any) -> dict[str, Any]:
        """Append a record and flush it to disk; absent (None) fields are left out.

        The head is remembered after it. One that cannot be written is logged and no error of the act: the record
        is in the log, and the next head that can be written covers it.

        Args:
            event: what happened.
            flush: False where another record follows before anything is reported, and its flush serves both.
            fields: any of `FIELDS`.

        Raises:
            AuditError: it could not be written; nothing of it is left in the log.
        """
        unknown = set(fields) - set(FIELDS)
        if unknown:
            raise ValueError(f"not fields of an audit record: {sorted(unknown)}")
        with self._lock:
            record: dict[str, Any] = {
                "seq": self._head.seq + 1,
                "time": self._now().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
                "event": str(event),
                "prev": self._head.hash,
            }
            record.update({key: _plain(value) for key, value in fields.items() if value is not None})
            record["hash"] = digest(record)
            self._append(canonical(record) + b"\n", flush)
            self._head = Head(record["seq"], record["hash"])
            if flush:
                self._remember_head()
            return record

    def knows_publish(self, credential: str, generation: int, *, after: int) -> bool:
        """Whether a publish of that generation stands in the log behind record `after`.

        Never raises: it is asked at the start. What cannot be read is not known, and is then recorded once more.
        """
        ends = {Event.PUBLISHED, Event.DRIFT_REPAIRED, Event.PUBLISH_RECOVERED}
        return any(
            record.get("credential") == credential
            and record.get("generation") == generation
            and record.get("event") in ends
            for record in _behind(self.path, after)
        )

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1
                self._slots.close()

    def _append(self, line: bytes, flush: bool) -> None:
        try:
            self._follow_rotation()
            start = os.fstat(self._fd).st_size
            try:
                written = os.write(self._fd, line)
                if written != len(line):
                    raise OSError(28, "No space left on device")
                if flush:
                    os.fdatasync(self._fd)
            except OSError:
                os.ftruncate(self._fd, start)
                raise
        except OSError as err:
            raise AuditError(
                f"{self.path}: the audit log cannot be written: {err.strerror}",
                "free space or mend its permissions; nothing is published without a record",
            ) from err

    def _remember_head(self) -> None:
        text = json.dumps({"seq": self._head.seq, "hash": self._head.hash}).encode()
        try:
            self._slots.write(text, flush=False)
        except (OSError, KeyturnError) as err:
            why = err.strerror if isinstance(err, OSError) else str(err)
            log.error("the audit head cannot be written; mend the state directory", path=self._head_path, error=why)

    def _open(self) -> None:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            self._fd = os.open(self.path, flags, 0o640)
        except OSError as err:
            raise AuditError(
                f"{self.path}: the audit log cannot be opened: {err.strerror}",
                f"make its directory for the agent's user: install -d -m 0750 {self.path.parent}",
            ) from err

    def _follow_rotation(self) -> None:
        mine = os.fstat(self._fd)
        try:
            there = os.stat(self.path, follow_symlinks=False)
            moved = (there.st_dev, there.st_ino) != (mine.st_dev, mine.st_ino)
        except FileNotFoundError:
            moved = True
        if moved:
            old = self._fd
            os.fdatasync(old)  # a record may wait in it for the flush of the next one, which goes elsewhere now
            self._open()
            os.close(old)

    def _find_end(self) -> Head:
        last, torn = _last_line(self._fd)
        if torn:
            self._set_aside(torn)
        remembered = read_head(self._head_path)
        found = Head()
        if last:
            try:
                record = json.loads(last)
                found = Head(int(record["seq"]), str(record["hash"]))
            except (ValueError, KeyError, TypeError):
                self.remarks.append("the last line of the audit log is not a record; run `keyturn audit verify`")
        if remembered is None or (last and found.seq >= remembered.seq):
            return found
        if last:
            self.remarks.append(
                f"the audit log ends at seq {found.seq} but seq {remembered.seq} was written; run `keyturn audit verify`"
            )
        return remembered

    def _set_aside(self, torn: bytes) -> None:
        aside = self.path.with_name(f"torn-{self._now():%Y%m%dT%H%M%SZ}-{self.path.name}")
        files.write_atomic(aside, torn, 0o600)
        os.ftruncate(self._fd, os.fstat(self._fd).st_size - len(torn))
        self.remarks.append(f"a half-written last line of {len(torn)} bytes was set aside as {aside.name}")


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    if isinstance(value, str):  # an argument of the command line may hold bytes that are no text (PEP 383)
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, Mapping):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _last_line(fd: int) -> tuple[bytes, bytes]:
    """Return the last whole line and what follows it, reading no more than is needed."""
    size = os.fstat(fd).st_size
    span = min(size, 2 * MAX_LINE_BYTES)
    tail = os.pread(fd, span, size - span)
    whole, newline, torn = tail.rpartition(b"\n")
    if not newline:
        return b"", tail
    return whole.rpartition(b"\n")[2], torn


@dataclass(frozen=True, slots=True)
class Verdict:
    """What `audit verify` found."""

    records: int
    files: tuple[str, ...]
    problems: tuple[str, ...]

    @property
    def whole(self) -> bool:
        """Whether nothing is amiss."""
        return not self.problems


def rotated_files(path: Path) -> list[Path]:
    """The log and its rotated brothers, oldest record first.

    Raises:
        AuditError: one of them cannot be read.
    """
    numbered = []
    for file in [path, *_brothers(path)]:
        first = next(_lines(file), None)
        if first is not None:
            numbered.append((_seq_of(first[1]), file))
    return [file for _seq, file in sorted(numbered, key=lambda pair: (pair[0], pair[1].name))]


def _brothers(path: Path) -> list[Path]:
    return [*path.parent.glob(f"{path.name}.*"), *path.parent.glob(f"{path.name}-*")]


def _behind(path: Path, after: int) -> Iterator[dict[str, Any]]:
    """The records with a `seq` above `after`, newest file first; files that can hold none are not read through."""
    begins = _first_seq(path)
    yield from _legible(path, after)
    if begins is not None and begins <= after + 1:
        return  # nothing in the rotated files is newer
    numbered = [(first, file) for file in _brothers(path) if (first := _first_seq(file)) is not None]
    for first, file in sorted(numbered, reverse=True):
        yield from _legible(file, after)
        if first <= after + 1:
            return


def _first_seq(file: Path) -> int | None:
    return next((int(record["seq"]) for record in _legible(file, -1)), None)


def _legible(file: Path, after: int) -> Iterator[dict[str, Any]]:
    """The records above `after` up to where the file cannot be read any further."""
    try:
        for _number, line in _lines(file):
            record = _parsed(line)
            if record is not None and record["seq"] > after:
                yield record
    except AuditError as error:
        log.warning("a file of the audit log is passed over", error=str(error))


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Every record of the log and its rotated files, oldest first; lines that are not records are passed over."""
    for file in rotated_files(path):
        for _number, line in _lines(file):
            record = _parsed(line)
            if record is not None:
                yield record


def verify(path: Path, remembered: Head | None, *, first_seq: int = 1) -> Verdict:
    """Prove that the log is whole.

    Args:
        path: the newest file of the log.
        remembered: the head in the state directory.
        first_seq: the number that the oldest kept record must have; more than 1 where older files were
            archived elsewhere.

    Raises:
        AuditError: a file cannot be read.
    """
    problems: list[str] = []
    kept = rotated_files(path)
    count = 0
    previous: Head | None = None if first_seq > 1 else Head()
    expected = first_seq
    for file in kept:
        for number, line in _lines(file):
            place = f"{file}:{number}"
            record = _parsed(line)
            if record is None:
                problems.append(f"{place}: not a whole record")
                continue
            count += 1
            problems.extend(f"{place}: {what}" for what in _faults(record, expected, previous))
            previous = Head(_seq_of(line), str(record.get("hash")))
            expected = previous.seq + 1
    last = previous or Head()
    if remembered is not None and last.seq < remembered.seq:
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
    except OSError as err:
        raise AuditError(f"{file}: cannot be read ({type(err).__name__})", "run as root, or restore the file") from err
