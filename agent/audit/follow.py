"""The records that are written from now on, over renames by logrotate: `keyturn audit show --follow`.

The writer leaves a file that was renamed only with its next record, for a new one of its own making. So the old file is read to
its end once the new one holds something, and then left.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agent.audit.lines import MAX_LINE_BYTES, parsed
from agent.audit.reader import PassedOver, legible, rotated_files
from agent.core.errors import AuditError, NotPermittedError
from agent.system import reading

CHUNK = 1 << 16
MAX_SEEN = 1000
"""Hashes of records read elsewhere: of those that were written meanwhile, which are few."""


class Follower:
    """A reader at the end of the log. It reads what is appended after it was made."""

    def __init__(self, path: Path, passed_over: PassedOver) -> None:
        """Begin at the end of the file as it is now, which need not be there yet.

        Args:
            path: of the log.
            passed_over: called with the reason why a rotated file cannot be read.

        Raises:
            AuditError: it cannot be opened.
            NotPermittedError: this user may not read it.
        """
        self._path, self._passed_over = path, passed_over
        self._seq, self._half = 0, b""
        self._seen: deque[str] = deque(maxlen=MAX_SEEN)
        self._fd = self._opened()
        if self._fd >= 0:
            self._go_to_end()

    def _go_to_end(self) -> None:
        size = os.lseek(self._fd, 0, os.SEEK_END)
        tail = os.pread(self._fd, 2 * MAX_LINE_BYTES, max(0, size - 2 * MAX_LINE_BYTES))
        whole = tail.rfind(b"\n") + 1
        last = parsed(tail[: max(0, whole - 1)].rpartition(b"\n")[2])
        self._seq = last["seq"] if last else 0
        os.lseek(self._fd, size - len(tail) + whole, os.SEEK_SET)

    def seen(self, record: dict[str, Any]) -> None:
        """Note that this record was read elsewhere, after the follower was made."""
        self._seen.append(record["hash"])

    def news(self) -> Iterator[dict[str, Any]]:
        """Yield the records that were written since the last call.

        Raises:
            AuditError: the log cannot be read any more.
            NotPermittedError: this user may not read it any more.
        """
        while True:
            moved = self._is_another()
            if self._fd >= 0:
                yield from self._ours(self._records())
            if not moved:
                return
            self.close()
            self._half = b""
            self._fd = self._opened()
            yield from self._between()

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _ours(self, records: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for record in records:
            self._seq = record["seq"]
            if record["hash"] not in self._seen:
                yield record

    def _between(self) -> Iterator[dict[str, Any]]:
        """Yield what went through files that were renamed before they were seen."""
        first = self._first_seq()
        if first is not None and first > self._seq + 1 > 1:
            for file in rotated_files(self._path)[-3:-1]:
                yield from self._ours(legible(file, self._seq, self._passed_over))

    def _first_seq(self) -> int | None:
        start = os.pread(self._fd, MAX_LINE_BYTES, 0) if self._fd >= 0 else b""
        record = parsed(start.partition(b"\n")[0])
        return record["seq"] if record else None

    def _is_another(self) -> bool:
        """Return whether another file has the log's name, and holds something; or whether ours was cut."""
        try:
            there = os.stat(self._path, follow_symlinks=False)
        except FileNotFoundError:
            return False
        if not there.st_size:
            return False
        if self._fd < 0:
            return True
        mine = os.fstat(self._fd)
        is_cut = mine.st_size < os.lseek(self._fd, 0, os.SEEK_CUR)
        return is_cut or (there.st_dev, there.st_ino) != (mine.st_dev, mine.st_ino)

    def _records(self) -> Iterator[dict[str, Any]]:
        while chunk := os.read(self._fd, CHUNK):
            *whole, self._half = (self._half + chunk).split(b"\n")
            yield from (record for line in whole if (record := parsed(line)) is not None)
            if len(self._half) > MAX_LINE_BYTES:  # no record of keyturn's: what is left of it is none either
                self._half = b""

    def _opened(self) -> int:
        try:
            return reading.open_regular(self._path)
        except FileNotFoundError:
            return -1
        except PermissionError as err:
            raise NotPermittedError(f"{self._path}: this user may not read the audit log", "run as root") from err
        except OSError as err:
            raise AuditError(
                f"{self._path}: cannot be read ({type(err).__name__})", "find out what stands there"
            ) from err
