"""What the cloud says before an emergency: harmless calls as the authority, and one look at the source. Nothing is changed.

What each call proves is no more than its own action. That the authority may rotate and disable is proved by doing it alone:
KMS and RAM have no DryRun for RotateSecret and UpdateAccessKey (agent/cloud/looks.py).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import partial
from typing import TypeVar

from agent.cloud.authority import Authority
from agent.cloud.looks import AccessKeySeen, SecretDescription, access_key_last_used, describe_secret, list_access_keys
from agent.cloud.openapi import Cloud
from agent.core.credential import Credential
from agent.core.errors import KeyturnError, LeakedKeyError, NotPermittedError
from agent.core.provider import Provider
from agent.core.rotatable import Rotatable
from agent.system.clock import Clock
from agent.system.questions import Questions
from agent.system.waiting import Activity

T = TypeVar("T")
AskedRam = tuple[Future[tuple[AccessKeySeen, ...]], Future[datetime | None] | None]
"""The user's keys, and when the key in use was used last."""
CALL_S = 6.0
"""Seconds for one call."""

UNPROVED_OF_RAM_USER = (
    ("ram:CreateAccessKey", "RAM has no DryRun for it"),
    ("ram:UpdateAccessKey", "RAM has no DryRun for it"),
)
"""The same where keyturn itself makes the keys."""

UNPROVED = (
    ("kms:RotateSecret", "KMS has no DryRun for it"),
    ("ram:UpdateAccessKey", "RAM has no DryRun for it"),
)
"""What the authority must be able to do, and only an emergency shows."""


class CheckOutcome(StrEnum):
    """The ways in which a harmless call ends."""

    OK = "ok"
    NOT_PERMITTED = "not permitted"
    REFUSED = "refused"
    UNKNOWN = "unknown"
    """No answer: nothing is known by it."""


@dataclass(frozen=True, slots=True)
class Check:
    """One call, and what came of it.

    Attributes:
        call: such as "RAM ListAccessKeys".
        action: the RAM action that it needs; "" for none.
        text: what it proved, or what was wrong.
        error: None where it was answered.
    """

    call: str
    action: str
    outcome: CheckOutcome
    text: str
    error: KeyturnError | None = None


@dataclass
class CloudAnswers:
    """What the cloud said, as far as it did in time.

    Attributes:
        signed_in: the authority's key id; "" where it could not sign in.
        arn: who STS says that it is.
        cannot_sign_in: why there is no authority.
        checks: every call, in order.
        keys: of the RAM user; None where that is not known.
        last_used: of the key in use.
        source: the value that the source hands out; None where it was not asked or did not answer. It holds the secret.
        previous_id: the key before it, as the source has it; "" for none.
    """

    signed_in: str = ""
    arn: str = ""
    cannot_sign_in: KeyturnError | None = None
    checks: list[Check] = field(default_factory=list)
    secret: SecretDescription | None = None
    user: str = ""
    keys: tuple[AccessKeySeen, ...] | None = None
    last_used: datetime | None = None
    source: Credential | None = field(default=None, repr=False)
    previous_id: str = ""


