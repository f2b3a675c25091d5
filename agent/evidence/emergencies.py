"""The emergencies that an audit log tells of: its records come by once, oldest first, and what matters is kept.

An attempt is a `rotation_requested` and what came of it; attempts on the same key of the same credential are one emergency.
Memory grows with the number of attempts, not with that of the records.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from agent.core.events import Event, Trigger
from agent.evidence.fields import (
    Asker,
    asker_of,
    in_short,
    left_behind_of,
    number_of,
    steps_of,
    text_of,
    texts_of,
    time_of,
)
from agent.evidence.incident import Attempt, LeftBehind, OldKey

MAX_RECORDS = 200
"""Records of one attempt that are told of one by one."""
PUBLISHES = frozenset({Event.PUBLISHED, Event.PUBLISH_RECOVERED, Event.DRIFT_REPAIRED})
MAX_OPEN = 100
"""Attempts without an end that later records may belong to: the newest. Of one credential only one is under way at a time."""
_OWN = frozenset({Event.ROTATION_STARTED, Event.OLD_KEY_DISABLED, Event.OLD_KEY_DELETED})
FAILED = "failed"


@dataclass(slots=True)
class Asked:
    """One `rotate` of the log, and what is known of the keys around it.

    Attributes:
        in_use, before: the credential's key when it was asked, and the one before that.
        old_id, version_id, new_id: as its own records name them; "" where none does.
        moved: credential and generation of each publish that it brought.
        has_end: whether it left `rotation_ended`.
        has_begun: whether it left a record of something that it did to a key.
    """

    credential: str
    first_seq: int
    last_seq: int
    told: Attempt
    asker: Asker
    in_use: OldKey | None = None
    before: OldKey | None = None
    old_id: str = ""
    version_id: str = ""
    new_id: str = ""
    generation: int | None = None
    moved: dict[tuple[str, int], None] = field(default_factory=dict)
    replaced_at: datetime | None = None
    disabled_at: datetime | None = None
    refused_at: datetime | None = None
    refusal: str = ""
    deleted_at: datetime | None = None
    left_behind: tuple[LeftBehind, ...] = ()
    left_behind_more: int = 0
    hosts: Any = None  # as the record has them
    is_open: bool = True
    has_end: bool = False
    has_begun: bool = False

    @property
    def key_id(self) -> str:
        """The key that it was about, as far as its own records and the publishes before it say."""
        if self.is_about_another:
            return self.told.leaked
        return self.old_id or self.told.leaked or (self.in_use.access_key_id if self.in_use else "")

    @property
    def is_about_another(self) -> bool:
        """Whether `--leaked` named a key that is not this credential's, so that nothing was done: a slip, or another's key."""
        around = {key.access_key_id for key in (self.in_use, self.before) if key is not None}
        return (
            bool(self.told.leaked and around) and not self.has_begun and self.told.leaked not in {self.new_id, *around}
        )

    @property
    def is_finished(self) -> bool:
        """Whether nothing of it is left to be taken up."""
        return self.told.ended_at is not None and not self.told.error

    def tells(self, **changes: Any) -> None:
        """Change what is told of it."""
        self.told = replace(self.told, **changes)

    def add(self, record: Mapping[str, Any]) -> None:
        """Add a record to what is told of it."""
        self.last_seq = max(self.last_seq, record["seq"])
        if len(self.told.records) < MAX_RECORDS:
            self.tells(records=(*self.told.records, in_short(record)))


@dataclass(frozen=True, slots=True)
class Emergency:
    """The attempts on one key of one credential, oldest first."""

    credential: str
    key_id: str
    asked: tuple[Asked, ...]

    @property
    def is_about_another(self) -> bool:
        """Whether its key is not the credential's, so that nothing was done."""
        return all(one.is_about_another for one in self.asked)

    @property
    def last(self) -> Asked:
        """The newest attempt that began."""
        return next((one for one in reversed(self.asked) if not one.told.turned_away), self.asked[-1])

    @property
    def moved(self) -> dict[tuple[str, int], None]:
        """Credential and generation of each publish that it brought, in their order."""
        return {one: None for attempt in self.asked for one in attempt.moved}

    @property
    def ended_seq(self) -> int:
        """The last record of the newest attempt that began."""
        return self.last.last_seq

    def first(self, name: str) -> Any:
        """Return what the first attempt that knows it says; None where none does."""
        return next((found for one in self.asked if (found := getattr(one, name))), None)

    def newest(self, name: str) -> Any:
        """Return what the newest attempt that knows it says; None where none does."""
        return next((found for one in reversed(self.asked) if (found := getattr(one, name))), None)

    def old_key(self) -> OldKey:
        """Return the life of the key that it was about."""
        seen = (key for one in self.asked for key in (one.in_use, one.before) if key is not None)
        known = next((key for key in seen if key.access_key_id == self.key_id), OldKey(self.key_id))
        return replace(
            known,
            replaced_at=self.first("replaced_at"),
            disabled_at=self.first("disabled_at"),
            refused_at=self.first("refused_at"),
            refusal=self.first("refusal") or "",
            deleted_at=self.first("deleted_at"),
            is_anothers=self.is_about_another,
        )


