"""The rotation at the source that an emergency began for one credential, and how many it began of late."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec

from agent.state.records import RotationJournal

_COUNTED = timedelta(hours=1)
"""KMS counts RotateSecret by the hour."""


@dataclass(frozen=True, slots=True)
class Begun:
    """A rotation to make, and whether an earlier `rotate` began it."""

    journal: RotationJournal
    taken_up: bool


class RotationRecord:
    """The emergency rotations of one credential. Changed by its own methods alone, on the loop's thread."""

    def __init__(self, unfinished: RotationJournal | None = None, begun_at: Iterable[datetime] = ()) -> None:
        self._unfinished, self._begun_at = unfinished, tuple(begun_at)

    @property
    def unfinished(self) -> RotationJournal | None:
        """The rotation that the next `rotate` takes up; None for none."""
        return self._unfinished

    @property
    def begun_at(self) -> tuple[datetime, ...]:
        """When rotations were begun: the newest, and those within the hour before it."""
        return self._begun_at

    def begin(self, version_id: str, old_access_key_id: str, reason: str, now: datetime) -> Begun:
        """Begin a rotation, or take up the one that is not finished."""
        if self._unfinished is not None:
            return Begun(self._unfinished, taken_up=True)
        self._begun_at = (*(when for when in self._begun_at if now - when < _COUNTED), now)
        self._unfinished = RotationJournal(version_id, now, reason, old_access_key_id)
        return Begun(self._unfinished, taken_up=False)

    def asked(self) -> None:
        """Note that RotateSecret was answered."""
        if self._unfinished is not None:
            self._unfinished = msgspec.structs.replace(self._unfinished, asked=True)

    def forget(self) -> None:
        """Note that the rotation is over, or never was."""
        self._unfinished = None

    def spent(self, now: datetime) -> int:
        """Return how many rotations were begun within the hour before `now`."""
        return sum(1 for when in self._begun_at if when > now - _COUNTED)
