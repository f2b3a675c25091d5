"""The newest file of the audit log, open for appending: whole lines or none, over rotations by others.

Somebody else's change is noticed by the size: where the file is not as long as this process left it, or another file has
taken its name. Half a record that cannot be cut off again (`chattr +a`) is tried once more, and then becomes a line of its own,
which `verify` names as no whole record.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

from agent.audit.continuation import read_tail
from agent.audit.preflight import NOT_REGULAR, remedy
from agent.core.errors import AuditError, BusyError
from agent.logs.log import log
from agent.system import files


class AuditBusyError(AuditError, BusyError):
    """Another keyturn writes this audit log."""


class LogFile:
    """The file that has the log's name now, locked. Its user sees to it that one thread at a time is in it."""

    def __init__(self, path: Path, changed: Callable[[], None]) -> None:
        """Open the file.

        Args:
            path: of the log.
            changed: called where somebody else rotated, cut or extended the log, before something is appended.

        Raises:
            AuditBusyError: another keyturn writes it.
            AuditError: it cannot be opened.
        """
        self.path, self._changed = path, changed
        self._half = b""
        """The bytes after `_end` that could not be cut off."""
        self.fd = self._open()
        self._end = 0

    @property
    def is_open(self) -> bool:
        """Whether it was not closed yet."""
        return self.fd >= 0

    def begin(self) -> None:
        """Take the file as it is now for what this process left."""
        self._end = os.fstat(self.fd).st_size - len(self._half)

    def tail(self) -> bytes:
        """Return the end of the file."""
        return read_tail(self.fd)

    def cut_off(self, torn: bytes) -> None:
        """Cut the last bytes off; where that cannot be done, it is tried again, and then they become a line of their own."""
        try:
            os.ftruncate(self.fd, os.fstat(self.fd).st_size - len(torn))
        except OSError:
            self._half = torn

    def flush(self) -> bool:
        """Flush it to disk; return whether that worked."""
        try:
            os.fdatasync(self.fd)
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Close it, and let another keyturn have it."""
        os.close(self.fd)
        self.fd = -1

    def append(self, lines: Sequence[bytes], flush: bool) -> int:
        """Append lines; return how many of them are in the log, which are fewer where the disk became full.

        Raises:
            AuditError: it cannot be written; nothing of them is left in the log.
        """
        block = b"".join(lines)
        try:
            moved = self._follow_rotation()
            start = os.fstat(self.fd).st_size
            # Somebody else rotated, cut or extended the log since our last record.
            if moved or start != self._end:
                self._changed()
                start = start if moved else self._cut_half(start)
                if start and os.pread(self.fd, 1, start - 1) != b"\n":  # cut in a line, which ends here then
                    block = b"\n" + block
            self._end, self._half = start, b""
            written = os.write(self.fd, block)
            self._half = block[:written]
            whole = written if written == len(block) else block.rfind(b"\n", 0, written) + 1
            try:
                if flush and whole == len(block):
                    os.fdatasync(self.fd)
            except OSError:
                self._cut_half(start + written)
                raise
            self._end, self._half = start + whole, block[whole:written]
            self._cut_half(start + written)
        except OSError as err:
            raise unwritable(self.path, err.strerror) from err
        return block.count(b"\n", len(block) - sum(map(len, lines)), whole)

    def _cut_half(self, size: int) -> int:
        """Cut off the part of a record that was written, and nothing else; return the size of the log."""
        behind = size - self._end
        if behind != len(self._half) or not behind or os.pread(self.fd, behind, self._end) != self._half:
            return size
        try:
            os.ftruncate(self.fd, self._end)
        except OSError as err:
            log.warning("half a record cannot be cut off the audit log", path=self.path, error=err.strerror)
            return size
        return self._end

    def _follow_rotation(self) -> bool:
        """Continue in the file that has the log's name now, and return whether that is another one."""
        mine = os.fstat(self.fd)
        try:
            there = os.stat(self.path, follow_symlinks=False)
            moved = (there.st_dev, there.st_ino) != (mine.st_dev, mine.st_ino)
        except FileNotFoundError:
            moved = True
        if moved:
            os.fdatasync(self.fd)  # a record may wait in it for the flush of the next one, which goes elsewhere now
            old, self.fd = self.fd, self._open()
            os.close(old)
        return moved

    def _open(self) -> int:
        """Open and lock the file that has the log's name now."""
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
        try:
            fd = os.open(self.path, flags, 0o640)
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                os.close(fd)
                raise AuditError(f"{self.path} is not a regular file", NOT_REGULAR)
            if not os.fstat(fd).st_size:  # a new one: a power cut must not take its name away
                files.sync_names(self.path.parent)
        except OSError as err:
            raise AuditError(
                f"{self.path}: the audit log cannot be opened: {err.strerror}", remedy(self.path, err)
            ) from err
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as err:
            os.close(fd)
            raise AuditBusyError(
                f"{self.path}: another keyturn writes this audit log",
                "give each its own `agent.audit.path`, or stop the other one (`lslocks` shows its pid)",
            ) from err
        except OSError as err:  # a network file system without locks
            log.warning("the audit log cannot be locked; see that no other keyturn writes it", error=err.strerror)
        return fd


def unwritable(path: Path, why: str | None) -> AuditError:
    """Return the error for a log to which nothing can be appended."""
    return AuditError(
        f"{path}: the audit log cannot be written: {why}",
        "free space or mend its permissions; nothing is published without a record",
    )
