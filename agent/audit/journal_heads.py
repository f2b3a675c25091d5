"""The heads of the audit log in systemd's journal: said while it is written, and compared with the log by `audit verify`.

The journal is another witness: who rewrites log and state has to rewrite it too, or the place to which it is forwarded. A head
stands for everything before it, so not each is said: at most one a second, and the last before a stop.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Iterable

from agent.audit.head import GENESIS, Head
from agent.core.errors import AuditError
from agent.system.journald import Fields

MESSAGE_ID = "c2b1f8bd5c1c4f0e9d0a5ea4a2a70d4e"
"""By which the journal finds them: `journalctl MESSAGE_ID=…`."""
PAUSE_S = 1.0
PRIORITY = "6"
"""Info: not among what an operator is shown who asks for warnings."""
MAX_HEADS = 10_000_000
"""Of 40 bytes each in memory: one a second for four months."""


class JournalHeads:
    """The teller. Belongs to one thread at a time."""

    def __init__(
        self, newest: Callable[[], Head], send: Callable[[Fields], bool] | None, boottime: Callable[[], float]
    ) -> None:
        """Keep what it needs.

        Args:
            newest: returns the newest head that is on the disk.
            send: hands a record to the journal, and returns whether it was taken; None where there is no journal.
            boottime: seconds.
        """
        self._newest, self._send, self._boottime = newest, send, boottime
        self._said, self._next_at = newest(), float("-inf")

    def say(self) -> float:
        """Say a new head, at most one a second; return the seconds after which it may be said, 0 where nothing waits."""
        if self._send is None or self._newest() == self._said:
            return 0.0
        wait_s = self._next_at - self._boottime()
        if wait_s > 0:
            return wait_s
        self.say_now()
        return 0.0

    def say_now(self) -> None:
        """Say the newest head, if it is a new one; a journal that does not take it is not asked again for this one."""
        head = self._newest()
        if self._send is None or head == self._said:
            return
        self._said, self._next_at = head, self._boottime() + PAUSE_S
        self._send(
            [
                ("MESSAGE", f"audit log: seq {head.seq} has the hash {head.hash}"),
                ("MESSAGE_ID", MESSAGE_ID),
                ("PRIORITY", PRIORITY),
                ("SYSLOG_IDENTIFIER", "keyturn"),
                ("KEYTURN_AUDIT_SEQ", str(head.seq)),
                ("KEYTURN_AUDIT_HASH", head.hash),
            ]
        )


class ToldHeads:
    """The heads of an exported journal, in their order; compared with a log as it is read."""

    def __init__(self) -> None:
        self._seqs = array("Q")
        self._hashes = bytearray()
        self._at = 0

    def __len__(self) -> int:
        return len(self._seqs)

    @property
    def last(self) -> Head:
        """The newest one."""
        return self._head(len(self) - 1) if self._seqs else Head()

    def add(self, head: Head) -> None:
        """Add a head, which must not be older than the one before it.

        Raises:
            AuditError: it is.
        """
        if self._seqs and head.seq < self._seqs[-1]:
            raise AuditError(
                f"the journal names seq {head.seq} after seq {self._seqs[-1]}: the log was begun anew, or two keyturns are in it",
                "export one log's heads: name the unit, and a time by --since",
            )
        if len(self) >= MAX_HEADS:
            raise AuditError(f"the journal has more than {MAX_HEADS} heads", "export less, by --since of journalctl")
        self._seqs.append(head.seq)
        self._hashes += bytes.fromhex(head.hash)

    def again(self) -> None:
        """Begin to compare from the first one."""
        self._at = 0

    def before(self, seq: int) -> list[Head]:
        """Return those before a record that were not asked for yet: the log has no such record."""
        return self._until(lambda head: head.seq < seq)

    def of(self, seq: int) -> list[Head]:
        """Return those of a record."""
        return self._until(lambda head: head.seq == seq)

    def left(self) -> list[Head]:
        """Return the newest, where it is behind everything that was asked for."""
        return [self.last] if self._at < len(self) else []

    def _until(self, wanted: Callable[[Head], bool]) -> list[Head]:
        found = []
        while self._at < len(self) and wanted(head := self._head(self._at)):
            found.append(head)
            self._at += 1
        return found

    def _head(self, at: int) -> Head:
        return Head(self._seqs[at], self._hashes[32 * at : 32 * at + 32].hex())


def told_heads(lines: Iterable[str], place: str) -> ToldHeads:
    """Return the heads in what `journalctl -o json` prints; other records of the journal are passed over.

    Args:
        lines: an object each.
        place: where they come from, for errors.

    Raises:
        AuditError: there is no head, or they contradict each other.
    """
    found = ToldHeads()
    try:
        for line in lines:
            head = _head_of(line)
            if head is not None:
                found.add(head)
    except AuditError as error:
        raise error.at(place) from None
    if not found:
        raise AuditError(
            f"{place}: has no head of an audit log",
            f"export it: journalctl _SYSTEMD_UNIT=keyturn.service MESSAGE_ID={MESSAGE_ID} -o json",
        )
    return found


def _head_of(line: str) -> Head | None:
    try:
        entry = json.loads(line)
        seq, digest = entry["KEYTURN_AUDIT_SEQ"], entry["KEYTURN_AUDIT_HASH"]
        if len(digest) == len(GENESIS) and 0 < int(seq) < 1 << 63 and bytes.fromhex(digest):
            return Head(int(seq), digest)
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    return None
