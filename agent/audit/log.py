"""The writer of the audit log.

One keyturn writes a log: two with different state directories would each continue the chain from their own head. So the
file is locked (flock) for as long as it is written; reading it, or renaming it away, needs no lock.

The file, and what others do to it meanwhile: log_file.py. Where somebody changed it, the newest record is looked for in it and
its rotated files, as `verify` would. Nothing else of the log is read again.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import takewhile
from pathlib import Path
from typing import Any

from agent.audit.chain import follower, refuse_unknown
from agent.audit.continuation import look_behind, sound_bytes
from agent.audit.head import Break, Head, read_head
from agent.audit.head_file import HeadFile
from agent.audit.hmac_key import HmacKey
from agent.audit.lines import MAX_LINE_BYTES, parsed
from agent.audit.log_file import LogFile, unwritable
from agent.audit.origin import OF_A_CONFIG, Origin
from agent.audit.reader import read
from agent.audit.recent import highest_generations, passed_over, records_at_end, records_behind
from agent.core.errors import AuditError, KeyturnError
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


class AuditLog:
    """The log, open for appending. Safe to use from several threads."""

    def __init__(
        self,
        path: Path,
        head_path: Path,
        now: Callable[[], datetime],
        origin: Origin | None = None,
        key: HmacKey | None = None,
    ) -> None:
        """Open the log and find its end.

        Args:
            path: the newest file of the log.
            head_path: the state's file about it.
            now: the wall clock, for the time of each record.
            origin: what records have in common.
            key: by which they are authenticated; None for not at all.

        Raises:
            AuditBusyError: another keyturn writes it.
            AuditError: the log cannot be opened or read.
        """
        self.path = path
        self._now, self._key = now, key
        self._origin = origin or Origin()
        self._describe()
        self._lock = threading.Lock()
        self._generations: dict[bool, dict[str, int]] = {}
        self.remarks: list[str] = []
        """Findings of the opening, for the first record: a torn line, a missing end, a history that keyturn did not write."""
        self._memory = HeadFile(head_path)
        self._file = LogFile(path, self._look_for_newest)
        try:
            self._head = self._find_end()
            self._memory.goes_on_behind(self._head)
            self._file.begin()
            self._begin_to_announce()
        except BaseException:
            self._file.close()
            raise

    def follow_config(self, digest: str) -> None:
        """Name another config in the records from now on."""
        with self._lock:
            self._origin = self._origin.under(digest)
            self._describe()

    def _describe(self) -> None:
        self._common, self._of_a_config = self._origin.of_all(), self._origin.of_a_config()

    @property
    def flushed(self) -> Head:
        """The newest record that is known to be on the disk."""
        return self._memory.acknowledged

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
            record, line = follower(head, self._time(), event, fields, common, self._key)
            self._refuse_long(line)
            head = Head(record["seq"], record["hash"])
            records.append(record)
            lines.append(line)
        flush = flush or self._memory.waiting + len(records) > WAITING
        self._memory.announce([record["hash"] for record in records])
        written = 0
        try:
            written = self._file.append(lines, flush)
        finally:
            self._memory.withdraw(len(records) - written)
        if written:
            self._head = Head(records[written - 1]["seq"], records[written - 1]["hash"])
        if written < len(records):
            raise unwritable(self.path, "No space left on device, or the limit on a file's size is reached")
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
            if self._file.is_open:
                self._say_stopped()
                self._file.close()
                self._memory.close()

    def _refuse_long(self, line: bytes) -> None:
        if len(line) > MAX_LINE_BYTES:
            raise AuditError(
                f"{self.path}: a record would be longer than {MAX_LINE_BYTES} bytes, which no reader takes",
                "give a shorter reason, or divide the sinks among several credentials",
            )

    def _begin_to_announce(self) -> None:
        """Say on the disk that records will follow: what 0.1.0 or a clean stop left says that none does."""
        if self._file.flush():  # or a power cut could leave a head whose record is lost; else the next record says it
            self._memory.write(flush=True)

    def _say_stopped(self) -> None:
        """Say that nothing follows; what waits for a flush gets it now."""
        if self._file.flush():
            self._memory.stop(self._head)

    def _keep(self, found: Break) -> None:
        self._memory.keep(dataclasses.replace(found, time=self._time()))

    def _time(self) -> str:
        return rfc3339_micros(self._now())

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
        tail = self._file.tail()
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
        self._file.cut_off(torn)
        what = "last line" if torn.find(b"\n") in (-1, len(torn) - 1) else "end"
        self.remarks.append(f"a half-written {what} of {len(torn)} bytes was set aside as {aside.name}")
