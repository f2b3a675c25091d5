"""The proof that a new value works, before anything is written: it signs a real STS GetCallerIdentity.

A new AccessKey can take seconds until every endpoint knows it, so a refusal is asked again for
`verify_timeout` before it counts. What says nothing about the key (STS away, throttled, not itself, or
this machine's clock wrong) never blocks a publish: the value goes out and the audit says that it was not
verified. Once STS has refused the key, though, only STS can take that back: a network that fails
afterwards does not turn a refused key into one that is published.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from agent.cloud.failures import is_about_clock
from agent.cloud.openapi import CallerIdentity, Sts
from agent.cloud.transport import Transport, UntrustedServerError
from agent.core.credential import Credential
from agent.core.errors import CancelledError, KeyturnError, NotPermittedError, SourceRefusedError, VerifyRefusedError
from agent.core.retry import Retry
from agent.system.clock import Clock

UNREACHABLE_FOR_S = 10.0
"""Seconds for which an STS that cannot be asked is tried. A publish should not wait all of `verify_timeout` for it."""

ATTEMPT_S = 5.0
BASE_S, CAP_S = 0.4, 4.0
"""The back-off between two tries (agent/core/retry.py): 0.2 s on average after the first, 2 s after the fifth."""

_CLOCK = Clock()


@dataclass(frozen=True, slots=True)
class Verification:
    """The result of a verification.

    Attributes:
        attempts: how often STS was asked.
        arn: whose key it is; "" unless verified.
        account_id: the account of its owner; "" unless verified.
        detail: why STS could not judge; "" when verified.
        request_id: STS's name for the last call, where it answered.
    """

    outcome: Literal["verified", "unreachable"]
    attempts: int
    arn: str = ""
    account_id: str = ""
    detail: str = ""
    request_id: str = ""


class Verifier:
    """A client of one STS endpoint."""

    def __init__(self, transport: Transport, endpoint: str) -> None:
        """Keep the way to STS; no I/O.

        Args:
            endpoint: "host" or "host:port".
        """
        self._sts = Sts(transport, endpoint)

    def verify(
        self,
        credential: Credential,
        *,
        timeout_s: float,
        wait: Callable[[float], bool],
        monotonic: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = _CLOCK.now,
        chance: Callable[[], float] = random.random,
        doubted: Callable[[str], None] = lambda _cause: None,
    ) -> Verification:
        """Ask STS whose key this is, until it says so or the time is up.

        Args:
            credential: an AccessKey or a session; a bearer token cannot sign.
            timeout_s: for how long a refusal is asked again; an STS away is tried 10 s at most.
            wait: sleeps that many seconds, and returns True when the agent is stopping.
            monotonic: seconds, for the time that has passed.
            now: the wall clock, which is signed.
            chance: in [0, 1), for the jitter.
            doubted: called with the cause after each call that proved nothing.

        Raises:
            VerifyRefusedError: STS refused the value, the last time too that it could be asked.
            CancelledError: `wait` said that the agent is stopping.
        """

        def pause(seconds: float) -> None:
            if wait(seconds):
                raise CancelledError("the agent is stopping; the new value was not published")

        retry = Retry(BASE_S, CAP_S, timeout_s, chance=chance, pause=pause, monotonic=monotonic)
        refusal: KeyturnError | None = None
        while True:
            answer = self._ask(credential, now())
            if isinstance(answer, CallerIdentity):
                return Verification(
                    "verified", retry.attempts, answer.arn, answer.account_id, request_id=answer.request_id
                )
            doubted(answer.problem)
            refusal = answer if is_verdict(answer) else refusal
            if refusal is not None:
                if not retry.again():
                    raise _refused(credential, refusal, retry.attempts, timeout_s)
            elif not answer.retryable or not retry.again(UNREACHABLE_FOR_S):
                return Verification("unreachable", retry.attempts, detail=answer.problem, request_id=answer.request_id)

    def _ask(self, credential: Credential, now: datetime) -> CallerIdentity | KeyturnError:
        try:
            return self._sts.get_caller_identity(credential, now=now, timeout_s=ATTEMPT_S)
        except KeyturnError as error:
            return error


def is_verdict(error: KeyturnError) -> bool:
    """Return whether an error of STS is about the key that signed, and not about the clock or a server that is not STS."""
    if isinstance(error, UntrustedServerError) or is_about_clock(error.code):
        return False
    return bool(error.code) and isinstance(error, SourceRefusedError | NotPermittedError)


def _refused(credential: Credential, refusal: KeyturnError, attempts: int, timeout_s: float) -> VerifyRefusedError:
    return VerifyRefusedError(
        f"STS refused AccessKey {credential.access_key_id} for {timeout_s:g} s ({attempts} calls): {refusal.problem}",
        "look at the key in the RAM console; the value in use stays",
        code=refusal.code,
        request_id=refusal.request_id,
        restricted_key=refusal.restricted_key,
    )
