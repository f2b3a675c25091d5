"""One credential that an emergency holds: what another thread than the loop's may see of it and have done with it.

Every look and every change happens on the loop's thread; what comes back is a frozen copy.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TypeVar

from agent.core.credential import Credential
from agent.core.errors import CancelledError, KeyturnError
from agent.core.events import Cause
from agent.core.outcome import Report
from agent.core.provider import Provider
from agent.core.settings import CredentialSettings
from agent.engine.attempts import RefreshSlot
from agent.engine.collaborators import Collaborators
from agent.engine.key_holders import Holder, holders
from agent.engine.snapshot import CredentialSnapshot, snapshot_of
from agent.refresh.managed_credential import ManagedCredential
from agent.runtime.event_loop import answer_of
from agent.sinks.interface import Sink
from agent.state.alarm_record import Seen
from agent.state.ram_record import RamRecord
from agent.state.records import RotationEnd, RotationJournal
from agent.state.rotation_record import Begun, RotationRecord
from agent.system.clock import Clock

T = TypeVar("T")
CALL_S = 60.0
"""Seconds within which the loop comes to a call."""
LOOK_S = 1.0


@dataclass(frozen=True, slots=True)
class Held:
    """A frozen copy of what is known of the credential.

    Attributes:
        seen: what `status` shows.
        value: the value that was last published or found unchanged, with its secrets; None until the first fetch.
        known: the value in use, with its secrets if this process saw it; None before the first publish.
        unfinished: the rotation that an earlier `rotate` began.
        ended: what became of the last rotation that came to its end.
        ram: which keys of a RAM user are ours.
        made_id: of the key that was made here and is not published; "" for none.
    """

    seen: CredentialSnapshot
    value: Credential | None
    known: Credential | None
    unfinished: RotationJournal | None
    ended: RotationEnd | None
    ram: RamRecord
    made_id: str


class HeldCredential:
    """A credential that `Engine.hold` has given out; to be released on every way out.

    What is asked of the loop raises a `CancelledError` where the loop does not come to it within `CALL_S` seconds.
    """

    def __init__(
        self,
        slot: RefreshSlot,
        parts: Collaborators,
        *,
        slots: Mapping[str, RefreshSlot],
        under_way: Callable[[Collection[str]], str],
        refresh: Callable[[str], Future[Report]],
        tell_now: Callable[[Collection[str]], Future[None]],
        release: Callable[[], None],
    ) -> None:
        """Keep what the engine does on behalf of the holder; each function runs on the loop's thread."""
        self._slot, self._parts, self._slots = slot, parts, slots
        self._under_way = under_way
        self._refresh, self._tell_now, self._release = refresh, tell_now, release

    @property
    def name(self) -> str:
        """The credential's name."""
        return self._slot.managed.name

    @property
    def provider(self) -> Provider:
        """Its provider, whose calls are made on workers."""
        return self._slot.managed.provider

    @property
    def sinks(self) -> tuple[Sink, ...]:
        """Its sinks, which may be read on any thread."""
        return self._slot.managed.sinks

    @property
    def settings(self) -> CredentialSettings:
        """Its frozen settings."""
        return self._slot.managed.settings

    @property
    def clock(self) -> Clock:
        """The engine's clock."""
        return self._parts.clock

    def look(self) -> Held:
        """Return what is known now."""
        return self._call(self._looked)

    def refresh(self, patience_s: float) -> Report:
        """Refresh it now; return what came of it.

        Raises:
            CancelledError: nothing came of it in `patience_s` seconds.
        """
        late = CancelledError("the agent did not answer in time", "run the same command again")
        return answer_of(self._call(partial(self._refresh, self.name)), patience_s, late)

    def holders(self, old_id: str, *, reads_files: bool = False) -> tuple[Holder, ...]:
        """Return everybody on this host who holds the same key, itself included; with what their files hold if that is read."""
        look = partial(holders, self._slots, self.name, old_id, self._parts.clock, reads_files=reads_files)
        return self._call(look)

    def under_way(self, old_id: str) -> str:
        """Return what the refreshes and notifications of everybody who holds the key wait for, within a second.

        Raises:
            CancelledError: the agent is too busy to say so.
        """

        def look() -> str:
            found = holders(self._slots, self.name, old_id, self._parts.clock, reads_files=False)
            return self._under_way([one.name for one in found])

        return answer_of(self._parts.loop.submit(look), LOOK_S, CancelledError("the agent is busy"))

    def refresh_others(self, names: Collection[str], patience_s: float) -> dict[str, KeyturnError | None]:
        """Refresh other credentials now, all at once; return what went wrong with each.

        Raises:
            CancelledError: one did not answer in `patience_s` seconds.
        """
        late = CancelledError("the agent did not answer in time", "run the same command again")
        asked = self._call(lambda: {name: self._refresh(name) for name in names})
        return {name: answer_of(future, patience_s, late).error for name, future in asked.items()}

    def look_again(self, names: Collection[str], patience_s: float) -> None:
        """Look once more at the dependents of these credentials that had not picked the newest value up.

        Raises:
            CancelledError: a look did not end in `patience_s` seconds.
        """
        late = CancelledError("a look for a pickup did not end in time", "run the same command again")
        look = partial(self._parts.dispatcher.look_again, set(names))
        answer_of(self._call(look), patience_s, late)

    def tell_now(self, names: Collection[str], patience_s: float) -> None:
        """Have every dependent of these credentials that is owed the news be told now, and wait until each was tried.

        Raises:
            CancelledError: somebody was not tried in `patience_s` seconds.
        """
        late = CancelledError(
            f"credentials.{self.name}: its dependents could not all be told in {patience_s:g} s",
            "see `keyturn status` for who is missing, and run the same command again",
        )
        answer_of(self._call(partial(self._tell_now, names)), patience_s, late)

    # -- the rotation at the source -----------------------------------------------------------------

    def begin_rotation(self, version_id: str, old_access_key_id: str, reason: str) -> Begun:
        """Write down that the source is about to be asked to rotate, or take up what was begun.

        Raises:
            StateError: it cannot be written; the source must not be asked.
        """
        record = self._rotation.begin
        return self._saved(lambda: record(version_id, old_access_key_id, reason, self.clock.now()))

    def rotation_asked(self) -> None:
        """Write down that the source said yes."""
        self._saved(self._rotation.asked)

    def old_key_refused(self, code: str) -> None:
        """Write down that the key before was seen refused, with the code of that: soon its secret may not be had any more."""
        self._saved(partial(self._rotation.refused, code))

    def end_rotation(self, ended: RotationEnd) -> None:
        """Write down that the rotation came to its end, and what became of it."""
        self._saved(partial(self._rotation.end, ended))

    def forget_rotation(self, *, rotated: bool = True) -> None:
        """Forget the rotation: another run could do no more for it, or the source did not rotate."""
        self._saved(self._rotation.forget if rotated else self._rotation.never_was)

    def rotations_spent(self) -> tuple[datetime, ...]:
        """Return when the rotations of the last hour were begun, those of all credentials of this keyturn."""
        now, slots = self.clock.now(), self._slots
        return self._call(
            lambda: tuple(when for slot in slots.values() for when in slot.managed.state.rotation.counted(now))
        )

    # -- the keys of a RAM user ---------------------------------------------------------------------

    def keep_ram(self, record: RamRecord) -> None:
        """Write down which keys of the RAM user are ours, and what was begun.

        Raises:
            StateError: it cannot be written; RAM must not be asked for anything.
        """
        self._saved(lambda: self._managed.state.ram.replace(record))

    def hand(self, value: Credential) -> None:
        """Have the provider hand out a value that was made here; in memory only."""
        self._parts.bases.hand(self.name, value)

    def forsake(self) -> None:
        """Have the provider hand out the value in use again."""
        self._parts.bases.forsake(self.name)

    # -- the rest -----------------------------------------------------------------------------------

    def pause(self, seconds: float) -> None:
        """Sleep for so many seconds.

        Raises:
            CancelledError: the agent is stopping.
        """
        if self._parts.loop.cancel.wait(seconds):
            raise CancelledError("the agent is stopping", "run the same command again: it takes this up where it was")

    def note_authority(self, error: KeyturnError | None, cause: Cause) -> None:
        """Have the alarm raised about a key that signed and is restricted as leaked, where that is the error; None ends it."""
        alarms = self._parts.health.keys
        if error is None:
            self._parts.loop.post(partial(alarms.answered, self._managed, Seen.AUTHORITY))
        elif error.restricted_key:
            restricted = (self.name, error.restricted_key, str(error), cause, Seen.AUTHORITY)
            self._parts.loop.post(partial(alarms.restricted, *restricted))

    def release(self) -> None:
        """Give the credential back to the schedule."""
        self._parts.loop.post(self._release)

    @property
    def _managed(self) -> ManagedCredential:
        return self._slot.managed

    @property
    def _rotation(self) -> RotationRecord:
        return self._managed.state.rotation

    def _looked(self) -> Held:
        managed = self._managed
        seen = snapshot_of(managed, self.clock)
        rotation, made = managed.state.rotation, self._parts.bases.made(managed.name)
        made_id = made.access_key_id if made is not None else ""
        ram = managed.state.ram.record
        return Held(seen, managed.value, managed.known, rotation.unfinished, rotation.ended, ram, made_id)

    def _saved(self, change: Callable[[], T]) -> T:
        return self._call(partial(self._change_and_save, change))

    def _change_and_save(self, change: Callable[[], T]) -> T:
        changed = change()
        self._parts.recorder.save(self._managed)
        return changed

    def _call(self, function: Callable[[], T]) -> T:
        late: KeyturnError = CancelledError("the agent did not answer in time", "see its log")
        return answer_of(self._parts.loop.submit(function), CALL_S, late)
