"""What stands in the state directory: one `CredentialRecord` for each credential, never a secret."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from agent.core.credential import Credential
from agent.core.events import Trigger
from agent.state.ram_record import RamRecord


def key(identity: tuple[str, ...]) -> str:
    """Return the key of a dependent in the maps of `CredentialRecord`."""
    return "\0".join(identity)


def called(identity: tuple[str, ...]) -> str:
    """Return a dependent's name for people: without arguments and query, which may hold a token."""
    kind, *rest = identity
    if kind == "exec":
        return f"exec {rest[1]}"  # behind its user
    return f"{kind} {next(filter(None, rest[1:] if kind == 'signal' else rest), '').partition('?')[0]}"


class Debt(msgspec.Struct, omit_defaults=True):
    """The debt to a dependent that is to be told of a generation.

    Attributes:
        identity: whom, as `Notifier.identity` says; stable over changes of the config's order.
        generation: the newest generation owed; a newer one supersedes an older one.
        since: when it was owed, or its files were switched; a process that started before may have read the old value.
        trigger: why there was a publish, for the audit and the event.
        attempts: how often it was tried.
    """

    identity: tuple[str, ...]
    generation: int
    since: datetime
    trigger: Trigger
    attempts: int = 0


class Published(msgspec.Struct, omit_defaults=True, frozen=True):
    """The newest generation: what the sinks hold, or shall hold while a publish is open."""

    generation: int = 0
    access_key_id: str = ""
    previous_access_key_id: str = ""
    version_id: str = ""
    expiration: datetime | None = None
    obtained_at: datetime | None = None
    published_at: datetime | None = None
    verified: str = ""  # "verified", "unreachable" or "off"
    ram_user_name: str = ""
    layout: str = ""  # a fingerprint of the sinks' settings: what was written is what the config asks for
    source: str = ""  # a fingerprint of how the source was asked: a changed config is not held to the old value's life
    created_at: datetime | None = None  # of the key, where its source says so

    def without_secrets(self) -> Credential | None:
        """Return the value as far as it is known without its secrets; None before the first publish."""
        if not self.generation:
            return None
        return Credential(
            access_key_id=self.access_key_id,
            version_id=self.version_id,
            expiration=self.expiration,
            ram_user_name=self.ram_user_name,
            created_at=self.created_at,
        )


class RotationJournal(msgspec.Struct, omit_defaults=True, frozen=True):
    """An emergency rotation that was begun: taken up again by the next `rotate`, so KMS never rotates twice."""

    version_id: str
    begun_at: datetime
    reason: str
    old_access_key_id: str
    asked: bool = False  # RotateSecret was answered
    refused_with: str = ""  # the code with which a call signed with the old key was refused, before it is deleted


class RotationEnd(msgspec.Struct, omit_defaults=True, frozen=True):
    """What became of the last emergency rotation, for the next `rotate`: the same command may have been run again.

    Attributes:
        by: the operator's user name.
        old_key: "active", "disabled" or "deleted".
        safe: a call signed with the old key was seen refused.
    """

    ended_at: datetime
    by: str
    reason: str
    old_access_key_id: str
    new_access_key_id: str
    old_key: str
    safe: bool


class CredentialRecord(msgspec.Struct, omit_defaults=True):
    """The file of one credential, as it has been written since 0.1.0; `CredentialState` is what becomes of it."""

    published: Published = Published()
    debts: list[Debt] = []
    last_outcome: dict[str, str] = {}  # `key(identity)` -> outcome of the last notification
    pickup: dict[str, str] = {}  # `key(identity)` -> what is known of the pickup
    last_success_at: datetime | None = None
    tried_since: datetime | None = None  # the first failure, while nothing ever succeeded
    consecutive_failures: int = 0
    last_error: str = ""
    stale: bool = False
    rotation: RotationJournal | None = None
    rotations: list[datetime] = []  # when rotations were begun: the newest, and those within the hour before it
    rotation_end: RotationEnd | None = None
    journal: list[dict[str, Any]] = []  # the staged files of a publish that is not known to have ended
    switched: bool = False  # every sink of the journal is switched: only the record of it is missing
    journal_seq: int = 0  # the newest audit record when the journal was written
    before: Published | None = None  # what to return to when the journal cannot be finished
    untold: int = 0  # the newest generation of which a dependent was not told that the config no longer names
    too_old: str = ""  # the AccessKey whose age was an alarm, while it stands
    restricted: dict[str, str] = {}  # AccessKey that is restricted as leaked -> by what that was seen
    spent: int = 0  # the newest generation that a crash took back: somebody may have heard of it all the same
    ram: RamRecord | None = None  # the AccessKeys of a RAM user that keyturn rotates itself
