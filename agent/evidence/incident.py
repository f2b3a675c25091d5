"""One emergency, as it is told to people and programs: what is known, and how it is known.

An emergency is everything that was done about one key of one credential: a `rotate` that failed or was interrupted, and
those that took it up, are its attempts. What is not known is None or empty, and the document says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from agent.core.credential import SESSION
from agent.core.timestamps import rfc3339_micros
from agent.evidence.plain import plain


class How(StrEnum):
    """How a dependent is known to have come by the new key."""

    CONFIRMED = "confirmed"
    ASSUMED = "assumed"
    LEFT_BEHIND = "left behind"
    NOT_TOLD = "not told"


@dataclass(frozen=True, slots=True)
class Step:
    """One step of an attempt; `at_ms` is when it ended, since the command."""

    name: str
    outcome: str
    ms: int
    at_ms: int
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """A record of the audit log that belongs to an attempt, in short."""

    seq: int
    at: datetime | None
    event: str
    text: str


@dataclass(frozen=True, slots=True)
class LeftBehind:
    """Who was known to be still on the old key when the last attempt ended; `move` is the command that moves it.

    Attributes:
        dependent: "" for the credential itself.
        moved_at: when it was seen to have moved after all.
    """

    credential: str
    dependent: str
    reason: str
    move: str
    moved_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One `keyturn rotate`.

    Attributes:
        began_at: when the command came, as far as it is known.
        ended_at: None where the log has no end of it: it was interrupted, or goes on.
        actor: `user`, `uid` and `pid` of whoever asked.
        leaked: the id that was given by `--leaked`.
        steps: how each ended; None where nobody wrote them down (an older keyturn, or one that was killed).
        turned_away: it never began: another one was under way, or had done it already.
    """

    began_at: datetime
    ended_at: datetime | None = None
    actor: dict[str, Any] = field(default_factory=dict)
    host: str = ""
    reason: str = ""
    leaked: str = ""
    outcome: str = ""
    error: str = ""
    duration_ms: int | None = None
    steps: tuple[Step, ...] | None = None
    records: tuple[Record, ...] = ()
    turned_away: bool = False


@dataclass(frozen=True, slots=True)
class OldKey:
    """The life of the key that leaked.

    Attributes:
        created_at: as the cloud says.
        identity: whose it is, as STS said.
        published_at: its first publish on this host, with its generation, what brought it, and the sinks that held it.
        expires_at: of a session.
        replaced_at: the publish of the key after it.
        disabled_at: RAM set it inactive.
        refused_at: a call signed with it was seen refused, with `refusal`.
        deleted_at: RAM deleted it.
        is_anothers: the log shows other keys in use when it was named: it is not this credential's.
    """

    access_key_id: str
    version_id: str = ""
    created_at: datetime | None = None
    published_at: datetime | None = None
    generation: int | None = None
    trigger: str = ""
    sinks: tuple[str, ...] = ()
    identity: str = ""
    expires_at: datetime | None = None
    replaced_at: datetime | None = None
    disabled_at: datetime | None = None
    refused_at: datetime | None = None
    refusal: str = ""
    deleted_at: datetime | None = None
    is_anothers: bool = False

    @property
    def is_session(self) -> bool:
        """Whether it is a session of STS."""
        return self.access_key_id.startswith(SESSION)


@dataclass(frozen=True, slots=True)
class Dependent:
    """Somebody who was to get the new key.

    Attributes:
        name: such as "systemd web.service"; "" for those who fetched the credential themselves.
        at: when that was seen.
        text: an error, or who fetched it.
    """

    credential: str
    name: str
    how: How
    told_at: datetime | None = None
    at: datetime | None = None
    text: str = ""


