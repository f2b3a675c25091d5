"""The rotation at the source that an emergency began for one credential, and how many it began of late."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec

from agent.state.records import RotationEnd, RotationJournal

COUNTED = timedelta(hours=1)
"""KMS counts RotateSecret by the hour."""


@dataclass(frozen=True, slots=True)
class Begun:
    """A rotation to make, and whether an earlier `rotate` began it."""

    journal: RotationJournal
    taken_up: bool


class RotationRecord:
    """The emergency rotations of one credential. Changed by its own methods alone, on the loop's thread."""

    def __init__(
        self,
        unfinished: RotationJournal | None = None,
        begun_at: Iterable[datetime] = (),
        ended: RotationEnd | None = None,
    ) -> None:
        self._unfinished, self._begun_at, self._ended = unfinished, tuple(begun_at), ended

    @property
    def unfinished(self) -> RotationJournal | None:
        """The rotation that the next `rotate` takes up; None for none."""
        return self._unfinished

    @property
    def begun_at(self) -> tuple[datetime, ...]:
        """When rotations were begun: the newest, and those within the hour before it."""
        return self._begun_at

    @property
    def ended(self) -> RotationEnd | None:
        """What became of the last rotation that came to its end; None for none."""
        return self._ended

    def begin(self, version_id: str, old_access_key_id: str, reason: str, now: datetime) -> Begun:
        """Begin a rotation, or take up the one that is not finished."""
        if self._unfinished is not None:
            return Begun(self._unfinished, taken_up=True)
        self._begun_at = (*(when for when in self._begun_at if now - when < COUNTED), now)
        self._unfinished = RotationJournal(version_id, now, reason, old_access_key_id)
        return Begun(self._unfinished, taken_up=False)

    def asked(self) -> None:
        """Note that RotateSecret was answered."""
        if self._unfinished is not None:
            self._unfinished = msgspec.structs.replace(self._unfinished, asked=True)

    def refused(self, code: str) -> None:
        """Note that the key before it was seen refused, with the code of that."""
        if self._unfinished is not None:
            self._unfinished = msgspec.structs.replace(self._unfinished, refused_with=code)

    def end(self, ended: RotationEnd) -> None:
        """Note that the rotation came to its end, and what became of it."""
        self._unfinished, self._ended = None, ended

    def forget(self) -> None:
        """Note that another run could do no more for the rotation."""
        self._unfinished = None

    def never_was(self) -> None:
        """Note that the source did not rotate: the one begun last does not count."""
        if self._unfinished is not None:
            self._begun_at = tuple(when for when in self._begun_at if when != self._unfinished.begun_at)
        self._unfinished = None

    def counted(self, now: datetime) -> tuple[datetime, ...]:
        """Return when the rotations were begun that KMS counts at `now`: those within the hour before."""
        return tuple(when for when in self._begun_at if when > now - COUNTED)

    def spent(self, now: datetime) -> int:
        """Return how many rotations KMS counts at `now`."""
        return len(self.counted(now))