class Emergencies:
    """The emergencies of a log. `see` is called with each record, oldest first."""

    def __init__(self) -> None:
        self._asked: dict[str, list[Asked]] = {}
        self._keys: dict[str, tuple[OldKey | None, OldKey | None]] = {}
        self._identity: dict[str, tuple[str, str]] = {}
        self._open: deque[Asked] = deque(maxlen=MAX_OPEN)
        self.first_seq = 1
        """Number of the oldest record that is there."""
        self.credentials: set[str] = set()
        """Every credential that the log names."""
        self.head: tuple[int, str] = (0, "")
        """`seq` and hash of the newest record."""

    def see(self, record: Mapping[str, Any]) -> None:
        """Take note of a record."""
        event, name = text_of(record, "event"), text_of(record, "credential")
        if name:
            self.credentials.add(name)
        if not self.head[0]:
            self.first_seq = record["seq"]
        self.head = (record["seq"], text_of(record, "hash"))
        if event in (Event.AGENT_STARTED, Event.AGENT_STOPPED):
            self._open.clear()  # whatever was under way is not any more
        elif event in PUBLISHES:
            self._published(name, record)
        elif event == Event.ROTATION_REQUESTED:
            self._requested(name, record)
        elif event == Event.VERIFIED:
            self._verified(name, record)
        elif event == Event.ROTATION_ENDED:
            self._ended(name, record)
        elif event in _OWN:
            self._own(name, record)
        else:
            self._beside(name, record)

    def found(self) -> list[Emergency]:
        """Return the emergencies, the one whose newest attempt is the oldest first."""
        grouped = [one for name, asked in self._asked.items() for one in _grouped(name, asked)]
        return sorted(grouped, key=lambda one: one.asked[-1].first_seq)

    # -- the records --------------------------------------------------------------------------------

    def _beside(self, name: str, record: Mapping[str, Any]) -> None:
        """Add what an emergency did besides to what is told of it."""
        if record.get("trigger") == Trigger.EMERGENCY and (asked := self._under_way(name, record)) is not None:
            asked.add(record)

    def _verified(self, name: str, record: Mapping[str, Any]) -> None:
        """Keep whose key it is until its publish, which comes next."""
        who = text_of(record, "identity") or text_of(record, "outcome")
        self._identity[name] = (text_of(record, "access_key_id"), who if who.startswith("acs:") else "")
        self._beside(name, record)

    def _requested(self, name: str, record: Mapping[str, Any]) -> None:
        at = time_of(record)
        if at is None:
            return
        failed = record.get("outcome") == FAILED
        asked = self._under_way(name, record)
        if failed and asked is not None:
            asked.tells(error=text_of(record, "error"), ended_at=at)
            asked.add(record)
            return
        in_use, before = self._keys.get(name, (None, None))
        actor = record.get("actor")
        told = Attempt(
            at,
            at if failed else None,
            dict(actor) if isinstance(actor, Mapping) else {},
            text_of(record, "host"),
            text_of(record, "reason"),
            text_of(record, "access_key_id"),
            error=text_of(record, "error"),
            turned_away=failed,
        )
        made = Asked(name, record["seq"], record["seq"], told, asker_of(record), in_use, before, is_open=not failed)
        made.add(record)
        self._asked.setdefault(name, []).append(made)
        if not failed:
            self._open.append(made)

    def _own(self, name: str, record: Mapping[str, Any]) -> None:
        asked = self._under_way(name, record) or self._newest(name)
        if asked is None:
            return
        at = time_of(record)
        if record.get("event") == Event.ROTATION_STARTED:
            asked.old_id = text_of(record, "previous_access_key_id") or asked.old_id
            asked.version_id = text_of(record, "version_id")
        else:
            key_id = text_of(record, "access_key_id")
            if not asked.is_open and key_id != asked.key_id:
                return  # the end of another key: one that an ordinary rotation replaced
            asked.old_id = asked.old_id or key_id
            self._end_of_key(asked, record, at)
        asked.has_begun = True
        asked.add(record)

    def _end_of_key(self, asked: Asked, record: Mapping[str, Any], at: datetime | None) -> None:
        outcome = text_of(record, "outcome")
        if record.get("event") == Event.OLD_KEY_DELETED:
            asked.deleted_at = asked.deleted_at or at
        elif outcome.startswith("refused"):
            asked.refused_at, asked.refusal = asked.refused_at or at, outcome
        else:
            asked.disabled_at = asked.disabled_at or at

    def _ended(self, name: str, record: Mapping[str, Any]) -> None:
        asked = self._under_way(name, record)
        if asked is None:
            return
        asked.old_id = text_of(record, "previous_access_key_id") or asked.old_id
        asked.new_id = text_of(record, "access_key_id") or asked.new_id
        asked.version_id = text_of(record, "version_id") or asked.version_id
        asked.generation = number_of(record, "generation") or asked.generation
        asked.left_behind, asked.left_behind_more = left_behind_of(record.get("left_behind"))
        asked.hosts = record.get("hosts")
        asked.has_end, asked.is_open = True, False
        asked.tells(
            ended_at=time_of(record),
            outcome=text_of(record, "outcome"),
            error=text_of(record, "error"),
            duration_ms=number_of(record, "duration_ms"),
            steps=steps_of(record.get("steps")),
        )
        asked.add(record)
        self._open.remove(asked)

    def _published(self, name: str, record: Mapping[str, Any]) -> None:
        key_id, generation = text_of(record, "access_key_id"), number_of(record, "generation")
        current, _ = self._keys.get(name, (None, None))
        is_new = (
            bool(key_id) and record.get("outcome") != "rolled back" and (not current or current.access_key_id != key_id)
        )
        if is_new:
            proved, who = self._identity.get(name, ("", ""))
            key = OldKey(
                key_id,
                text_of(record, "version_id"),
                time_of(record, "created_at"),
                time_of(record),
                generation,
                text_of(record, "trigger"),
                texts_of(record, "sinks"),
                who if proved == key_id else "",
                time_of(record, "expiration"),
            )
            self._keys[name] = (key, current)
            self._replaced(name, current, key, text_of(record, "previous_access_key_id"))
        by_emergency = record.get("trigger") == Trigger.EMERGENCY
        for asked in self._open:
            is_its_own = asked.credential == name and (by_emergency or is_new)
            if is_its_own or (by_emergency and asked.asker == asker_of(record)):
                if generation is not None:
                    asked.moved[(name, generation)] = None
                asked.add(record)

    def _replaced(self, name: str, current: OldKey | None, key: OldKey, previous_id: str) -> None:
        """Note that a key has taken the place of the one that an emergency was about, whoever brought it."""
        asked = self._newest(name)
        replaced_id = current.access_key_id if current else previous_id
        if asked is None or not replaced_id or asked.key_id != replaced_id or asked.replaced_at is not None:
            return
        asked.replaced_at, asked.new_id, asked.generation = key.published_at, key.access_key_id, key.generation
        asked.version_id = asked.version_id or key.version_id
        if key.generation is not None:
            asked.moved[(name, key.generation)] = None

    # -- finding an attempt -------------------------------------------------------------------------

    def _under_way(self, name: str, record: Mapping[str, Any]) -> Asked | None:
        """Return the newest attempt on a credential that has no end yet and was asked for by whom the record names."""
        of_them = (one for one in reversed(self._open) if one.credential == name)
        return next((one for one in of_them if one.asker == asker_of(record)), None)

    def _newest(self, name: str) -> Asked | None:
        return self._asked[name][-1] if name in self._asked else None


def _grouped(name: str, asked: Sequence[Asked]) -> Iterator[Emergency]:
    """Yield a credential's emergencies: the attempts on the same key, and those that name no key where they belong to these."""
    groups: dict[str, list[Asked]] = {}
    key_id, before = "", None
    for one in asked:
        if one.is_about_another:
            groups.setdefault(one.key_id, []).append(one)
            continue
        if before is None or not _goes_on(one, before, key_id):
            key_id = one.key_id or f"seq {one.first_seq}"
        groups.setdefault(key_id, []).append(one)
        before = before if before is not None and one.told.turned_away else one
    for key, attempts in groups.items():
        yield Emergency(name, "" if key.startswith("seq ") else key, tuple(attempts))


def _goes_on(one: Asked, before: Asked, key_id: str) -> bool:
    """Return whether an attempt that names no key is about the key of the one before it."""
    if one.old_id or one.told.leaked:
        return False
    around = {key.access_key_id for key in (one.in_use, one.before) if key is not None}
    if around and key_id not in around:
        return False
    return one.told.turned_away or not before.is_finished or one.first_seq < before.last_seq