@dataclass(frozen=True, slots=True)
class Host:
    """Another host of the fleet, as the last attempt left it.

    Attributes:
        moved_at: when it was seen to have proved the new key, with nothing owed there; None where it was not.
        state: "live" or "absent", of one that had not.
        why: what was missing.
    """

    host: str
    moved_at: datetime | None = None
    state: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Basis:
    """What the document rests on.

    Attributes:
        log: the audit log; "" where it was not read, and `why_not` says why.
        first_seq, last_seq: of the records that are told of.
        head_seq, head_hash: of the newest record of the log when it was read.
        whole: whether the log verified; None where that could not be tried.
        verified_from: the first `seq` of the proof.
        is_copy: it is a copy of the log, read without the config and the state that belong to it.
        end_proved: the state, or a head that somebody knew, confirmed that nothing is missing behind its newest record.
        problems: what is wrong with the log, or why it could not be verified; the first few.
    """

    log: str = ""
    why_not: str = ""
    first_seq: int = 0
    last_seq: int = 0
    head_seq: int = 0
    head_hash: str = ""
    whole: bool | None = None
    verified_from: int = 1
    is_copy: bool = False
    end_proved: bool = False
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Incident:
    """One emergency.

    Attributes:
        owner: who answers for the credential, as the config says.
        new_access_key_id, version_id, generation: what took the old key's place; empty where nothing did.
        moved: the credentials that were published anew for it, each with its generation.
        left_behind_more: how many of those left behind the record had no room for.
        hosts: the other hosts of the fleet; None where they were not waited for, because there is no fleet, for example.
        hosts_more: how many of them the record had no room for.
        notes: what `rotate` said besides; the log has none of it.
        region: where to look first in ActionTrail.
        made_at, made_by: of the document.
    """

    credential: str
    old: OldKey
    attempts: tuple[Attempt, ...]
    made_at: datetime
    made_by: str
    owner: str = ""
    new_access_key_id: str = ""
    version_id: str = ""
    generation: int | None = None
    moved: tuple[tuple[str, int], ...] = ()
    dependents: tuple[Dependent, ...] = ()
    left_behind: tuple[LeftBehind, ...] = ()
    left_behind_more: int = 0
    hosts: tuple[Host, ...] | None = None
    hosts_more: int = 0
    notes: tuple[str, ...] = ()
    region: str = "cn-hangzhou"
    basis: Basis = Basis()

    @property
    def commanded_at(self) -> datetime:
        """When the first command came."""
        return self.attempts[0].began_at

    @property
    def last(self) -> Attempt:
        """The newest attempt that began."""
        return next((one for one in reversed(self.attempts) if not one.turned_away), self.attempts[-1])

    @property
    def still_behind(self) -> Sequence[LeftBehind]:
        """Whoever was left behind and was not seen to move since."""
        return [one for one in self.left_behind if one.moved_at is None]

    @property
    def ended(self) -> str:
        """Return how it stands with the old key, in a word or two."""
        if self.old.refused_at:
            return "seen refused"
        if self.old.deleted_at:
            return "deleted, not seen refused"
        if self.old.disabled_at:
            return "disabled, not seen refused"
        if self.new_access_key_id:
            return "replaced, not disabled"
        return "still in use"

    def lived_on_ms(self, end: datetime | None) -> int | None:
        """Return the milliseconds from the first command to the end of the old key; None where the clock was set back meanwhile."""
        passed = self.since_command_ms(end)
        return passed if passed is None or passed >= 0 else None

    def since_command_ms(self, at: datetime | None) -> int | None:
        """Return the milliseconds from the first command until then."""
        return None if at is None else round((at - self.commanded_at).total_seconds() * 1000)


def as_json(incident: Incident) -> dict[str, Any]:
    """Return it as a JSON object: times in RFC 3339, UTC."""
    shown: dict[str, Any] = plain(incident, rfc3339_micros)
    old = incident.old
    shown["old_key_is"] = incident.ended
    shown["exposure_ms"] = {
        "to_disabled": incident.lived_on_ms(old.disabled_at),
        "to_refused": incident.lived_on_ms(old.refused_at),
    }
    return shown
