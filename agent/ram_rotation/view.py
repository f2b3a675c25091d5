"""What the decision looks at, and what it can decide: frozen values, no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from agent.core.ram_user import RamUserPlan
from agent.state.ram_record import RamKey, RamRecord

ACTIVE, INACTIVE = "Active", "Inactive"


class Wanted(StrEnum):
    """Whether a new key is wanted now."""

    NO = "no"
    DUE = "due"
    """By the schedule, or because there is none yet."""
    EMERGENCY = "emergency"
    """By the operator: what has no more use gives way to it."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A key as RAM lists it."""

    access_key_id: str
    status: str
    created_at: datetime | None

    @property
    def is_active(self) -> bool:
        """Whether calls can be signed with it."""
        return self.status == ACTIVE


@dataclass(frozen=True, slots=True)
class LastUse:
    """What RAM knows of the last use of a key: `at` is None for a key that was never used.

    Attributes:
        service: which one it called, where RAM says so; "" otherwise.
    """

    at: datetime | None
    service: str = ""


@dataclass(frozen=True, slots=True)
class InUse:
    """What this host publishes.

    Attributes:
        access_key_id: of the newest generation; "" before the first.
        since: when that was published.
        is_known: its secret is at hand, so that the files can be put right.
        is_proved: STS took it, or proof is switched off.
        owed: dependents that have not been told of it.
        in_sinks: every key that a sink holds at this moment.
        made_id: a key that this process made and has not published; "" for none.
        unreadable: sinks that hold something which could not be read.
    """

    access_key_id: str = ""
    since: datetime | None = None
    is_known: bool = False
    is_proved: bool = False
    owed: tuple[str, ...] = ()
    in_sinks: frozenset[str] = frozenset()
    made_id: str = ""
    unreadable: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class View:
    """Everything that a decision goes by.

    Attributes:
        host: this machine (agent/system/machine.py).
        listed: the user's keys, from RAM, a moment ago.
        used: of those keys whose last use was asked for.
        unowned: why this host rotates nothing now, and so has asked RAM for nothing; None where it does.
    """

    place: str
    name: str
    plan: RamUserPlan
    host: str
    record: RamRecord
    listed: tuple[Listed, ...]
    in_use: InUse
    wanted: Wanted
    now: datetime
    used: Mapping[str, LastUse] = field(default_factory=dict)
    unowned: Rest | None = None

    def row(self, access_key_id: str) -> Listed | None:
        """Return the entry of RAM's list; None where the key is not in it."""
        return next((one for one in self.listed if one.access_key_id == access_key_id), None)

    @property
    def present(self) -> tuple[Listed, ...]:
        """The keys of the list without those that were deleted by us: a list may lag behind."""
        gone = {one.access_key_id for one in self.record.keys if one.deleted_at is not None}
        return tuple(one for one in self.listed if one.access_key_id not in gone)

    @property
    def strangers(self) -> tuple[Listed, ...]:
        """The keys that are not ours."""
        ours = {one.access_key_id for one in self.record.keys}
        if self.record.intent is not None:
            ours.add(self.record.intent.access_key_id)
        return tuple(one for one in self.listed if one.access_key_id not in ours)

    @property
    def others(self) -> tuple[RamKey, ...]:
        """The keys that are ours, in the list, and not the one in use."""
        present = {one.access_key_id for one in self.present}
        return tuple(
            one
            for one in self.record.keys
            if one.access_key_id in present and one.access_key_id != self.in_use.access_key_id
        )


# -- what can be decided ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Note:
    """Write this down, and decide anew."""

    record: RamRecord


@dataclass(frozen=True, slots=True)
class AskLastUse:
    """Ask RAM when a key was used last, and decide anew."""

    access_key_id: str


@dataclass(frozen=True, slots=True)
class Create:
    """Write the intent down, and make a key."""

    known: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Publish:
    """Have the key that was made proved and published."""

    access_key_id: str


@dataclass(frozen=True, slots=True)
class Forsake:
    """Hand out the key in use again instead of the one that was made, which RAM has no more or does not take."""

    access_key_id: str


@dataclass(frozen=True, slots=True)
class Disable:
    """Set a key of ours inactive."""

    access_key_id: str
    why: str


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete a key of ours that is inactive."""

    access_key_id: str
    why: str


@dataclass(frozen=True, slots=True)
class Rest:
    """Nothing is to be done now.

    Attributes:
        text: what is waited for, or what is wrong; "" where all is well.
        remedy: what the operator does about it.
        until: when to look again; None for whenever that is anyway.
        is_wrong: nothing goes on until somebody changes something.
    """

    text: str = ""
    remedy: str = ""
    until: datetime | None = None
    is_wrong: bool = False


Action = Note | AskLastUse | Create | Publish | Forsake | Disable | Delete | Rest
