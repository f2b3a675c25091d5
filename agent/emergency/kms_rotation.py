"""One rotation at KMS that no crash and no lost reply turns into two.

The version id is on disk (`RotationJournal`) before KMS hears of it, and KMS treats a repeated id as the same
rotation (KMS API, RotateSecret). Decisions:

* The journal is dropped after a refusal only where KMS cannot have rotated: not after a lost reply, not after
  a crash. KMS's refusal of a second rotation may then speak of our own, and is not taken for a no.
* A journal is overtaken, and forgotten, once another version than its own has taken the old key's place.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import timedelta

from agent.cloud.openapi import Kms, RotationRunningError
from agent.core.credential import Credential
from agent.core.errors import KeyturnError, NotPermittedError, SourceRefusedError
from agent.emergency.authority import Authority
from agent.engine.engine import Engine
from agent.refresh.managed_credential import ManagedCredential
from agent.state.records import RotationJournal

ROTATIONS_PER_HOUR = 50
"""KMS, RotateSecret: per account."""


class Rotation:
    """The rotation of one credential's secret. For a thread that is not the engine's."""

    def __init__(
        self, engine: Engine, managed: ManagedCredential, kms: Kms, authority: Authority, secret_name: str
    ) -> None:
        self._engine, self._managed, self._kms, self._authority = engine, managed, kms, authority
        self._secret_name = secret_name
        self._place = f"credentials.{managed.name}"

    def unfinished(self, leaked: str | None) -> RotationJournal | None:
        """The rotation to take up: none where it is overtaken, or its new key is what `leaked`."""
        return self._engine.loop.call(lambda: self._unfinished(leaked))

    def begin(self, old_id: str, reason: str) -> tuple[RotationJournal, bool]:
        """The rotation to make, on disk, and whether it was begun before.

        Raises:
            StateError: it cannot be written; KMS was not asked.
        """
        return self._engine.loop.call(lambda: self._begin(old_id, reason))

    def ask(self, journal: RotationJournal, taken_up: bool, refresh: Callable[[], object]) -> None:
        """Have KMS rotate once.

        Args:
            journal: the rotation.
            taken_up: an earlier run may have asked KMS already.
            refresh: looks which version is current now.

        Raises:
            KeyturnError: KMS refused, or could not be asked; the text says what is known and what to do.
        """
        unsure = taken_up

        def call(who: Credential) -> None:
            nonlocal unsure
            before, unsure = unsure, True
            try:
                self._kms.rotate_secret(self._secret_name, journal.version_id, who, now=self._engine.clock.now())
            except (NotPermittedError, SourceRefusedError):
                unsure = before
                raise

        try:
            self._authority.ask(call)
        except RotationRunningError as error:
            refresh()
            if not (unsure and self._may_be_ours(journal)):
                self.forget()
                raise self._running(error) from None
        except KeyturnError as error:
            if unsure:
                raise self._unknown(error, journal) from None
            self.forget()
            raise error.because("nothing was rotated") from None

    def asked(self, journal: RotationJournal) -> None:
        """Remember that KMS said yes."""
        journal.asked = True
        self._engine.loop.call(lambda: self._set(journal))

    def forget(self) -> None:
        """The rotation is over, or never was."""
        self._engine.loop.call(lambda: self._set(None))

    def spent(self) -> int:
        """How many rotations this keyturn began within the hour, all credentials together."""
        return self._engine.loop.call(self._spent)

    def _unfinished(self, leaked: str | None) -> RotationJournal | None:
        journal, done = self._managed.state.rotation, self._managed.state.published
        if journal is None:
            return None
        arrived = done.version_id == journal.version_id
        overtaken = not arrived and done.access_key_id != journal.old_access_key_id
        if overtaken or (arrived and leaked == done.access_key_id):
            self._set(None)
        return self._managed.state.rotation

    def _begin(self, old_id: str, reason: str) -> tuple[RotationJournal, bool]:
        state = self._managed.state
        if state.rotation is not None:
            return state.rotation, True
        now = self._engine.clock.now()
        state.rotations = [when for when in state.rotations if now - when < timedelta(hours=1)] + [now]
        journal = RotationJournal(str(uuid.uuid4()), now, reason, old_id)
        self._set(journal)
        return journal, False

    def _set(self, journal: RotationJournal | None) -> None:
        self._managed.state.rotation = journal
        self._engine.states.save(self._managed.name, self._managed.state)

    def _spent(self) -> int:
        hour_ago = self._engine.clock.now() - timedelta(hours=1)
        everyone = (desk.managed for desk in self._engine.desks.values())
        return sum(1 for managed in everyone for when in managed.state.rotations if when > hour_ago)

    def _may_be_ours(self, journal: RotationJournal) -> bool:
        """Whether the rotation that KMS says is running can be the journalled one."""
        done = self._managed.state.published
        return journal.version_id == done.version_id or journal.old_access_key_id == done.access_key_id

    def _running(self, error: RotationRunningError) -> KeyturnError:
        done = self._managed.state.published
        before = done.previous_access_key_id or "ID"
        return SourceRefusedError(
            f"{self._place}: KMS has not finished the rotation before this one and refuses another ({error.code}), so "
            f"nothing was rotated; the current key {done.access_key_id} works",
            f"if the key before it leaked, run again with --leaked {before} --disable-old; if {done.access_key_id} "
            "leaked, disable it in the RAM console, which stops whoever uses it, or wait: KMS takes up to two days",
            code=error.code,
        )

    def _unknown(self, error: KeyturnError, journal: RotationJournal) -> KeyturnError:
        return error.because(
            "whether KMS has rotated is not known",
            f"run the same command again: it never rotates twice; KMS allows {ROTATIONS_PER_HOUR} rotations an hour "
            f"and account, {self.spent()} were begun here; if it cannot wait, disable {journal.old_access_key_id} in "
            "the RAM console",
        )
