"""The writer of the audit log.

One keyturn writes a log: two with different state directories would each continue the chain from their own head. So the
file is locked (flock) for as long as it is written; reading it, or renaming it away, needs no lock.

Somebody else's change is noticed by the size: where the log is not as long as this process left it, or another file has
taken its name, the newest record is looked for in it and its rotated files, as `verify` would. Nothing else of the log is
read again. Half a record that cannot be cut off again (`chattr +a`) is tried once more, and then becomes a line of its
own, which `verify` names as no whole record; the chain goes on behind it.
"""

from __future__ import annotations

import dataclasses
import fcntl
import os
import stat
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import takewhile
from pathlib import Path
from typing import Any

from agent.audit.chain import follower, refuse_unknown
from agent.audit.continuation import look_behind, read_tail, sound_bytes
from agent.audit.head import Break, Head, read_head
from agent.audit.head_file import HeadFile
from agent.audit.lines import MAX_LINE_BYTES, parsed
from agent.audit.origin import OF_A_CONFIG, Origin
from agent.audit.preflight import NOT_REGULAR, remedy
from agent.audit.reader import read
from agent.audit.recent import highest_generations, passed_over, records_at_end, records_behind
from agent.core.errors import AuditError, BusyError, KeyturnError
from agent.core.events import Event
from agent.core.timestamps import rfc3339_micros
from agent.logs.log import log
from agent.system import files

GROUP = 64
"""Records of `record_all` that one write and one flush serve."""
WAITING = 32
"""Records that may wait for the flush of a later one. These and a group are fewer than a start looks at behind the head
(`MAX_BEHIND`), and their hashes fit the head's slot."""

FOREIGN = "the audit log holds what keyturn did not write"


class AuditBusyError(AuditError, BusyError):
    """Another keyturn writes this audit log."""


