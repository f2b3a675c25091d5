"""The AccessKey of a RAM user whose next one keyturn itself makes: the emergency of `type = "ram_user"` (docs/ram_user.md).

The same public methods as `KmsKey`, so that neither procedure.py nor old_key.py knows which it is.
"""

from __future__ import annotations

from agent.cloud.authority import Authority
from agent.cloud.openapi import Cloud
from agent.core.credential import Credential
from agent.core.errors import BusyError, CancelledError, KeyturnError, SourceUnavailableError, UsageError
from agent.core.timestamps import rfc3339
from agent.emergency.case import Case
from agent.emergency.following import follow
from agent.emergency.kms_key import NoSecretError, end_of
from agent.emergency.refusals import not_its_key
from agent.logs.log import log
from agent.ram_rotation.rotation import KeyRotation
from agent.ram_rotation.view import Rest, View
from agent.state.ram_record import GUESSED


def refuse_to_end(view: View, leaked: str, *, force: bool) -> None:
    """Return where `rotate --leaked` may disable a key that was replaced.

    Args:
        view: what is known of the user's keys.
        leaked: the key.
        force: the operator insists.

    Raises:
        UsageError: it is none of ours.
        KeyturnError: it may be the last that works, or another's.
    """
    mine, current = view.record.key(leaked), view.in_use.access_key_id
    if mine is None:
        raise not_its_key(view.name, leaked, current)
    row = view.row(current)
    if (row is None or not row.is_active) and not force:
        state = "is inactive in RAM" if row is not None else "is not among the user's keys in RAM"
        raise KeyturnError(
            f"{view.place}: the key in use {current} {state}, so {leaked} may be the last that works; nothing was disabled",
            f"enable {current} in the RAM console, or run the command without --leaked, which makes a new key; --force "
            f"disables {leaked} all the same",
        )
    if mine.origin == GUESSED and not force:
        raise KeyturnError(
            f"{view.place}: that {leaked} was made by keyturn is only guessed: the reply to its CreateAccessKey was lost; "
            "nothing was disabled",
            "if nobody else made it, run the same command with --force",
        )


