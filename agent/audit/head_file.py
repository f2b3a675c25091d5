"""The writer of what the state remembers of the audit log (agent/audit/head.py says what that is, and what it proves)."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from agent.audit.head import MAX_BREAKS, Break, Head, Remembered, this_boot
from agent.core.errors import KeyturnError
from agent.logs.log import log
from agent.system.two_slot_file import SlotFile


class HeadFile:
    """The file `audit-head`, in which each record is announced before it is written, and acknowledged after its flush."""

    def __init__(self, path: Path) -> None:
        """Keep the path; the file is opened at the first write."""
        self.path = path
        self._slots = SlotFile(path)
        self._boot = this_boot()
        self._acknowledged = Head()
        self._announced: list[str] = []
        """The hashes of the records since the last flush."""
        self._breaks: tuple[Break, ...] = ()

    @property
    def waiting(self) -> int:
        """The number of records since the last flush."""
        return len(self._announced)

    @property
    def acknowledged(self) -> Head:
        """The newest record that is on the disk."""
        return self._acknowledged

    def know(self, breaks: tuple[Break, ...]) -> None:
        """Take over the breaks that an earlier run found."""
        self._breaks = breaks

    def goes_on_behind(self, head: Head) -> None:
        """Note the record behind which the log is continued."""
        self._acknowledged = head

    def announce(self, digests: Sequence[str]) -> None:
        """Say the hashes of the records that are about to be written, after those that wait for a flush."""
        self._announced.extend(digests)
        with contextlib.suppress(OSError, KeyturnError):  # said when the record is acknowledged
            self._slots.write(self._remembered().as_bytes(), flush=False)

    def withdraw(self, count: int) -> None:
        """Forget the last `count` hashes that were announced: their records were not written."""
        del self._announced[len(self._announced) - count :]

    def acknowledge(self, head: Head) -> None:
        """Say that every record up to this one is on the disk."""
        self.goes_on_behind(head)
        self._announced.clear()
        self.write(flush=False)

    def stop(self, head: Head) -> None:
        """Say that every record up to this one is on the disk, and that none will follow."""
        self.goes_on_behind(head)
        self._announced.clear()
        self.write(flush=True, stopped=True)

    def keep(self, found: Break) -> None:
        """Keep a break, so that it stays visible whatever becomes of the log."""
        self._breaks = (*self._breaks, found)[:MAX_BREAKS]

    def write(self, *, flush: bool, stopped: bool = False) -> None:
        """Write what is known; what cannot be written is logged, and covered by the next head that can."""
        try:
            self._slots.write(self._remembered(stopped=stopped).as_bytes(), flush=flush)
        except (OSError, KeyturnError) as err:
            why = err.strerror if isinstance(err, OSError) else str(err)
            log.error("the audit head cannot be written; mend the state directory", path=self.path, error=why)

    def close(self) -> None:
        """Close the file."""
        self._slots.close()

    def _remembered(self, *, stopped: bool = False) -> Remembered:
        known = self._acknowledged
        return Remembered(known.seq, known.hash, tuple(self._announced), self._boot, stopped, self._breaks)
