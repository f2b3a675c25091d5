"""The lines of one file of the audit log, read as root from a directory that others may be able to write.

So nothing but a regular file is opened, and no file can take more than a bounded time and memory: a line has a limit, a
compressed file has one for what it unpacks to, and a file that holds no record for many lines is given up.
"""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from agent.core.errors import AuditError, NotPermittedError
from agent.system import reading

FIELDS = (
    "credential",
    "generation",
    "trigger",
    "actor",
    "reason",
    "access_key_id",
    "previous_access_key_id",
    "version_id",
    "created_at",
    "expiration",
    "identity",
    "sinks",
    "notified",
    "steps",
    "left_behind",
    "hosts",
    "outcome",
    "error",
    "request_id",
    "duration_ms",
    "host",
    "agent_version",
    "config",
)
"""The keys of a record besides its time, event, number and hashes, in the order in which they are shown."""
MAX_LINE_BYTES = 256 * 1024
MAX_RUBBISH = 100_000
"""Lines in a row that are no record."""
HASH_DIGITS = 64
MIN_UNPACKED_BYTES = 64 * 1024 * 1024
MAX_RATIO = 20
"""Of unpacked to packed bytes. Every record has two hashes, which no compression makes smaller than 64 bytes."""


class Line(NamedTuple):
    """One line of a file.

    Attributes:
        number: its number, from 1.
        text: its bytes without the line end.
        ended: whether it has a line end; a torn one has none.
        record: what it says; None where it is no record.
    """

    number: int
    text: bytes
    ended: bool
    record: dict[str, Any] | None


def lines(file: Path, *, skip_bytes: int = 0, skip_lines: int = 0) -> Iterator[Line]:
    """Yield the lines of a file; nothing for a file that is not there.

    Args:
        file: plain, or compressed where its name ends in `.gz`.
        skip_bytes: of a plain file, which were read before; they end with a line.
        skip_lines: how many lines these were.

    Raises:
        NotPermittedError: this user may not read it.
        AuditError: it is no regular file, is damaged, or goes beyond a limit.
    """
    try:
        fd = reading.open_regular(file)
        with os.fdopen(fd, "rb") as plain:
            plain.seek(skip_bytes)
            yield from _judged(file, _bounded(file, plain, skip_lines))
    except FileNotFoundError:
        return
    except (EOFError, zlib.error, gzip.BadGzipFile) as err:
        raise AuditError(f"{file}: is damaged ({type(err).__name__})", "restore it from a backup") from err
    except reading.NotRegularError as err:
        raise AuditError(f"{file}: is not a regular file", "find out who put it there, and move it away") from err
    except PermissionError as err:
        raise NotPermittedError(f"{file}: this user may not read the audit log", "run as root") from err
    except OSError as err:
        raise AuditError(f"{file}: cannot be read ({type(err).__name__})", "run as root, or restore the file") from err


def parsed(line: bytes) -> dict[str, Any] | None:
    """Return a line as a record; None where it is none."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or type(record.get("seq")) is not int:
        return None
    return record if isinstance(record.get("hash"), str) and len(record["hash"]) == HASH_DIGITS else None


def _judged(file: Path, numbered: Iterator[tuple[int, bytes]]) -> Iterator[Line]:
    rubbish = 0
    for number, line in numbered:
        text = line.rstrip(b"\n")
        record = parsed(text)
        rubbish = 0 if record is not None else rubbish + 1
        if rubbish > MAX_RUBBISH:
            raise AuditError(
                f"{file}:{number}: {MAX_RUBBISH} lines in a row are no record, and nothing behind them is read",
                "restore the file from a backup",
            )
        yield Line(number, text, text != line, record)


def _bounded(file: Path, plain: IO[bytes], number: int) -> Iterator[tuple[int, bytes]]:
    if file.suffix != ".gz":
        yield from _whole_lines(file, plain, None, number)
        return
    limit = max(MIN_UNPACKED_BYTES, MAX_RATIO * os.fstat(plain.fileno()).st_size)
    with gzip.GzipFile(fileobj=plain, mode="rb") as unpacked:
        yield from _whole_lines(file, unpacked, limit, number)


def _whole_lines(
    file: Path, stream: IO[bytes] | gzip.GzipFile, limit: int | None, number: int
) -> Iterator[tuple[int, bytes]]:
    taken = 0
    while line := stream.readline(MAX_LINE_BYTES + 1):
        number, taken = number + 1, taken + len(line)
        if len(line) > MAX_LINE_BYTES:
            raise AuditError(
                f"{file}:{number}: this line is longer than {MAX_LINE_BYTES} bytes, and nothing behind it is read",
                "no record of keyturn is; restore the file from a backup",
            )
        if limit is not None and taken > limit:
            raise AuditError(
                f"{file}:{number}: it unpacks to more than {limit} bytes, and nothing behind that is read",
                "no log of keyturn shrinks so far; restore the file from a backup",
            )
        yield number, line
