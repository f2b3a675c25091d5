"""The end of the key that was replaced: disable it, see that a call signed with it is refused, and delete it where that was asked.

Only STS's word about the key itself counts as a refusal (`InvalidAccessKeyId.*`): docs/adr/0012. What is
on disk before it is deleted: docs/adr/0022.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from agent.cloud.authority import AGAIN, Authority
from agent.cloud.openapi import Cloud, Ram, Sts
from agent.core.credential import Credential
from agent.core.errors import CancelledError, KeyturnError, SourceRefusedError, SourceUnavailableError
from agent.core.events import Event
from agent.core.retry import Retry
from agent.emergency.case import Case
from agent.emergency.kms_key import KmsKey, NoSecretError
from agent.emergency.ram_user_key import RamUserKey
from agent.emergency.report import OldKey
from agent.system.clock import Clock
from agent.system.waiting import Activity

REFUSED = "InvalidAccessKeyId"
GONE = "EntityNotExist.User.AccessKey"
UNREACHABLE = "unreachable"
"""What the state says of a key that was published unproved (agent/state/records.py)."""


class EndOfOldKey:
    """Disables the key that was replaced, proves that it is refused, and deletes it."""

    def __init__(self, case: Case, key: KmsKey | RamUserKey, cloud: Cloud, authority: Authority) -> None:
        self._case, self._key, self._cloud, self._authority = case, key, cloud, authority

    def end(self) -> None:
        """Disable it and see it refused; show both steps.

        Raises:
            KeyturnError: it is in use, RAM does not let the authority do it, or no refusal was seen.
        """
        self._refuse_key_in_use()
        self._refuse_unproved()
        self._case.steps.do("disable_old", self._disable)
        self._case.steps.do("prove_refused", self._prove_refused)

    def delete(self) -> None:
        """Delete the key, which was seen refused: who looks for inactive keys finds none, and RAM's recycle bin is the net.

        Raises:
            CancelledError: the agent is stopping.
            KeyturnError: it stays disabled; the text says why, and how to delete it later.
        """
        self._case.steps.do("delete_old", self._delete)

    def _refuse_key_in_use(self) -> None:
        """Raise for a key that is in use; `--force` does not help here."""
        old_id = self._case.old_id
        if not old_id or self._case.published.access_key_id == old_id:
            raise KeyturnError(
                f"{self._case.place}: {old_id or 'the old key'} is the key in use and is not disabled",
                "look at `keyturn status`, and run the same command again",
            )

    def _refuse_unproved(self) -> None:
        """Have a new key proved that was published while STS could not be reached: the old one may be the last that works."""
        case = self._case
        if case.published.verified != UNREACHABLE or case.request.force:
            return
        case.steps.activity.begin("STS to accept the new key")
        case.refresh()
        if case.published.verified == UNREACHABLE:
            raise SourceUnavailableError(
                f"{case.place}: STS could not be reached, so that the new key {case.published.access_key_id} works is not proved; "
                f"the old key {case.old_id} was left active",
                "run the same command again (it does not rotate again) when STS answers; --force disables it all the same",
            )

    def _disable(self) -> str:
        case, user = self._case, self._key.owner()
        try:
            request_id = disable(self._cloud.ram, user, case.old_id, self._authority.ask, case.clock)
        except CancelledError:
            raise
        except KeyturnError as error:
            state = "may still be" if error.retryable else "is still"
            raise error.because(f"so the old key {case.old_id} {state} active; the new one is published") from None
        if request_id is None:
            return f"RAM knows no key {case.old_id} of {user}: it was deleted, or is another user's"
        case.result.old_key = OldKey.DISABLED
        outcome = "inactive, not yet seen refused"
        self._record(Event.OLD_KEY_DISABLED, outcome, request_id, "disabled in RAM, and not yet seen refused")
        return f"{case.old_id} of {user}"

    def _prove_refused(self) -> str:
        case = self._case
        try:
            old = self._key.secret_of_old()
        except NoSecretError:
            if before := self._key.refused_before():
                case.result.safe, case.result.old_key = True, OldKey.DISABLED
                return f"seen refused {before}; its secret is not to be had any more"
            self._key.forget()  # another run could prove no more
            raise
        refusal = see_refused(
            self._cloud.sts, old, case.clock, case.patience.refusal_s, case.held.pause, case.steps.activity
        )
        case.result.safe, case.result.old_key = True, OldKey.DISABLED
        case.result.time_to_safe_ms = case.steps.passed_ms()
        outcome = f"refused with {refusal.code}"
        self._record(Event.OLD_KEY_DISABLED, outcome, refusal.request_id, "disabled and was seen refused")
        if case.request.delete_old:
            self._key.seen_refused(refusal.code)
        return outcome

    def _delete(self) -> str:
        case, user, old_id, told = self._case, self._key.owner(), self._case.old_id, "deleted"
        try:
            request_id = self._authority.ask(
                "RAM DeleteAccessKey",
                "ram:DeleteAccessKey",
                lambda who: self._cloud.ram.delete_access_key(user, old_id, who, now=case.clock.now()),
            )
        except CancelledError:
            raise
        except KeyturnError as error:
            if not error.code.startswith(GONE):
                raise self._kept(error) from None
            told, request_id = "RAM knew it no more", error.request_id
        case.result.old_key = OldKey.DELETED
        self._record(Event.OLD_KEY_DELETED, told, request_id, "deleted and was seen refused")
        return f"{old_id} of {user}: {told}; RAM's recycle bin keeps a deleted key for 30 days"

    def _record(self, event: Event, outcome: str, request_id: str, became: str) -> None:
        """Write what became of the key to the audit log.

        Raises:
            KeyturnError: it cannot be written; the text says what became of the key all the same.
        """
        case = self._case
        try:
            case.record(event, access_key_id=case.old_id, outcome=outcome, request_id=request_id or None)
        except CancelledError:
            raise
        except KeyturnError as error:
            again = "then run the same command again"
            remedy = f"{error.remedy}; {again}" if error.remedy else again
            raise error.because(f"the old key {case.old_id} is {became}", remedy) from None

    def _kept(self, error: KeyturnError) -> KeyturnError:
        """Return the error of a key that is dead, but was not deleted: no code of its own, for it is safe."""
        old_id, name = self._case.old_id, self._case.held.name
        first = "" if error.retryable else f"{error.remedy.removesuffix(', ' + AGAIN)}; "
        return KeyturnError(
            f"{error.problem}; so the old key {old_id} is disabled and was seen refused, but was not deleted",
            f"{first}to delete it later: keyturn rotate {name} --reason TEXT --leaked {old_id} --delete-old",
        )


def disable(
    ram: Ram,
    user: str,
    access_key_id: str,
    ask: Callable[[str, str, Callable[[Credential], str]], str],
    clock: Clock,
) -> str | None:
    """Set a user's key inactive; return RAM's name for the call, None where it knows no such key of that user.

    Args:
        ram: the client.
        user: whose key it is.
        access_key_id: of the key.
        ask: makes the call as the authority, again and again while RAM cannot answer.
        clock: for the signature.

    Raises:
        KeyturnError: RAM does not let the authority do it, or could not be asked.
    """
    try:
        return ask(
            "RAM UpdateAccessKey",
            "ram:UpdateAccessKey",
            lambda who: ram.update_access_key(user, access_key_id, "Inactive", who, now=clock.now()),
        )
    except SourceRefusedError as error:
        if not error.code.startswith(GONE):
            raise
        return None


def see_refused(
    sts: Sts, old: Credential, clock: Clock, patience_s: float, pause: Callable[[float], None], activity: Activity
) -> KeyturnError:
    """Sign calls with the old key until STS refuses it; return the refusal, with its code.

    Args:
        sts: the client.
        old: the key, with its secret.
        clock: for the signatures.
        patience_s: for how long it is asked again.
        pause: sleeps that many seconds; raises when the agent is stopping.
        activity: told what is waited for.

    Raises:
        KeyturnError: it was not refused in `patience_s` seconds.
    """
    activity.begin(f"STS to refuse the old key {old.access_key_id}")
    paused = activity.pausing(pause)
    retry = Retry(0.5, 1.0, patience_s, chance=random.random, pause=paused, monotonic=clock.boottime)
    while True:
        refusal = _ask(sts, old, clock)
        if refusal is not None and refusal.code.startswith(REFUSED):
            return refusal
        answer = refusal.problem if refusal else "STS still accepts it"
        activity.failed(answer)
        if not retry.again():
            raise KeyturnError(
                f"no refusal of the old key {old.access_key_id} was seen in {patience_s:g} s: {answer}",
                "run the same command again to look once more (it does not rotate again); check `ram_user_name`, and "
                "look in the RAM console that the key is inactive",
            )


def _ask(sts: Sts, old: Credential, clock: Clock) -> KeyturnError | None:
    """Return the error of a call that is signed with the old key; None where STS accepts it."""
    try:
        sts.get_caller_identity(old, now=clock.now())
    except KeyturnError as error:
        return error
    return None
