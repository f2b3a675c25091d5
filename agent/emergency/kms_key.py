"""The AccessKey of a managed RAM secret: KMS replaces it, and hands out the one before (docs/adr/0012).

A source that replaces keys in another way (a RAM user whose keys keyturn makes itself) gets a class beside this one, with
the same public methods: procedure.py chooses, and neither it nor old_key.py knows KMS.
"""

from __future__ import annotations

from agent.cloud.authority import Authority
from agent.cloud.looks import list_access_keys
from agent.cloud.openapi import Cloud
from agent.core.credential import Credential
from agent.core.errors import (
    CancelledError,
    KeyturnError,
    NotPermittedError,
    SourceRefusedError,
    SourceUnavailableError,
    UsageError,
)
from agent.core.events import Event
from agent.core.rotatable import Rotatable
from agent.core.timestamps import rfc3339
from agent.emergency.case import Case
from agent.emergency.following import follow
from agent.emergency.kms_rotation import ROTATIONS_PER_HOUR, TOO_MANY_KEYS, KmsRotation
from agent.emergency.refusals import not_its_key
from agent.state.records import RotationEnd, RotationJournal


class NoSecretError(KeyturnError):
    """The error that the old key's secret is not to be had any more, so nothing can be signed with it."""


class KmsKey:
    """The current key of a credential's secret, and the one before it."""

    def __init__(self, case: Case, secret: Rotatable, cloud: Cloud, authority: Authority) -> None:
        self._case, self._secret, self._cloud, self._authority = case, secret, cloud, authority
        self._rotation = KmsRotation(case.held, cloud.kms, authority, secret.secret_name)
        self._old: Credential | None = None
        self._taken_up: RotationJournal | None = None

    def preflight(self) -> str:
        """Sign in as the authority and look at the current key: the one to replace, whose secret signs the proof at the end.

        Raises:
            KeyturnError: the authority may not or cannot sign in, or there is no value to replace.
        """
        case = self._case
        known_as = self._sign_in()
        case.refresh_first()
        unfinished = self._taken_up = self._rotation.unfinished(case.request.leaked)
        self._old = case.held.look().value
        case.result.old_access_key_id = case.published.access_key_id
        if unfinished is not None:
            case.result.old_access_key_id = unfinished.old_access_key_id
            case.result.notes.append(
                f"took up the rotation that was begun at {rfc3339(unfinished.begun_at)} ({unfinished.reason}) and "
                f"replaces {case.old_id}; if the key after it leaked as well, run again with --leaked and its id"
            )
        spent = f"{self._rotation.spent()} of {ROTATIONS_PER_HOUR} rotations spent this hour, as far as is known here"
        return f"{known_as}; {spent}"

    def is_only_to_be_disabled(self) -> bool:
        """Return whether `--leaked` names the key before the current one.

        Raises:
            UsageError: it names neither of the two.
        """
        leaked, done = self._case.request.leaked, self._case.published
        if leaked is None or leaked == done.access_key_id:
            return False
        previous, doubt = self._previous()
        if leaked not in {done.previous_access_key_id, previous.access_key_id if previous else ""}:
            raise not_its_key(self._case.held.name, leaked, done.access_key_id, doubt)
        self._case.result.old_access_key_id = leaked
        if previous is not None and previous.access_key_id == leaked:
            self._old = previous
        return True

    def rotate(self) -> str:
        """Have KMS rotate the secret once.

        Raises:
            KeyturnError: KMS refused, or could not be asked.
        """
        case = self._case
        begun = self._rotation.begin(case.old_id, case.request.reason)
        journal = begun.journal
        case.result.version_id = journal.version_id
        if not journal.asked:  # else KMS said yes to an earlier `rotate`, and only the rest is missing
            replaced = case.published
            try:
                request_id = self._rotation.ask(begun, case.refresh)
            except SourceRefusedError as error:
                if not error.code.startswith(TOO_MANY_KEYS):
                    raise
                raise self._third_key(error) from None
            is_known = replaced.access_key_id == journal.old_access_key_id
            try:
                case.record(
                    Event.ROTATION_STARTED,
                    version_id=journal.version_id,
                    previous_access_key_id=journal.old_access_key_id or None,
                    created_at=replaced.created_at if is_known else None,  # of the key that is replaced
                    request_id=request_id or None,
                )
                self._rotation.asked()
            except CancelledError:
                raise
            except KeyturnError as error:  # a full disk, and KMS has rotated
                raise self._not_everywhere(error) from None
        return f"{'taken up again: ' if begun.taken_up else ''}version {journal.version_id}"

    def follow(self) -> None:
        """Wait until the version that `rotate` asked for is current and published.

        Raises:
            KeyturnError: it was not in `follow_s` seconds, or cannot be.
        """
        case, wanted = self._case, self._case.result.version_id
        try:
            follow(
                case,
                lambda: case.published.version_id == wanted,
                not_arrived=self._not_arrived,
                hands_out_another=True,
            )
        except CancelledError:
            raise
        except KeyturnError as error:
            raise self._not_everywhere(error) from None

    def _not_everywhere(self, error: KeyturnError) -> KeyturnError:
        """Return the error of a rotation that KMS has made and this host has not: which key is where, and what to do."""
        old_id, again = self._case.old_id, "then run the same command again: it does not rotate again"
        may_not = "it may not kms:GetSecretValue; " if isinstance(error, NotPermittedError) and error.code else ""
        return error.because(
            f"{may_not}KMS has replaced {old_id}, but the new key is not published everywhere here: files may still hold "
            f"{old_id}, which works until KMS ends it, within two days",
            f"{error.remedy}; {again}" if error.remedy else again,
        )

    def secret_of_old(self) -> Credential:
        """Return the old key with its secret: the one that this process knew, or KMS's version before.

        Raises:
            NoSecretError: neither is to be had.
        """
        old, old_id, doubt = self._old, self._case.old_id, ""
        if old is None or old.access_key_id != old_id or old.access_key_secret is None:
            old, doubt = self._previous()
        if old is None or old.access_key_id != old_id:
            raise NoSecretError(
                f"{self._case.place}: that the old key {old_id} is refused cannot be proved: its secret is not to be "
                f"had any more{f' ({doubt})' if doubt else ''}",
                f"look in the RAM console that the key is inactive or gone{self._not_rotated_now()}",
            )
        return old

    def owner(self) -> str:
        """Return the RAM user whose key it is, as the config or KMS names it.

        Raises:
            UsageError: neither does.
        """
        case = self._case
        settings = case.held.settings.emergency
        user = (settings.ram_user_name if settings else None) or case.published.ram_user_name
        if not user:
            raise UsageError(
                f"{case.place}.emergency.ram_user_name: KMS does not say whose key it is, so the old key "
                f"{case.old_id} was left active",
                "name the RAM user there, then run the same command again (it does not rotate again)",
            )
        return user

    def refused_before(self) -> str:
        """Return how an earlier run saw the old key refused, as a clause; "" where none did."""
        ended = self._case.held.look().ended
        if self._taken_up is not None and self._taken_up.refused_with:
            return f"with {self._taken_up.refused_with} by the run that was interrupted"
        if ended is not None and ended.safe and ended.old_access_key_id == self._case.old_id:
            return f"by the rotation that ended at {rfc3339(ended.ended_at)}"
        return ""

    def seen_refused(self, code: str) -> None:
        """Write down that the old key was seen refused, before what could prove it once more is gone."""
        self._case.held.old_key_refused(code)

    def forget(self) -> None:
        """Forget the rotation: another run could do no more for it."""
        self._rotation.forget()

    def end(self) -> None:
        """Write down that the rotation came to its end, and what became of it, for the next `rotate`."""
        end_of(self._case)

    def old_lives(self) -> str:
        """Return what becomes of an old key that is not disabled."""
        return "may work for up to two days (KMS)"

    def _sign_in(self) -> str:
        """Have STS name the authority; an STS that cannot answer does not stop the rotation."""
        case = self._case
        case.steps.activity.begin("the authority to sign in, and STS to name it")
        who = self._authority.sign_in()
        try:
            return f"signed in as {self._cloud.sts.get_caller_identity(who, now=case.clock.now(), timeout_s=5.0).arn}"
        except KeyturnError as error:
            if not error.retryable:
                place = f"{case.place}.emergency.authority {who.access_key_id}"
                raise error.because("nothing was rotated").at(place) from None
            return f"the authority is not proved: {error.problem}"

    def _previous(self) -> tuple[Credential | None, str]:
        """Return the key before the current one; or None and, where it is known, why it is not to be had."""
        self._case.steps.activity.begin("KMS to hand out the key before")
        try:
            return self._secret.fetch_previous(), ""
        except KeyturnError as error:
            return None, error.problem

    def _not_arrived(self) -> KeyturnError:
        return SourceUnavailableError(
            f"{self._case.place}: KMS has not made the new version current within {self._case.patience.follow_s:g} s",
            "run the same command again: it takes this rotation up and does not rotate twice",
        )

    def _not_rotated_now(self) -> str:
        """Return what to say where a rotation of long ago was taken up, so that the key in use was not replaced."""
        if self._taken_up is None:
            return ""
        current = self._case.published.access_key_id
        return f"; this was the rotation of {rfc3339(self._taken_up.begun_at)}: to replace {current}, run the same command again"

    def _third_key(self, error: KeyturnError) -> KeyturnError:
        """Return the error of a rotation for which the RAM user has no room, with the key that is in the way."""
        case, current = self._case, self._case.published.access_key_id
        user = case.published.ram_user_name or "the RAM user"
        stranger, doubt = self._stranger(user)
        named = stranger or f"a key that is not to be seen ({doubt})"
        delete = f"--UserName {user} --UserAccessKeyId {stranger or 'ID'}"
        return SourceRefusedError(
            f"{case.place}: a RAM user owns two AccessKeys at most, and {user} has {named} beside {current}: KMS does not "
            f"manage it and could not make a new key ({error.code}); nothing was rotated",
            f"see who uses it; then run: aliyun ram UpdateAccessKey {delete} --Status Inactive, and: aliyun ram "
            f"DeleteAccessKey {delete}; then the same command again; if it cannot wait, disable {current} in the RAM console",
            code=error.code,
        )

    def _stranger(self, user: str) -> tuple[str, str]:
        """Return the ids of the user's keys besides those of the secret; or "" and why they are not to be had."""
        case, ram = self._case, self._cloud.ram
        try:
            found = self._authority.ask(
                "RAM ListAccessKeys",
                "ram:ListAccessKeys",
                lambda who: list_access_keys(ram, user, who, now=case.clock.now()),
            )
        except KeyturnError as error:
            return "", error.problem
        ours = {case.published.access_key_id, case.published.previous_access_key_id}
        return " and ".join(
            one.access_key_id for one in found if one.access_key_id not in ours
        ), "RAM lists no other one"


def end_of(case: Case) -> None:
    """Write down that a rotation came to its end, and what became of it, for the next `rotate`."""
    case.held.end_rotation(
        RotationEnd(
            ended_at=case.clock.now(),
            by=case.request.actor.user,
            reason=case.request.reason,
            old_access_key_id=case.old_id,
            new_access_key_id=case.published.access_key_id,
            old_key=str(case.result.old_key),
            safe=case.result.safe,
        )
    )
