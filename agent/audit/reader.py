"""The reader of the audit log and its rotated files. What cannot be read is passed over; the proof is in `proof`.

`keyturn audit show` begins with it, so it imports no logger: whoever reads says what becomes of a file that is passed over.
"""

from __future__ import annotations

import glob
import sys
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from agent.audit.lines import lines
from agent.core.errors import AuditError, KeyturnError, NotPermittedError

PassedOver = Callable[[KeyturnError], None]
"""Is called with the reason why a file cannot be read any further."""


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


def look_for_log(path: Path) -> tuple[bool, bool]:
    """Return whether something is at the log's path, and whether that is a regular file.

    Raises:
        NotPermittedError: this user may not enter its directory.
    """
    try:
        return path.exists(), path.is_file()
    except PermissionError as err:
        raise NotPermittedError(f"{path}: this user may not read the audit log", "run as root") from err
    except OSError:  # such as a name that is too long for any file
        return False, False


def brothers(path: Path) -> list[Path]:
    """Return the rotated files of a log, in no order; links and whatever is no file are none."""
    name = glob.escape(path.name)
    found = [*path.parent.glob(f"{name}.*"), *path.parent.glob(f"{name}-*")]
    return [file for file in found if file.is_file() and not file.is_symlink()]


def legible(file: Path, after: int, passed_over: PassedOver) -> Iterator[dict[str, Any]]:
    """Yield the records above `after` up to where the file cannot be read any further."""
    try:
        for line in lines(file):
            if line.record is not None and line.record["seq"] > after:
                yield line.record
    except (AuditError, NotPermittedError) as error:
        passed_over(error)


def read(path: Path, passed_over: PassedOver) -> Iterator[dict[str, Any]]:
    """Yield every record of the log and its rotated files, oldest first; what cannot be read is passed over.

    Raises:
        NotPermittedError: a file may not be read by this user.
    """
    for file in rotated_files(path):
        yield from legible(file, -1, passed_over)


def newest(
    path: Path, count: int, passed_over: PassedOver, wanted: Callable[[dict[str, Any]], bool] = lambda _record: True
) -> Iterator[dict[str, Any]]:
    """Yield the newest records that are wanted, oldest first; no older file is read than they take.

    Raises:
        NotPermittedError: a file may not be read by this user.
    """
    kept: deque[dict[str, Any]] = deque()
    for file in reversed(rotated_files(path)):
        if len(kept) >= count:
            break
        found = deque(filter(wanted, legible(file, -1, passed_over)), maxlen=min(count - len(kept), sys.maxsize))
        kept.extendleft(reversed(found))
    yield from kept


def _seq_of(record: dict[str, Any] | None) -> int:
    return int(record["seq"]) if record else 0
