"""An incident as the audit log tells it: from the log alone, whenever somebody asks.

The log is read twice: once for the emergencies (emergencies.py), once for who was told in the one that was chosen; and once more
for the proof that it is whole. Each time record by record, so that the log may be as long as it likes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from agent.audit.proof import Verdict
from agent.audit.reader import PassedOver, read
from agent.core.errors import KeyturnError
from agent.core.events import Event
from agent.evidence.emergencies import PUBLISHES, Emergencies, Emergency
from agent.evidence.fields import hosts_of, number_of, text_of, time_of
from agent.evidence.incident import Basis, Dependent, How, Incident, LeftBehind

Prove = Callable[[int], Verdict]
MAX_PROBLEMS = 5
NOT_TOLD = "not told"
"""The reason of one left behind who moves by being told after all (agent/emergency/left_behind.py)."""


@dataclass(frozen=True, slots=True)
class Frame:
    """What a document says of itself, and what the config says of the credential.

    Attributes:
        made_at, made_by: when it is made, and by which keyturn.
        owner: who answers for the credential; "" where the config does not say.
        region: where to look first in ActionTrail.
    """

    made_at: datetime
    made_by: str
    owner: str = ""
    region: str = "cn-hangzhou"


def emergencies_in(path: Path, passed_over: PassedOver) -> Emergencies:
    """Read a log for its emergencies.

    Args:
        path: the newest file of the log.
        passed_over: called with the reason why a file cannot be read any further.

    Raises:
        NotPermittedError: a file may not be read by this user.
    """
    found = Emergencies()
    for record in read(path, passed_over):
        found.see(record)
    return found


def incident_from_log(
    path: Path, prove: Prove, found: Emergencies, emergency: Emergency, frame: Frame, passed_over: PassedOver
) -> Incident:
    """Return an emergency with all that the log says of it.

    Args:
        path: the newest file of the log.
        prove: proves it from a `seq` on, that of its oldest record; may raise a `KeyturnError`.
        found: what was read of it.
        emergency: one of those.
        frame: of the document.
        passed_over: called with the reason why a file cannot be read any further.

    Raises:
        NotPermittedError: a file of the log may not be read by this user.
    """
    told = _Told(emergency)
    for record in read(path, passed_over):
        if record["seq"] > emergency.asked[0].first_seq:
            told.see(record)
    return Incident(
        emergency.credential,
        emergency.old_key(),
        tuple(one.told for one in emergency.asked),
        frame.made_at,
        frame.made_by,
        frame.owner,
        emergency.newest("new_id") or "",
        emergency.newest("version_id") or "",
        emergency.newest("generation"),
        tuple(emergency.moved),
        told.dependents(),
        told.left_behind,
        emergency.last.left_behind_more,
        *hosts_of(emergency.last.hosts, emergency.last.told.began_at),
        region=frame.region,
        basis=_basis(path, prove, found, emergency.asked[0].first_seq, max(emergency.ended_seq, told.last_seq)),
    )


def _basis(path: Path, prove: Prove, found: Emergencies, first_seq: int, last_seq: int) -> Basis:
    basis = Basis(str(path), "", first_seq, last_seq, *found.head, verified_from=found.first_seq)
    try:
        verdict = prove(found.first_seq)
    except KeyturnError as error:
        return replace(basis, problems=(str(error),))
    return replace(basis, whole=verdict.whole, problems=verdict.problems[:MAX_PROBLEMS])


class _Told:
    """Who was told of the new key and how they picked it up, as the records behind the command say."""

    def __init__(self, emergency: Emergency) -> None:
        self._emergency, self._key_id = emergency, emergency.key_id
        self._watched = set(emergency.moved)
        self._seen: dict[tuple[str, str], Dependent] = {}
        self._left = {(one.credential, one.dependent): one for one in emergency.last.left_behind}
        self.last_seq = 0

    @property
    def left_behind(self) -> tuple[LeftBehind, ...]:
        """Those left behind at the end, and who of them was seen to move since."""
        return tuple(self._left.values())

    def dependents(self) -> tuple[Dependent, ...]:
        """Return everybody who was to be told."""
        for key, one in self._left.items():
            if one.dependent and one.moved_at is None:
                how = How.NOT_TOLD if one.reason == NOT_TOLD else How.LEFT_BEHIND
                known = self._seen.get(key, Dependent(*key, how))
                self._seen[key] = replace(known, how=how, text=known.text or one.reason)
        return tuple(self._seen.values())

    def see(self, record: Mapping[str, Any]) -> None:
        """Take note of a record behind the command."""
        event, name, generation = (
            text_of(record, "event"),
            text_of(record, "credential"),
            number_of(record, "generation"),
        )
        if event in PUBLISHES:
            self._published(name, generation, record)
        elif (name, generation) in self._watched and event in _HEARD:
            self._heard(name, record)

    def _published(self, name: str, generation: int | None, record: Mapping[str, Any]) -> None:
        """Note that a credential that was left behind is published anew."""
        behind = any(credential == name for credential, _dependent in self._left)
        if not behind or record["seq"] <= self._emergency.ended_seq or text_of(record, "access_key_id") == self._key_id:
            return
        self._moved((name, ""), record)
        if generation is not None:
            self._watched.add((name, generation))

    def _heard(self, name: str, record: Mapping[str, Any]) -> None:
        event, whom, at = record.get("event"), text_of(record, "notified"), time_of(record)
        key = (name, whom)
        known = self._seen.get(key, Dependent(name, whom, How.NOT_TOLD))
        if event == Event.PICKUP_CONFIRMED:
            known = replace(known, how=How.CONFIRMED, at=known.at or at, text=text_of(record, "outcome"))
            self._moved(key, record)
        elif event == Event.NOTIFIED:
            how = known.how if known.how is How.CONFIRMED else How.ASSUMED
            known = replace(known, how=how, told_at=known.told_at or at, text="")
            if key in self._left and self._left[key].reason == NOT_TOLD:
                self._moved(key, record)
        elif known.told_at is None:
            known = replace(known, text=text_of(record, "error"))
        self._seen[key] = known
        self.last_seq = max(self.last_seq, record["seq"])

    def _moved(self, key: tuple[str, str], record: Mapping[str, Any]) -> None:
        left = self._left.get(key)
        if left is not None and left.moved_at is None and record["seq"] > self._emergency.ended_seq:
            self._left[key] = replace(left, moved_at=time_of(record))
            self.last_seq = max(self.last_seq, record["seq"])


_HEARD = frozenset({Event.NOTIFIED, Event.NOTIFY_FAILED, Event.NOTIFY_GAVE_UP, Event.PICKUP_CONFIRMED})


def newest(found: Iterable[Emergency], credential: str | None = None, key_id: str | None = None) -> Emergency | None:
    """Return the newest emergency, of a credential and about a key where these are given; None where there is none.

    One that named somebody else's key, so that nothing was done, is returned where there is no other.
    """
    chosen = [
        one
        for one in found
        if (credential is None or one.credential == credential) and (key_id is None or one.key_id == key_id)
    ]
    own = [one for one in chosen if not one.is_about_another]
    return next(iter(reversed(own or chosen)), None)
