"""One rotation at KMS that no crash and no lost reply turns into two (docs/adr/0012).

The version id is on disk (`RotationJournal`) before KMS hears of it, and KMS treats a repeated id as the same
rotation (KMS API, RotateSecret).
"""

from __future__ import annotations

import uuid
from collections.abc import Callable

from agent.cloud.authority import Authority
from agent.cloud.failures import RotationRunningError
from agent.cloud.openapi import Kms
from agent.core.credential import Credential
from agent.core.errors import KeyturnError, NotPermittedError, SourceRefusedError
from agent.core.timestamps import rfc3339
from agent.emergency.last_rotation import told
from agent.engine.held_credential import HeldCredential
from agent.state.records import RotationJournal
from agent.state.rotation_record import COUNTED, Begun

ROTATIONS_PER_HOUR = 50
"""KMS, RotateSecret: per account."""
TOO_MANY_KEYS = "LimitExceeded.User.AccessKey"
THROTTLED = ("Throttling", "Rejected.Throttling")
"""Codes of KMS that say that the quota of an hour is spent, or too many calls are made; either way nothing was done."""


def is_over(journal: RotationJournal, version_id: str, access_key_id: str, leaked: str | None) -> bool:
    """Return whether a rotation is not to be taken up again: it is overtaken, or its new key is the one that leaked.

    Args:
        journal: what was begun.
        version_id: the version that is current.
        access_key_id: its key.
        leaked: the key that leaked, where that was said.
    """
    arrived = version_id == journal.version_id
    overtaken = not arrived and access_key_id != journal.old_access_key_id
    return overtaken or (arrived and leaked == access_key_id)


class KmsRotation:
    """The rotation of one credential's secret. To be used on another thread than the loop's."""

    def __init__(self, held: HeldCredential, kms: Kms, authority: Authority, secret_name: str) -> None:
        self._held, self._kms, self._authority, self._secret_name = held, kms, authority, secret_name
        self._place = f"credentials.{held.name}"

    def unfinished(self, leaked: str | None) -> RotationJournal | None:
        """Return the rotation to take up; None where there is none, it is overtaken, or its new key is the one that leaked.

        Overtaken: another version than its own has taken the old key's place.
        """
        now = self._held.look()
        journal, done = now.unfinished, now.seen.published
        if journal is None:
            return None
        if is_over(journal, done.version_id, done.access_key_id, leaked):
            self.forget()
            return None
        return journal

    def begin(self, old_id: str, reason: str) -> Begun:
        """Return the rotation to make, which is on disk.

        Raises:
            StateError: it cannot be written; KMS was not asked.
        """
        return self._held.begin_rotation(str(uuid.uuid4()), old_id, reason)

    def ask(self, begun: Begun, refresh: Callable[[], object]) -> str:
        """Have KMS rotate once; return its name for the call, "" where its answer was lost.

        Args:
            begun: the rotation; one that is taken up may have been asked for already.
            refresh: looks which version is current now.

        Raises:
            KeyturnError: KMS refused, or could not be asked; the text says what is known and what to do.
        """
        # Unsure: KMS may have rotated already, because a crash or a lost reply hid its answer.
        journal, unsure = begun.journal, begun.taken_up

        def call(who: Credential) -> str:
            nonlocal unsure
            before, unsure = unsure, True
            try:
                return self._kms.rotate_secret(self._secret_name, journal.version_id, who, now=self._held.clock.now())
            except KeyturnError as error:
                if _is_clear_no(error):  # which says nothing of the calls before it
                    unsure = before
                raise

        try:
            return self._authority.ask("KMS RotateSecret", "kms:RotateSecret", call)
        except RotationRunningError as error:
            refresh()
            # The rotation that is running may be our own, from a call whose reply was lost: then this is no refusal.
            if not (unsure and self._may_be_ours(journal)):
                self._never_was()
                raise self._running(error) from None
            return ""
        except KeyturnError as error:
            if unsure:
                raise self._unknown(error, journal) from None
            self._never_was()
            raise self._explained(error) from None

    def asked(self) -> None:
        """Write down that KMS said yes."""
        self._held.rotation_asked()

    def forget(self) -> None:
        """Forget the rotation: another run could do no more for it."""
        self._held.forget_rotation()

    def spent(self) -> int:
        """Return how many rotations this keyturn began within the hour, all credentials together."""
        return len(self._held.rotations_spent())

    def _never_was(self) -> None:
        self._held.forget_rotation(rotated=False)

    def _may_be_ours(self, journal: RotationJournal) -> bool:
        """Return whether the rotation that KMS says is running can be the journalled one."""
        done = self._held.look().seen.published
        return journal.version_id == done.version_id or journal.old_access_key_id == done.access_key_id

    def _running(self, error: RotationRunningError) -> KeyturnError:
        now = self._held.look()
        done, ended = now.seen.published, now.ended
        before = done.previous_access_key_id or "ID"
        last = f"; {told(ended)}" if ended is not None and ended.new_access_key_id == done.access_key_id else ""
        return SourceRefusedError(
            f"{self._place}: KMS has not finished the rotation before this one and refuses another ({error.code}), so "
            f"nothing was rotated; the current key {done.access_key_id} works{last}",
            f"if the key before it leaked: keyturn rotate {self._held.name} --reason TEXT --leaked {before} --disable-old; if "
            f"{done.access_key_id} leaked: aliyun ram UpdateAccessKey --UserName {done.ram_user_name or 'USER'} "
            f"--UserAccessKeyId {done.access_key_id} --Status Inactive, which stops whoever uses it, or wait: KMS takes up to "
            "two days",
            code=error.code,
            request_id=error.request_id,
        )

    def _explained(self, error: KeyturnError) -> KeyturnError:
        """Say what to do about a clear no, where KMS's own word does not."""
        if error.code.startswith(THROTTLED):
            return error.because(f"nothing was rotated; {self._quota()}", "run the same command again then")
        return error.because("nothing was rotated")

    def _quota(self) -> str:
        begun = sorted(self._held.rotations_spent())
        counted = f"KMS allows {ROTATIONS_PER_HOUR} rotations an hour and account, and {len(begun)} were begun here"
        if begun:
            return f"{counted}, of which the first counts until {rfc3339(begun[0] + COUNTED)}"
        return f"{counted}: whoever else rotates in this account spent them, and each is free again after an hour"

    def _unknown(self, error: KeyturnError, journal: RotationJournal) -> KeyturnError:
        return error.because(
            f"whether KMS has rotated is not known; {self._quota()}",
            "run the same command again: it never rotates twice; if it cannot wait, disable "
            f"{journal.old_access_key_id} in the RAM console",
        )


def _is_clear_no(error: KeyturnError) -> bool:
    return isinstance(error, NotPermittedError | SourceRefusedError) or error.code.startswith(THROTTLED)
