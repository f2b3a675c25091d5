"""The proof that the log is whole: `keyturn audit verify`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.audit.authenticity import Authenticity
from agent.audit.chain import canonical, digest, faults
from agent.audit.head import Break, Head, Remembered, read_head
from agent.audit.hmac_key import HmacKey
from agent.audit.journal_heads import ToldHeads
from agent.audit.lines import Line, lines
from agent.audit.reader import rotated_files
from agent.core.errors import AuditError

MAX_PROBLEMS = 1000
MAX_BEHIND = 100
RECENT = 512
"""The newest records, among which a newer head is looked for: more than stand behind it (agent/audit/log.py)."""
TRIES = 8
Onlooker = Callable[[dict[str, Any]], None]
"""Is called with each record, whether it is in order or not."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of `audit verify`.

    Attributes:
        records: how many were read.
        files: where.
        problems: what is wrong.
        notes: what a crash leaves, and is no sign of tampering.
    """

    records: int
    files: tuple[str, ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


@dataclass(frozen=True, slots=True)
class Witnesses:
    """What an auditor has besides the log and the state.

    Attributes:
        keys: those that authenticated records, one after the other.
        journal: the heads that were said to the journal.
    """

    keys: tuple[HmacKey, ...] = ()
    journal: ToldHeads | None = None


NOBODY_ELSE = Witnesses()


def verify_against(
    path: Path,
    head_path: Path,
    *,
    first_seq: int = 1,
    witnesses: Witnesses = NOBODY_ELSE,
    onlooker: Callable[[], Onlooker] | None = None,
) -> Verdict:
    """Check that the log is whole, while keyturn may be writing it.

    A log that is read after its head goes further, the longer it is the more. So what is not whole is judged again by the
    newer head: what was appended meanwhile is read, and the rest not once more.

    Args:
        path: the newest file of the log.
        head_path: the state's file about it.
        first_seq: as for `verify`.
        witnesses: as for `verify`.
        onlooker: is called at the beginning of each reading; what it returns is shown that reading's records.

    Raises:
        NotPermittedError: a file may not be read by this user.
    """
    remembered = read_head(head_path)
    for _ in range(TRIES):
        reading = _Reading(path, remembered, first_seq, witnesses, onlooker() if onlooker else None)
        verdict: Verdict | None = reading.verdict()
        for _ in range(TRIES):
            if verdict is None:
                break  # the log was rotated meanwhile, or is too different: it is read anew
            after = read_head(head_path)
            if verdict.whole or after == remembered:
                return verdict
            last, remembered = verdict, after
            verdict = reading.go_on(remembered)
        else:
            return verdict or last
    return last


def verify(
    path: Path,
    remembered: Remembered | None,
    *,
    first_seq: int = 1,
    is_copy: bool = False,
    witnesses: Witnesses = NOBODY_ELSE,
    onlooker: Onlooker | None = None,
) -> Verdict:
    """Check that the log is whole.

    Args:
        path: the newest file of the log.
        remembered: what the state remembers; None where it has nothing, and so cannot prove the end.
        first_seq: the number that the oldest kept record must have; more than 1 where older files were
            archived elsewhere.
        is_copy: whether it lies where no state can be, so that an end that is not proved is no fault of it.
        witnesses: what else there is.
        onlooker: is shown the records, so that they are read once.

    Raises:
        NotPermittedError: a file may not be read by this user.
    """
    return _Reading(path, remembered, first_seq, witnesses, onlooker, is_copy=is_copy).verdict()


class _Reading:
    """One reading of the log and its rotated files, to its end; it can go on where that has moved."""

    def __init__(
        self,
        path: Path,
        remembered: Remembered | None,
        first_seq: int,
        witnesses: Witnesses,
        onlooker: Onlooker | None,
        *,
        is_copy: bool = False,
    ) -> None:
        self._path, self._onlooker, self._is_copy = path, onlooker, is_copy
        self._proof = _Proof(first_seq, remembered, witnesses.journal, Authenticity(witnesses.keys))
        self._bytes = self._lines = 0
        self._torn: Line | None = None
        """The last line of the newest file where it has no end: it may still be written."""
        if witnesses.journal is not None:
            witnesses.journal.again()
        self._newest = _identity(path)
        self._files = rotated_files(path)
        for file in self._files:
            self._read(file)
            if self._is_given_up:
                self._proof.problems.append(f"{file}: so much is wrong that nothing behind this is read")
                break

    @property
    def _is_given_up(self) -> bool:
        return len(self._proof.problems) >= MAX_PROBLEMS

    def _read(self, file: Path) -> None:
        is_newest = file == self._path
        skipped = {"skip_bytes": self._bytes, "skip_lines": self._lines} if is_newest else {}
        try:
            for line in lines(file, **skipped):
                if is_newest and not line.ended:
                    self._torn = line
                    break
                self._see(file, line)
                if is_newest:
                    self._bytes, self._lines = self._bytes + len(line.text) + 1, line.number
                if self._is_given_up:
                    break
        except AuditError as error:
            self._proof.problems.append(str(error))

    def _see(self, file: Path, line: Line) -> None:
        self._proof.see(file, line)
        if self._onlooker is not None and line.record is not None:
            self._onlooker(line.record)

    def go_on(self, remembered: Remembered | None) -> Verdict | None:
        """Judge again by a newer head, with what was appended since; None where that takes another reading."""
        proof = self._proof
        moved = self._newest is None or _identity(self._path) != self._newest or self._files[-1:] != [self._path]
        was_seen = self._torn is not None and self._torn.record is not None  # as a record, though its end was missing
        if moved or was_seen or proof.problems or proof.journal is not None or not proof.follows(remembered):
            return None
        self._torn = None
        self._read(self._path)
        return self.verdict()

    def verdict(self) -> Verdict:
        """Judge the end by the head that is known; this can be asked again."""
        proof = self._proof
        problems, notes = len(proof.problems), len(proof.notes)
        if self._torn is not None:
            self._see(self._path, self._torn)
        proof.end(self._path, is_copy=self._is_copy)
        found = Verdict(proof.count, tuple(map(str, self._files)), tuple(proof.problems), tuple(proof.notes))
        del proof.problems[problems:], proof.notes[notes:]
        return found


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


@dataclass(slots=True)
class _Proof:
    """What was seen so far."""

    expected: int
    remembered: Remembered | None
    journal: ToldHeads | None
    authenticity: Authenticity
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    count: int = 0
    highest: int = 0
    _first: int = 1
    _previous: Head | None = None
    _met: bool = False
    """Whether the record that the state remembers was among them."""
    _behind: list[tuple[str, Head]] = field(default_factory=list)
    """The records after that one, each with its place."""
    _recent: deque[tuple[str, Head]] = field(default_factory=lambda: deque(maxlen=RECENT))

    def __post_init__(self) -> None:
        self._first = self.expected
        self._previous = None if self.expected > 1 else Head()
        self._met = self.remembered is not None and self.remembered.seq == 0

    def see(self, file: Path, line: Line) -> None:
        """Judge one line."""
        place = f"{file}:{line.number}"
        if line.record is None:
            if line.ended:
                self.problems.append(f"{place}: not a whole record")
            else:
                self.notes.append(
                    f"{place}: half a record of {len(line.text)} bytes, which was never acknowledged: a crash"
                )
            return
        try:
            record, written, claimed = line.record, canonical(line.record), digest(line.record)
        except RecursionError:
            self.problems.append(f"{place}: not a whole record")
            return
        self.count += 1
        if line.text != written:
            self.problems.append(f"{place}: seq {record['seq']}: the line was edited (it is not what was written)")
        self.problems.extend(f"{place}: {what}" for what in faults(record, self.expected, self._previous, claimed))
        self._previous = Head(record["seq"], str(record.get("hash")))
        self.expected = record["seq"] + 1
        self.authenticity.see(place, record)
        found = Head(record["seq"], claimed)
        if self.journal is not None:
            self._compare_with_journal(self.journal, place, found)
        self._compare(place, found)

    def _compare_with_journal(self, journal: ToldHeads, place: str, found: Head) -> None:
        gone = journal.before(found.seq)
        if (
            self.count > 1
        ):  # before the first record that is kept, the log is archived, or its beginning is missing anyway
            self.problems.extend(f"{place}: the journal names seq {told.seq}, which is not in the log" for told in gone)
        self.problems.extend(
            f"{place}: seq {told.seq} has the hash {found.hash}, and the journal names {told.hash}: the log was rewritten"
            for told in journal.of(found.seq)
            if told != found
        )

    def follows(self, remembered: Remembered | None) -> bool:
        """Go by a newer head from now on; return False where it is none of the newest records, and none that is still to come."""
        if remembered is None:
            return False
        at = next((at for at, (_place, found) in enumerate(self._recent) if found == remembered.head), None)
        if at is None and remembered.seq <= self.highest:
            return False
        self.remembered, self._met = remembered, at is not None
        self._behind = [] if at is None else list(self._recent)[at + 1 :][:MAX_BEHIND]
        return True

    def _compare(self, place: str, found: Head) -> None:
        self._recent.append((place, found))
        self.highest = max(self.highest, found.seq)
        if self.remembered is None:
            return
        if found == self.remembered.head:
            self._met = True
            self._behind.clear()
        elif self._met and len(self._behind) < MAX_BEHIND:
            self._behind.append((place, found))

    def end(self, path: Path, *, is_copy: bool) -> None:
        """Judge what only the state can prove: that the history is the one that was written, and that its end is there."""
        known = self.remembered
        if is_copy and not self.count and not self.problems:
            self.problems.append(f"{path}: it has no record")
        self.problems.extend(f"{path}: {what}" for what in self.authenticity.problems())
        self.notes.extend(f"{path}: {what}" for what in self.authenticity.notes())
        if self.journal is not None:
            self.problems.extend(
                f"{path}: the end is missing: the journal names seq {told.seq}" for told in self.journal.left()
            )
        if known is None:
            if self.count and self.journal is not None:
                self.notes.append(
                    f"{path}: the journal proves the end up to seq {self.journal.last.seq}; what is behind it could be gone"
                )
            elif self.count and not is_copy:
                self.problems.append(f"{path}: the end cannot be proved: the state does not remember the newest record")
            return
        if self._met:
            self._judge_what_is_behind(known)
        elif self.highest < known.seq:
            self.problems.append(
                f"{path}: the end is missing: seq {self.highest + 1} to {known.seq} were written and are gone"
            )
        else:
            self.problems.append(f"{path}: seq {known.seq} is not the record that the state remembers ({known.hash})")
        self.problems.extend(f"{path}: {found}; noticed at {found.time}" for found in self._breaks(known))

    def _judge_what_is_behind(self, known: Remembered) -> None:
        foreign = [(place, found) for place, found in self._behind if found.hash not in known.announced]
        if foreign and known.knows_what_follows():
            self.problems.extend(f"{place}: {Break(found.seq, '', found.hash)}" for place, found in foreign)
        elif foreign:
            self.notes.append(
                f"{foreign[0][0]}: from seq {foreign[0][1].seq} on nothing proves that keyturn wrote it: "
                "the state remembers less, as after a power cut"
            )

    def _breaks(self, known: Remembered) -> Iterator[Break]:
        return (found for found in known.breaks if found.seq >= self._first)