class AuditLog:
    """The log, open for appending. Safe to use from several threads."""

    def __init__(self, path: Path, head_path: Path, now: Callable[[], datetime], origin: Origin | None = None) -> None:
        """Open the log and find its end.

        Args:
            path: the newest file of the log.
            head_path: the state's file about it.
            now: the wall clock, for the time of each record.
            origin: what records have in common.

        Raises:
            AuditBusyError: another keyturn writes it.
            AuditError: the log cannot be opened or read.
        """
        self.path = path
        self._now = now
        self._origin = origin or Origin()
        self._describe()
        self._lock = threading.Lock()
        self._generations: dict[bool, dict[str, int]] = {}
        self.remarks: list[str] = []
        """Findings of the opening, for the first record: a torn line, a missing end, a history that keyturn did not write."""
        self._half = b""
        """The bytes after `_end` that could not be cut off."""
        self._memory = HeadFile(head_path)
        self._fd = self._open()
        try:
            self._head = self._find_end()
            self._memory.goes_on_behind(self._head)
            self._end = os.fstat(self._fd).st_size - len(self._half)
            self._begin_to_announce()
        except BaseException:
            os.close(self._fd)
            raise

    def follow_config(self, digest: str) -> None:
        """Name another config in the records from now on."""
        with self._lock:
            self._origin = self._origin.under(digest)
            self._describe()

    def _describe(self) -> None:
        self._common, self._of_a_config = self._origin.of_all(), self._origin.of_a_config()

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
            fields: any of `lines.FIELDS`.

        Raises:
            AuditError: it could not be written; nothing of it is left in the log.
        """
        refuse_unknown(fields)
        with self._lock:
            return self._write([(event, fields)], flush)[0]

    def record_all(self, entries: Sequence[tuple[Event, Mapping[str, Any]]], *, flush: bool = True) -> None:
        """Append records, each as `record` would, with one write and one flush for every `GROUP` of them.

        Args:
            entries: event and fields of each, in their order.
            flush: as for `record`; False leaves only the last group to the flush of what follows.

        Raises:
            AuditError: one could not be written; those before it may be in the log, it and those behind it are not.
        """
        for _event, fields in entries:
            refuse_unknown(fields)
        for at in range(0, len(entries), GROUP):
            with self._lock:
                self._write(entries[at : at + GROUP], flush or at + GROUP < len(entries))

    def _write(self, entries: Sequence[tuple[Event, Mapping[str, Any]]], flush: bool) -> list[dict[str, Any]]:
        """Append records of which none, or the first ones, are in the log where it fails."""
        records: list[dict[str, Any]] = []
        lines: list[bytes] = []
        head = self._head
        for event, fields in entries:
            common = self._of_a_config if event in OF_A_CONFIG else self._common
            record, line = follower(head, self._time(), event, fields, common)
            self._refuse_long(line)
            head = Head(record["seq"], record["hash"])
            records.append(record)
            lines.append(line)
        flush = flush or self._memory.waiting + len(records) > WAITING
        self._memory.announce([record["hash"] for record in records])
        written = 0
        try:
            written = self._append(lines, flush)
        finally:
            self._memory.withdraw(len(records) - written)
        if written:
            self._head = Head(records[written - 1]["seq"], records[written - 1]["hash"])
        if written < len(records):
            raise self._unwritable("No space left on device, or the limit on a file's size is reached")
        if flush:
            self._memory.acknowledge(self._head)
        return records

    def knows_publish(self, credential: str, generation: int, *, after: int) -> bool:
        """Return whether a publish of that generation is in the log after record `after`.

        Never raises, because a start depends on it. A publish that cannot be read counts as missing, and is then
        recorded once more.
        """
        ends = {Event.PUBLISHED, Event.DRIFT_REPAIRED, Event.PUBLISH_RECOVERED}
        return any(
            record.get("credential") == credential
            and record.get("generation") == generation
            and record.get("event") in ends
            for record in records_behind(self.path, after)
        )

    def generation_of(self, credential: str, *, whole: bool) -> int:
        """Return the highest generation of a credential in the log, 0 where there is none.

        Never raises, because a start depends on it; what cannot be read does not count. Each part of the log is read
        once for all credentials, at the first call.

        Args:
            credential: its name.
            whole: read the rotated files too, however long that takes; otherwise only the end of the newest file.
        """
        if whole not in self._generations:
            records = self._everything() if whole else records_at_end(self.path)
            self._generations[whole] = highest_generations(records)
        return self._generations[whole].get(credential, 0)

    def _everything(self) -> Iterator[dict[str, Any]]:
        try:
            yield from read(self.path, passed_over)
        except KeyturnError as error:
            log.warning("the audit log cannot be read through", error=str(error))

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._fd >= 0:
                self._say_stopped()
                os.close(self._fd)
                self._fd = -1
                self._memory.close()

    def _refuse_long(self, line: bytes) -> None:
        if len(line) > MAX_LINE_BYTES:
            raise AuditError(
                f"{self.path}: a record would be longer than {MAX_LINE_BYTES} bytes, which no reader takes",
                "give a shorter reason, or divide the sinks among several credentials",
            )

    def _append(self, lines: Sequence[bytes], flush: bool) -> int:
        """Append lines; return how many of them are in the log, which are fewer where the disk became full."""
        block = b"".join(lines)
        try:
            moved = self._follow_rotation()
            start = os.fstat(self._fd).st_size
            # Somebody else rotated, cut or extended the log since our last record.
            if moved or start != self._end:
                self._look_for_newest()
                start = start if moved else self._cut_half(start)
                if start and os.pread(self._fd, 1, start - 1) != b"\n":  # cut in a line, which ends here then
                    block = b"\n" + block
            self._end, self._half = start, b""
            written = os.write(self._fd, block)
            self._half = block[:written]
            whole = written if written == len(block) else block.rfind(b"\n", 0, written) + 1
            try:
                if flush and whole == len(block):
                    os.fdatasync(self._fd)
            except OSError:
                self._cut_half(start + written)
                raise
            self._end, self._half = start + whole, block[whole:written]
            self._cut_half(start + written)
        except OSError as err:
            raise self._unwritable(err.strerror) from err
        return block.count(b"\n", len(block) - sum(map(len, lines)), whole)

    def _unwritable(self, why: str | None) -> AuditError:
        return AuditError(
            f"{self.path}: the audit log cannot be written: {why}",
            "free space or mend its permissions; nothing is published without a record",
        )

    def _cut_half(self, size: int) -> int:
        """Cut off the part of a record that was written, and nothing else; return the size of the log."""
        behind = size - self._end
        if behind != len(self._half) or not behind or os.pread(self._fd, behind, self._end) != self._half:
            return size
        try:
            os.ftruncate(self._fd, self._end)
        except OSError as err:
            log.warning("half a record cannot be cut off the audit log", path=self.path, error=err.strerror)
            return size
        return self._end

    def _begin_to_announce(self) -> None:
        """Say on the disk that records will follow: what 0.1.0 or a clean stop left says that none does."""
        try:
            os.fdatasync(self._fd)  # or a power cut could leave a head whose record is lost
        except OSError:
            return  # the next record says it
        self._memory.write(flush=True)

    def _say_stopped(self) -> None:
        """Say that nothing follows; what waits for a flush gets it now."""
        try:
            os.fdatasync(self._fd)
        except OSError:
            return
        self._memory.stop(self._head)

    def _keep(self, found: Break) -> None:
        self._memory.keep(dataclasses.replace(found, time=self._time()))

    def _time(self) -> str:
        return rfc3339_micros(self._now())

    # -- the file -----------------------------------------------------------------------------------

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

    def _look_for_newest(self) -> None:
        """Report once what somebody else made of the log; `verify` sees it for ever."""
        seen = look_behind(self.path, self._head)
        found = seen.first_break(self._head, ())
        if found is not None:
            self._keep(found)
        if not seen.met:
            log.error(
                "the audit log was removed or cut: its newest record is not in it, nor in a rotated file beside it; "
                "find out who did that, run `keyturn audit verify`, and restore what is missing from a backup",
                path=self.path,
                seq=self._head.seq,
            )
        elif found is not None:
            log.error(
                f"{FOREIGN}; find out who did that, and run `keyturn audit verify`", path=self.path, found=str(found)
            )

    def _follow_rotation(self) -> bool:
        """Continue in the file that has the log's name now, and return whether that is another one."""
        mine = os.fstat(self._fd)
        try:
            there = os.stat(self.path, follow_symlinks=False)
            moved = (there.st_dev, there.st_ino) != (mine.st_dev, mine.st_ino)
        except FileNotFoundError:
            moved = True
        if moved:
            os.fdatasync(self._fd)  # a record may wait in it for the flush of the next one, which goes elsewhere now
            old, self._fd = self._fd, self._open()
            os.close(old)
        return moved

    def _find_end(self) -> Head:
        """Return the record behind which the next one goes. What keyturn did not write is never continued."""
        remembered = read_head(self._memory.path)
        if remembered is None:
            return self._end_without_memory()
        self._memory.know(remembered.breaks)
        announced = remembered.announced if remembered.knows_what_follows() else None
        seen = look_behind(self.path, remembered.head)
        found = seen.first_break(remembered.head, announced)
        last = self._last_record(None if found or announced is not None else remembered.head)
        ours = list(takewhile(lambda each: each.hash in remembered.announced, seen.records)) if seen.met else []
        if found is not None:
            self._keep(found)
            self.remarks.append(f"{FOREIGN}: {found}; run `keyturn audit verify`")
        elif seen.met and announced is None and last.seq > remembered.seq:
            if remembered.boot:  # 0.1.0 announced nothing
                self.remarks.append(
                    f"nothing proves that keyturn wrote seq {remembered.seq + 1} to {last.seq} of the audit log: "
                    "the state remembers less, as after a power cut"
                )
            return last
        elif not seen.met and last.seq:
            self.remarks.append(
                f"the audit log ends at seq {last.seq} but seq {remembered.seq} was written; run `keyturn audit verify`"
            )
        return ours[-1] if ours else remembered.head

    def _end_without_memory(self) -> Head:
        last = self._last_record(None)
        if last.seq:
            self.remarks.append(
                "the state does not remember the newest record of the audit log, so nothing proves its end"
            )
        return last

    def _last_record(self, known: Head | None) -> Head:
        """Return the last record of the newest file, after half of one was set aside.

        Args:
            known: the record behind which the chain has to hold; a power cut may have lost pages there.
        """
        tail = read_tail(self._fd)
        stands = sound_bytes(tail, known)
        if tail[stands:]:
            self._set_aside(tail[stands:])
        last = tail[: max(stands - 1, 0)].rpartition(b"\n")[2]
        if not last:
            return Head()
        record = parsed(last)
        if record is None:
            self.remarks.append("the last line of the audit log is not a record; run `keyturn audit verify`")
            return Head()
        return Head(record["seq"], record["hash"])

    def _set_aside(self, torn: bytes) -> None:
        aside = self.path.with_name(f"torn-{self._now():%Y%m%dT%H%M%SZ}-{self.path.name}")
        files.write_atomic(aside, torn, 0o600)
        try:
            os.ftruncate(self._fd, os.fstat(self._fd).st_size - len(torn))
        except OSError:
            self._half = torn  # it is tried again, and becomes a line of its own
        what = "last line" if torn.find(b"\n") in (-1, len(torn) - 1) else "end"
        self.remarks.append(f"a half-written {what} of {len(torn)} bytes was set aside as {aside.name}")