class RamUserKey:
    """The key in use of a RAM user, and the one before it."""

    def __init__(self, case: Case, cloud: Cloud, authority: Authority, rotation: KeyRotation) -> None:
        self._case, self._cloud, self._authority, self._rotation = case, cloud, authority, rotation
        self._old: Credential | None = None
        self._view: View | None = None
        self._made_id = ""
        self._is_arrived = False

    def preflight(self) -> str:
        """Sign in as the authority and look at the user's keys; the one in use is to be replaced, and signs the proof.

        Raises:
            KeyturnError: the authority may not or cannot sign in, there is no value to replace, or the keys are in doubt.
        """
        case = self._case
        case.refresh_first()
        now = case.held.look()
        self._old, case.result.old_access_key_id = now.value, now.seen.published.access_key_id
        view = self._view = self._rotation.caught_up()
        if view.unowned is not None:
            raise self._elsewhere(view.unowned)
        self._take_up()
        whose = {one.access_key_id: one.origin for one in view.record.keys}
        rows = [
            f"{one.access_key_id} ({one.status}, {whose.get(one.access_key_id, 'not ours')})" for one in view.present
        ]
        return f"RAM user {view.plan.user}: {', '.join(rows) or 'no key'}"

    def _elsewhere(self, unowned: Rest) -> KeyturnError:
        case = self._case
        if self._rotation.is_shared:
            first = f"{unowned.remedy}; or" if unowned.remedy else "run the command on that host, or"
            return BusyError(
                f"{case.place}: {unowned.text}",
                f"{first} say with --no-fleet that no other host rotates RAM user {self._rotation.user}",
            )
        return UsageError(
            f"{case.place}.provider.owner: {unowned.text}",
            "run the command on the host that is, or set owner = true on this one alone",
        )

    def is_only_to_be_disabled(self) -> bool:
        """Return whether `--leaked` names a key that was replaced already.

        Raises:
            UsageError: it names none of ours.
        """
        case, leaked = self._case, self._case.request.leaked
        current = case.published.access_key_id
        if leaked is None or leaked == current:
            return False
        assert self._view is not None
        refuse_to_end(self._view, leaked, force=case.request.force)
        case.result.old_access_key_id, self._old = leaked, None
        return True

    def rotate(self) -> str:
        """Have RAM make a key, once.

        Raises:
            KeyturnError: RAM refused or could not be asked, or there is no room for another key.
        """
        case = self._case
        if self._is_arrived:
            return f"taken up again: {case.published.access_key_id}"
        case.held.begin_rotation("", case.old_id, case.request.reason)
        try:
            self._made_id = self._rotation.make()
        except CancelledError:
            raise
        except KeyturnError as error:
            if not error.retryable:
                case.held.forget_rotation(rotated=False)
            raise
        case.held.rotation_asked()
        return f"key {self._made_id}"

    def follow(self) -> None:
        """Wait until the key that was made is published.

        Raises:
            KeyturnError: it was not in `follow_s` seconds, or cannot be.
        """
        case = self._case
        if self._is_arrived:
            return
        try:
            follow(
                case,
                lambda: case.published.access_key_id == self._made_id,
                not_arrived=self._not_arrived,
                hands_out_another=True,
            )
        except CancelledError:
            raise
        except KeyturnError as error:
            raise error.because(
                f"RAM has made {self._made_id}, which is not published yet; {case.old_id} works as before",
                f"{error.remedy}; then run the same command again: it goes on with the same key while this keyturn runs"
                if error.remedy
                else "run the same command again: it goes on with the same key while this keyturn runs",
            ) from None

    def secret_of_old(self) -> Credential:
        """Return the old key with its secret, which only the process knows that published it.

        Raises:
            NoSecretError: this one does not.
        """
        case, old = self._case, self._old
        if old is None or old.access_key_id != case.old_id or old.access_key_secret is None:
            raise NoSecretError(
                f"{case.place}: that the old key {case.old_id} is refused cannot be proved: its secret was in the files alone, "
                "which hold the new one",
                "look in the RAM console that the key is inactive",
            )
        return old

    def owner(self) -> str:
        """Return the RAM user."""
        return self._rotation.user

    def refused_before(self) -> str:
        """Return how an earlier run saw the old key refused, as a clause; "" where none did."""
        now = self._case.held.look()
        if now.unfinished is not None and now.unfinished.refused_with:
            return f"with {now.unfinished.refused_with} by the run that was interrupted"
        if now.ended is not None and now.ended.safe and now.ended.old_access_key_id == self._case.old_id:
            return f"by the rotation that ended at {rfc3339(now.ended.ended_at)}"
        return ""

    def seen_refused(self, code: str) -> None:
        """Write down that the old key was seen refused."""
        self._case.held.old_key_refused(code)

    def forget(self) -> None:
        """Forget the emergency: another run could do no more for it. What becomes of the keys stands in their record."""
        self._case.held.forget_rotation()

    def end(self) -> None:
        """Write down that the rotation came to its end, and what became of the keys."""
        end_of(self._case)
        try:
            self._rotation.caught_up()
        except KeyturnError as error:  # the next look writes it down
            log.warning(
                "the keys of a RAM user could not be looked at", credential=self._case.held.name, error=str(error)
            )

    def old_lives(self) -> str:
        """Return what becomes of an old key that is not disabled."""
        return "is disabled once it rests (disable_after)"

    def _take_up(self) -> None:
        """See whether an earlier `rotate` is to be gone on with: one whose key is published, or that had not made one."""
        case, now = self._case, self._case.held.look()
        unfinished, done = now.unfinished, now.seen.published
        if unfinished is None:
            return
        arrived = done.previous_access_key_id == unfinished.old_access_key_id
        if (not arrived and done.access_key_id != unfinished.old_access_key_id) or (
            arrived and case.request.leaked == done.access_key_id
        ):
            case.held.forget_rotation()
            return
        if arrived:
            self._is_arrived, self._old = True, None
            case.result.old_access_key_id = unfinished.old_access_key_id
            case.result.notes.append(
                f"took up the rotation that was begun at {rfc3339(unfinished.begun_at)} ({unfinished.reason}) and replaced "
                f"{case.old_id}; if the key after it leaked as well, run again with --leaked and its id"
            )

    def _not_arrived(self) -> KeyturnError:
        return SourceUnavailableError(
            f"{self._case.place}: the key {self._made_id} was not published within {self._case.patience.follow_s:g} s",
            "run the same command again",
        )
