"""What is remembered of a RAM user's AccessKeys: which of them are ours, and what was begun. Never a secret.

Only a key that stands here is ever disabled or deleted; how one gets in, and out again: agent/ram_rotation/journal.py.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

MADE, ADOPTED, GUESSED = "made", "adopted", "guessed"


class RamKey(msgspec.Struct, omit_defaults=True, frozen=True):
    """An AccessKey that is ours.

    Attributes:
        origin: `made` by CreateAccessKey, whose reply was heard; `adopted` by the operator; `guessed` to be made by a
            CreateAccessKey whose reply was lost.
        known_at: since when it stands here.
        created_at: as RAM says.
        is_published: sinks held it once, so somebody may use it.
        replaced_at: when another key took its place.
        disabled_at: when it was set inactive, or was first seen so.
        deleted_at: when RAM was told to delete it; the entry stays until no list shows it any more.
    """

    access_key_id: str
    origin: str
    known_at: datetime
    created_at: datetime | None = None
    is_published: bool = False
    replaced_at: datetime | None = None
    disabled_at: datetime | None = None
    deleted_at: datetime | None = None


class RamIntent(msgspec.Struct, omit_defaults=True, frozen=True):
    """A CreateAccessKey that was about to be called: on disk before RAM hears of it.

    Attributes:
        begun_at: by this host's clock, right before the call.
        known: every key that the user had then.
        access_key_id: of the key that was made; "" while no reply was heard.
    """

    begun_at: datetime
    reason: str
    known: tuple[str, ...] = ()
    access_key_id: str = ""
    created_at: datetime | None = None


class RamRecord(msgspec.Struct, omit_defaults=True, frozen=True):
    """All of one user's.

    Attributes:
        host: the machine that wrote it (agent/system/machine.py); "" before anything was written.
        user: the RAM user.
        lost: the intents whose reply was lost, until it is known whether they made a key.
        fence: the number of the fleet's lease under which this host began to make a key last; 0 for none.
        unusable: the key in use, while RAM's newest list says that it is inactive or gone; "" otherwise.
    """

    host: str = ""
    user: str = ""
    keys: tuple[RamKey, ...] = ()
    intent: RamIntent | None = None
    lost: tuple[RamIntent, ...] = ()
    fence: int = 0
    unusable: str = ""

    def key(self, access_key_id: str) -> RamKey | None:
        """Return the entry of a key; None for one that is not ours."""
        return next((one for one in self.keys if one.access_key_id == access_key_id), None)


class RamKeys:
    """The record of one credential's RAM user. Changed on the loop's thread alone, through `replace`."""

    def __init__(self, record: RamRecord | None = None) -> None:
        self._record = record or RamRecord()

    @property
    def record(self) -> RamRecord:
        """What is remembered; frozen."""
        return self._record

    def replace(self, record: RamRecord) -> None:
        """Remember this from now on."""
        self._record = record
