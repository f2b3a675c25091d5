"""The names that the audit log and the notifications use. They are contract (PRODUCT.md), so they are defined once.

The comment behind each is what docs/reference/events.md says of it (docs/reference/generate.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from agent.core.timestamps import rfc3339


class Trigger(StrEnum):
    """The reason why something was done."""

    START = "start"  # the first pass of a start, or `keyturn once`
    SCHEDULE = "schedule"  # a session's renewal, or a RAM user's next key, was due
    POLL = "poll"  # the poll interval was over
    OPERATOR = "operator"  # a command such as `keyturn refresh`, `adopt` or `endpoint rotate-token`
    EMERGENCY = "emergency"  # `keyturn rotate`
    SIGNAL = "signal"  # SIGUSR1, or SIGHUP
    RECOVERY = "recovery"  # a start that finished what a crash left
    DRIFT = "drift"  # somebody else changed a file
    FLEET = "fleet"  # another host announced a version


class Event(StrEnum):
    """The events of the audit log."""

    AGENT_STARTED = "agent_started"  # the daemon started
    AGENT_STOPPED = "agent_stopped"  # it ended as it was asked to
    CONFIG_RELOADED = "config_reloaded"  # a reload put another config in force
    CONFIG_REJECTED = "config_rejected"  # a reload found a config that it cannot use; the old one goes on
    FETCH_FAILED = "fetch_failed"  # the source gave no value
    CREDENTIAL_FETCHED = "credential_fetched"  # the source gave a value that is not the one in use
    VERIFIED = "verified"  # the new value signed a call that STS accepted
    VERIFY_FAILED = "verify_failed"  # STS refused a new value, or could not be asked; or the canary was refused
    PUBLISHED = "published"  # all sinks were switched to a new generation
    PUBLISH_FAILED = "publish_failed"  # the sinks could not be written, and are as they were
    PUBLISH_RECOVERED = "publish_recovered"  # a publish that a crash interrupted was finished or undone at a start
    DRIFT_REPAIRED = "drift_repaired"  # a sink that somebody changed was put right, under the same generation
    NOTIFIED = "notified"  # a dependent was told
    NOTIFY_FAILED = "notify_failed"  # a try to tell a dependent failed; more follow
    NOTIFY_GAVE_UP = "notify_gave_up"  # a dependent could not be told within its `retry_for`
    ROTATION_REQUESTED = "rotation_requested"  # somebody asked for an emergency; on disk before anything is done
    ROTATION_STARTED = "rotation_started"  # the source accepted a rotation, or a RAM user's next key was made
    ROTATION_ENDED = "rotation_ended"  # an emergency is over, with its steps and who was left behind
    OLD_KEY_DISABLED = "old_key_disabled"  # the key before was set inactive, and whether it was seen refused
    OLD_KEY_DELETED = "old_key_deleted"  # the key before was deleted, into RAM's recycle bin
    ENDPOINT_TOKEN_ROTATED = "endpoint_token_rotated"  # the URI in an env file has another token
    PICKUP_CONFIRMED = "pickup_confirmed"  # there is evidence that a dependent uses the new generation
    STALE = "stale"  # no refresh succeeded for `max_staleness`: the alarm was raised
    KEY_ADOPTED = "key_adopted"  # a RAM user's key that was copied by hand is under rotation from now on
    KEY_TOO_OLD = "key_too_old"  # the AccessKey in use is older than `max_age`
    KEY_RESTRICTED = "key_restricted"  # Alibaba Cloud restricted a key of the credential as leaked
    CLIENT_KEY_EXPIRES = "client_key_expires"  # a ClientKey ends within 180, 90, 30 or 7 days
    RECOVERED = "recovered"  # an alarm or a series of failures is over, or a remark of a start after a crash


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
