"""When a key's end or age is an alarm: pure functions of the time; and what there is to show of one."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

CLIENT_KEY_DAYS = (180, 90, 30, 7, 0)
"""Days before its end at which a ClientKey is an alarm, each once. KMS advises to make one for a year (KMS, "Create an AAP")."""
SEVERE_DAYS = 7
"""From here on it is said wherever an alarm can be said: no refresh succeeds once a ClientKey has ended."""


class Kind(StrEnum):
    """The alarms about the key of one credential, besides staleness. The names are those of the audit's events."""

    TOO_OLD = "key_too_old"
    RESTRICTED = "key_restricted"


class KeyAlarm(NamedTuple):
    """An alarm that stands.

    Attributes:
        kind: which.
        access_key_id: of the key that it is about.
        text: one clause for people.
    """

    kind: Kind
    access_key_id: str
    text: str


def days_before(expires_at: datetime, now: datetime) -> int | None:
    """Return the last of `CLIENT_KEY_DAYS` that has passed, 0 once the key has ended; None while none has."""
    passed = [days for days in CLIENT_KEY_DAYS if expires_at - now <= timedelta(days=days)]
    return passed[-1] if passed else None


def next_alarm_at(expires_at: datetime, now: datetime) -> datetime | None:
    """Return when the next of `CLIENT_KEY_DAYS` passes; None where the key has ended."""
    left = expires_at - now
    return next((expires_at - timedelta(days=days) for days in CLIENT_KEY_DAYS if left > timedelta(days=days)), None)


def ends(expires_at: datetime, now: datetime) -> str:
    """Return in words when a key ends or ended, in whole days."""
    left = expires_at - now
    if left <= timedelta(0):
        return "has expired"
    return f"expires in {left.days} days" if left.days >= 2 else f"expires in {left.total_seconds() / 3600:.0f} hours"
