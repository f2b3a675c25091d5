"""The names that the audit log and the notifications use. They are contract (PRODUCT.md), so they are defined once."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from agent.core.timestamps import rfc3339


class Trigger(StrEnum):
    """The reason why something was done."""

    START = "start"
    SCHEDULE = "schedule"
    POLL = "poll"
    OPERATOR = "operator"
    EMERGENCY = "emergency"
    SIGNAL = "signal"
    RECOVERY = "recovery"
    DRIFT = "drift"
    FLEET = "fleet"


class Event(StrEnum):
    """The events of the audit log."""

    AGENT_STARTED = "agent_started"
    AGENT_STOPPED = "agent_stopped"
    CONFIG_RELOADED = "config_reloaded"
    CONFIG_REJECTED = "config_rejected"
    FETCH_FAILED = "fetch_failed"
    CREDENTIAL_FETCHED = "credential_fetched"
    VERIFIED = "verified"
    VERIFY_FAILED = "verify_failed"
    PUBLISHED = "published"
    PUBLISH_FAILED = "publish_failed"
    PUBLISH_RECOVERED = "publish_recovered"
    DRIFT_REPAIRED = "drift_repaired"
    NOTIFIED = "notified"
    NOTIFY_FAILED = "notify_failed"
    NOTIFY_GAVE_UP = "notify_gave_up"
    ROTATION_REQUESTED = "rotation_requested"
    ROTATION_STARTED = "rotation_started"
    ROTATION_ENDED = "rotation_ended"
    OLD_KEY_DISABLED = "old_key_disabled"
    OLD_KEY_DELETED = "old_key_deleted"
    ENDPOINT_TOKEN_ROTATED = "endpoint_token_rotated"
    PICKUP_CONFIRMED = "pickup_confirmed"
    STALE = "stale"
    KEY_ADOPTED = "key_adopted"
    KEY_TOO_OLD = "key_too_old"
    KEY_RESTRICTED = "key_restricted"
    CLIENT_KEY_EXPIRES = "client_key_expires"
    RECOVERED = "recovered"


@dataclass(frozen=True, slots=True)
class Actor:
    """The person (or program) on the other end of the control socket, or of the command line."""

    uid: int
    user: str
    pid: int

    def as_json(self) -> dict[str, Any]:
        """Return the actor as an audit record shows it."""
        return {"uid": self.uid, "user": self.user, "pid": self.pid}


@dataclass(frozen=True, slots=True)
class PublishEvent:
    """The news of a publish for a dependent. It never holds a secret."""

    event: str
    credential: str
    generation: int
    trigger: Trigger
    access_key_id: str = ""
    version_id: str = ""
    expiration: datetime | None = None
    sinks: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the object that `exec` gets on standard input and `http` as its body."""
        return {
            "event": self.event,
            "credential": self.credential,
            "generation": self.generation,
            "trigger": str(self.trigger),
            "access_key_id": self.access_key_id,
            "version_id": self.version_id,
            "expiration": rfc3339(self.expiration) if self.expiration else None,
            "sinks": list(self.sinks),
        }

    def as_environment(self) -> dict[str, str]:
        """Return the `KEYTURN_*` variables of an `exec` hook; an absent value is the empty string."""
        values = self.as_json()
        values["sinks"] = "\n".join(self.sinks)
        return {f"KEYTURN_{name.upper()}": "" if value is None else str(value) for name, value in values.items()}


@dataclass(frozen=True, slots=True)
class Cause:
    """The reason for a refresh, and who asked for it."""

    trigger: Trigger
    actor: Actor | None = None
    reason: str | None = None

    def as_fields(self) -> dict[str, Any]:
        """Return the fields of an audit record."""
        return {
            "trigger": str(self.trigger),
            "actor": self.actor.as_json() if self.actor else None,
            "reason": self.reason,
        }
