"""The alarms about a credential's keys that were raised and stand, so that each is raised once, over restarts too."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Seen(StrEnum):
    """Which call showed that a key is restricted, and so what ends the alarm."""

    PUBLISHED = "published"
    """One that the published key signed: until another key is published."""
    SOURCE = "source"
    """One that a refresh made, with a key that no credential publishes: until a refresh succeeds."""
    AUTHORITY = "authority"
    """One that an emergency made: until an emergency's authority is heard again."""


class AlarmRecord:
    """The standing alarms of one credential. Changed by its own methods alone, on the loop's thread."""

    def __init__(self, too_old: str = "", restricted: Mapping[str, str] | None = None) -> None:
        self._too_old = too_old
        self._restricted = {key_id: Seen(seen) for key_id, seen in (restricted or {}).items()}

    @property
    def too_old(self) -> str:
        """The AccessKey whose age was an alarm; "" for none."""
        return self._too_old

    @property
    def restricted(self) -> Mapping[str, Seen]:
        """The AccessKeys that are restricted as leaked."""
        return self._restricted

    def raise_age(self, access_key_id: str) -> None:
        """Note that a key is older than it may be."""
        self._too_old = access_key_id

    def take_back_age(self) -> str:
        """Note that the alarm has ended; return the key that it was about."""
        ended, self._too_old = self._too_old, ""
        return ended

    def restrict(self, access_key_id: str, seen: Seen) -> bool:
        """Note that a key is restricted; return whether that is news."""
        is_news = access_key_id not in self._restricted
        self._restricted.setdefault(access_key_id, seen)
        return is_news

    def end_restriction(self, access_key_id: str) -> None:
        """Note that a key is not restricted, or not used any more."""
        self._restricted.pop(access_key_id, None)