class HarmlessCalls:
    """The asking for one credential. For a thread that is not the loop's."""

    def __init__(
        self,
        name: str,
        authority: Provider | None,
        cloud: Cloud,
        clock: Clock,
        questions: Questions,
        table: str = "emergency",
    ) -> None:
        """Keep what is needed.

        Args:
            name: of the credential.
            authority: who may rotate; None where the config names nobody.
            cloud: the calls to KMS, RAM and STS.
            clock: for the signatures.
            questions: with the deadline of everything together.
            table: of the credential, which names the authority.
        """
        self._place, self._cloud, self._clock, self._questions = f"credentials.{name}", cloud, clock, questions
        self._named = f"{self._place}.{table}"
        self._authority = Authority(name, authority, clock, 0.0, lambda _seconds: None, Activity(), place=self._named)
        self._found = CloudAnswers()

    def look(self, source: Provider, secret_name: str, user: str, known_id: str) -> CloudAnswers:
        """Ask everything; comes back at the deadline at the latest.

        Args:
            source: a provider of the credential that nobody else uses; it is closed.
            secret_name: of the secret at KMS; "" where keyturn itself makes the user's keys.
            user: the RAM user whose key it is; "" where only KMS knows.
            known_id: the key that was published last; "" for none.
        """
        found = self._found
        asked = self._questions.ask(partial(self._ask_source, source))
        sign_in = self._questions.ask(self._authority.sign_in)
        who: Credential | None = None
        try:
            who = self._questions.answer(sign_in)
        except KeyturnError as error:
            is_placed = error.problem.startswith(self._place)
            found.cannot_sign_in = error if is_placed else error.at(f"{self._named}.authority")
        if who is not None:
            found.signed_in = who.access_key_id
            self._as_authority(who, secret_name, user, known_id)
        current = self._answered(
            f"{source.type_name} fetch", "", asked, lambda seen: f"the source hands out {seen[0].access_key_id}"
        )
        if current is not None:
            found.source, found.previous_id = current
            if who is not None and not found.user and (named := found.source.ram_user_name):
                found.user = named
                self._look_at_keys(self._ask_ram(who, named, known_id))
        return found

    def _as_authority(self, who: Credential, secret_name: str, user: str, known_id: str) -> None:
        found, now, ask = self._found, self._clock.now(), self._questions.ask
        sts, kms = self._cloud.sts, self._cloud.kms
        identity = ask(lambda: sts.get_caller_identity(who, now=now, timeout_s=CALL_S))
        described = (
            ask(lambda: describe_secret(kms, secret_name, who, now=now, timeout_s=CALL_S)) if secret_name else None
        )
        asked_ram = self._ask_ram(who, user, known_id) if user else None
        caller = self._answered("STS GetCallerIdentity", "", identity, lambda seen: f"signed in as {seen.arn}")
        found.arn = caller.arn if caller is not None else ""
        if described is not None:
            found.secret = self._answered(
                "KMS DescribeSecret",
                "kms:DescribeSecret",
                described,
                lambda seen: f"sees the secret ({seen.secret_type})",
            )
        found.user = user or (found.secret.user_name if found.secret is not None else "")
        if found.user:
            self._look_at_keys(asked_ram or self._ask_ram(who, found.user, known_id))

    def _look_at_keys(self, asked: AskedRam) -> None:
        found, (listed, used) = self._found, asked
        found.keys = self._answered(
            "RAM ListAccessKeys", "ram:ListAccessKeys", listed, lambda seen: f"sees {len(seen)} of at most 2 keys"
        )
        if used is not None:
            found.last_used = self._answered(
                "RAM GetAccessKeyLastUsed", "ram:GetAccessKeyLastUsed", used, lambda _seen: "sees when the key was used"
            )

    def _ask_ram(self, who: Credential, user: str, known_id: str) -> AskedRam:
        ram, now, ask = self._cloud.ram, self._clock.now(), self._questions.ask
        listed = ask(lambda: list_access_keys(ram, user, who, now=now, timeout_s=CALL_S))
        if not known_id:
            return listed, None
        return listed, ask(lambda: access_key_last_used(ram, user, known_id, who, now=now, timeout_s=CALL_S))

    def _ask_source(self, source: Provider) -> tuple[Credential, str]:
        """Return the value that the source hands out, and the id of the one before."""
        try:
            current = source.fetch(self._clock.now())
            try:
                previous = source.fetch_previous().access_key_id if isinstance(source, Rotatable) else ""
            except KeyturnError:
                previous = ""
            return current, previous
        finally:
            with suppress(Exception):  # a third party's
                source.close()

    def _answered(self, call: str, action: str, future: Future[T], proved: Callable[[T], str]) -> T | None:
        """Wait for the answer to a call, and note what came of it; return it, or None."""
        try:
            answer = self._questions.answer(future)
        except KeyturnError as error:
            self._found.checks.append(Check(call, action, _outcome(error), error.problem, error))
            return None
        self._found.checks.append(Check(call, action, CheckOutcome.OK, proved(answer)))
        return answer


def _outcome(error: KeyturnError) -> CheckOutcome:
    if isinstance(error, NotPermittedError) and not isinstance(error, LeakedKeyError):
        return CheckOutcome.NOT_PERMITTED
    return CheckOutcome.UNKNOWN if error.retryable else CheckOutcome.REFUSED
