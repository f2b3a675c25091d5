"""A small record that is written often and must survive a power cut, in two slots of one file, used in turn.

A write goes into the slot that does not hold the newest durable record, and is flushed with one fdatasync. The file's
blocks were written and flushed once before, so the file system has no metadata to commit and no directory
to flush: measured at a third to a half of the cost of a temporary file and a rename. A write that was torn by a power
cut fails its checksum, and the record in the other slot is the newest one then. So the other slot must hold one that
is on the disk, or a power cut could tear both: a record that was written without a flush says so (`unflushed`), and the
next one takes its place, not that of the newest flushed one.

A slot is one line of text, `keyturn-slot SEQ LENGTH SHA256 [unflushed]`, and the record, padded with blanks; so `cat`
shows it.
A record that outgrows its slot moves into a larger file, which replaces the old one atomically.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from agent.system import files
from agent.system.file_identity import FileIdentity

SLOT_BYTES = 8 * 1024
"""A multiple of the 4 KiB that disks and page caches write at once, so that the two slots never share a block."""

_MAGIC = "keyturn-slot"
_UNFLUSHED = "unflushed"
_HEADER_BYTES = 128


@dataclass(frozen=True, slots=True)
class _Record:
    """The header of a whole record."""

    sequence: int
    slot: int
    flushed: bool


class SlotFile:
    """The one writer of a record; any number of readers may `read_slots` the same path.

    It opens the file at its first write and holds it open until `close`. After that it still knows which slot holds
    what, and reads the file again at its next write only if somebody else changed it.
    """

    def __init__(self, path: Path | str) -> None:
        """Keep the path; the file is opened at the first write."""
        self.path = Path(path)
        self._fd = -1
        self._slot_bytes = SLOT_BYTES
        self._whole: dict[int, _Record] = {}
        self._left: FileIdentity | None = None
        """The file's identity when it was closed."""

    def write(self, payload: bytes, *, flush: bool = True) -> None:
        """Make `payload` the newest record; with `flush` it survives a power cut before this returns.

        Raises:
            OSError: the newest record is the one before; the newest flushed one, where those behind it were not.
        """
        self._open()
        newest = _newest(self._whole.values())
        sequence = newest.sequence + 1 if newest else 1
        if self._fd < 0 or len(payload) > self._slot_bytes - _HEADER_BYTES:
            self._grow(sequence, payload, flush)
            return
        slot = self._spare_slot()
        self._whole.pop(slot, None)
        try:
            files.write_all(self._fd, _pack(sequence, payload, self._slot_bytes, flush), slot * self._slot_bytes)
            if flush:
                os.fdatasync(self._fd)
        except OSError:
            with contextlib.suppress(OSError):  # or the page cache would show a record that may not be on disk
                files.write_all(self._fd, b" " * _HEADER_BYTES, slot * self._slot_bytes)
            raise
        self._whole[slot] = _Record(sequence, slot, flush)

    def _spare_slot(self) -> int:
        """Return the slot to write next: not the one of the newest flushed record, or, where none was flushed, of the newest."""
        kept = _newest(record for record in self._whole.values() if record.flushed) or _newest(self._whole.values())
        return 1 - kept.slot if kept else 0

    def close(self) -> None:
        """Close the file; the next write opens it again."""
        if self._fd >= 0:
            self._left = FileIdentity.of(os.fstat(self._fd))
            os.close(self._fd)
            self._fd = -1

    def _grow(self, sequence: int, payload: bytes, flushed: bool) -> None:
        """Replace the file by one with larger slots, every block of which is written."""
        size = _slot_bytes(len(payload))
        files.write_atomic(self.path, _pack(sequence, payload, size, flushed) + b" " * size)
        self.close()
        self._open()

    def _open(self) -> None:
        """Open the file and read its slots, if it is there and not open yet."""
        if self._fd >= 0:
            return
        try:
            self._fd = files.open_regular(self.path, flags=os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            self._whole, self._left = {}, None
            return
        looks = FileIdentity.of(os.fstat(self._fd))
        if looks == self._left:
            return
        content = os.pread(self._fd, os.fstat(self._fd).st_size, 0)
        self._slot_bytes = len(content) // 2
        self._whole = {record.slot: record for record, _payload in _records(content)}


def read_slots(path: Path | str, limit: int) -> bytes | None:
    """Return the newest whole record of a file that another process may be writing; None where there is none.

    Args:
        path: the file.
        limit: bytes of the largest record that its writer writes; a file with room for more is not read.

    Raises:
        OSError: as `files.read_regular`.
    """
    found = dict(_records(files.read_regular(path, 2 * _slot_bytes(limit)) or b""))
    newest = _newest(found)
    return found[newest] if newest else None


def _slot_bytes(payload_bytes: int) -> int:
    """Return the size of the slot for a record: doubled until it fits."""
    size = SLOT_BYTES
    while size - _HEADER_BYTES < payload_bytes:
        size *= 2
    return size


def _pack(sequence: int, payload: bytes, slot_bytes: int, flushed: bool) -> bytes:
    mark = "" if flushed else f" {_UNFLUSHED}"
    header = f"{_MAGIC} {sequence} {len(payload)} {_digest(sequence, payload)}{mark}\n".encode()
    return (header + payload).ljust(slot_bytes - 1) + b"\n"


def _digest(sequence: int, payload: bytes) -> str:
    return hashlib.sha256(str(sequence).encode() + b"\n" + payload).hexdigest()


def _newest(records: Iterable[_Record]) -> _Record | None:
    return max(records, key=lambda record: record.sequence, default=None)


def _records(content: bytes) -> list[tuple[_Record, bytes]]:
    """Return every whole record of a file with its payload."""
    half = len(content) // 2
    return [found for slot in (0, 1) if (found := _unpack(content[slot * half : (slot + 1) * half], slot))]


def _unpack(half: bytes, slot: int) -> tuple[_Record, bytes] | None:
    header, _, rest = half.partition(b"\n")
    words = header.decode("ascii", "replace").split(" ")
    if len(words) < 4 or words[0] != _MAGIC or words[4:] not in ([], [_UNFLUSHED]):
        return None
    if not (words[1].isdecimal() and words[2].isdecimal()):
        return None
    sequence, payload = int(words[1]), rest[: int(words[2])]
    if len(payload) != int(words[2]) or _digest(sequence, payload) != words[3]:
        return None
    return _Record(sequence, slot, flushed=len(words) == 4), payload
