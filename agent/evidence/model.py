"""The rotation report as values, which every format shows; `--format json` is a `Report` as it stands (plain.py)."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class Configured:
    """What the config says of a credential, and the state of what is owed.

    Attributes:
        identity: the RAM user or role that the config names; "" where it names none.
        secret: the name of the secret that it is the value of; "" for a source that has none.
        dependents: who is to be told, as the log names them.
        owed: which of them were not told of the newest value yet; None where the state cannot be read.
    """

    provider: str
    owner: str = ""
    max_age: timedelta | None = None
    identity: str = ""
    secret: str = ""
    files: tuple[str, ...] = ()
    dependents: tuple[str, ...] = ()
    owed: tuple[str, ...] | None = None


@dataclass(slots=True)
class Change:
    """One key, session or token of a credential: from its publish on.

    Attributes:
        seq, at: of the record that says that it reached every file.
        trigger: why it was published; "" where the log does not say, as all texts here.
        actor: who asked for it, where somebody did.
        identity: as whom STS knew it, at `proved_at`.
        is_session: whether it dies by itself.
        told: what became of the news, by dependent: "told", "confirmed", "failed", "gave up".
        replaced_at: when the next one was published; None for the one in use.
    """

    seq: int
    at: datetime
    generation: int | None = None
    trigger: str = ""
    actor: str = ""
    reason: str = ""
    access_key_id: str = ""
    previous_access_key_id: str = ""
    version_id: str = ""
    created_at: datetime | None = None
    expires_at: datetime | None = None
    identity: str = ""
    proved_at: datetime | None = None
    files: list[str] = field(default_factory=list)
    told: dict[str, str] = field(default_factory=dict)
    request_ids: list[str] = field(default_factory=list)
    host: str = ""
    agent_version: str = ""
    config: str = ""
    is_session: bool = False
    replaced_at: datetime | None = None

    @property
    def born_at(self) -> datetime:
        """When it was created, else, where that is not recorded, when it was first published here: it is at least that old."""
        return self.created_at or self.at


@dataclass(frozen=True, slots=True)
class Ending:
    """The record of an end: its number, who asked for it and why, on which host."""

    seq: int
    actor: str = ""
    reason: str = ""
    host: str = ""


@dataclass(slots=True)
class OldKey:
    """A key that was replaced, and its end as far as keyturn brought it about.

    Attributes:
        ended, deleted: the records of its end: the first that says inactive or refused, and that of its deletion.
    """

    access_key_id: str
    replaced_at: datetime | None = None
    disabled_at: datetime | None = None
    refused_at: datetime | None = None
    refusal: str = ""
    deleted_at: datetime | None = None
    ended: Ending | None = None
    deleted: Ending | None = None


@dataclass(slots=True)
class Emergency:
    """One `keyturn rotate`.

    Attributes:
        outcome: what the log says of its end; "not recorded" for one of an older version or one that never ended.
        exposure_s: from the command to the first proof that the old key is refused; None where there is none, or where the clock
            was set back meanwhile.
        left_behind: who could not pick up the new key.
        turned_away: nothing was done: it was refused at the door, or `--leaked` named a key that is not this credential's.
    """

    seq: int
    asked_at: datetime
    actor: str = ""
    reason: str = ""
    leaked: str = ""
    old_key: str = ""
    new_key: str = ""
    version_id: str = ""
    published_at: datetime | None = None
    disabled_at: datetime | None = None
    refused_at: datetime | None = None
    deleted_at: datetime | None = None
    ended_at: datetime | None = None
    outcome: str = ""
    error: str = ""
    exposure_s: float | None = None
    left_behind: list[str] = field(default_factory=list)
    request_ids: list[str] = field(default_factory=list)
    host: str = ""
    agent_version: str = ""
    turned_away: bool = False


@dataclass(frozen=True, slots=True)
class CredentialReport:
    """One credential of the population.

    Attributes:
        in_config: None where no config was read.
        key: the one in use; None where none was ever published here.
        age_s: of the key in use, by `as_of`; at least that much where `created_at` is not recorded. None for one that would be
            from the future.
        compliant: "yes", "no" or "unknown", and `why`.
        rotations: new keys in the period by trigger; the first publish of all is none.
        sessions: how many sessions were published in the period: they are counted and not listed.
        changes: the newest keys that were published in the period, oldest first; `changes_left_out` more are counted only.
        owed: who was not told of the newest value; `owed_known` says whether by the state, or as far as the log tells.
        longest_age_s: the greatest age that a key reached while it was in use in the period.
        quarters_without: calendar quarters (UTC) of the period without a rotation; one that is not wholly in it says so.
        failures: records of the period by event: what went wrong, and alarms.
    """

    name: str
    in_config: bool | None
    provider: str
    owner: str
    identity: str
    identity_source: str
    secret: str
    key: Change | None
    first_published_at: datetime | None
    last_record_at: datetime | None
    age_s: float | None
    max_age_s: float | None
    compliant: str
    why: str
    rotations: dict[str, int]
    sessions: int
    changes: list[Change]
    changes_left_out: int
    files: list[str]
    told: dict[str, str]
    owed: list[str]
    owed_known: str
    old_keys: list[OldKey]
    emergencies: list[Emergency]
    longest_age_s: float | None
    quarters_without: list[str]
    failures: dict[str, int]


@dataclass(frozen=True, slots=True)
class LogRange:
    """What the report rests on.

    Attributes:
        verified: whether nothing is wrong with the records.
        end_proved: whether the state confirmed that the newest record is there, and that the history is the one written.
        problems: what is wrong, as `keyturn audit verify` says it.
        notes: what a crash leaves.
    """

    files: list[str]
    records: int
    first_seq: int
    last_seq: int
    first_at: datetime | None
    last_at: datetime | None
    head_hash: str
    verified: bool
    end_proved: bool
    problems: list[str]
    notes: list[str]

    @property
    def verdict(self) -> str:
        """In a word or two: "verified", "verified, end not proved" or "NOT VERIFIED"."""
        if not self.verified:
            return "NOT VERIFIED"
        return "verified" if self.end_proved else "verified, end not proved"


@dataclass(frozen=True, slots=True)
class Report:
    """The whole report.

    Attributes:
        as_of: the time that ages are counted to: when it was made; for copied log files, of the newest record.
        since: the beginning of the period; None for the beginning of the log.
        hosts, agent_versions, configs: those that records name, oldest first.
    """

    made_at: datetime
    made_by: str
    as_of: datetime
    since: datetime | None
    config_read: bool
    log: LogRange
    hosts: list[str]
    agent_versions: list[str]
    configs: list[str]
    credentials: list[CredentialReport]
