"""The failover between several gateways for one secret: which are asked, for how long, and the error if all fail.

They are asked in the order of the config, each within a fair share of the time. One that cannot be reached, sends no valid
reply, or does not prove its identity is passed over, with a warning when that begins or its reason changes. A *refusal* (no
permission, no such secret, a bad key) ends the fetch: docs/adr/0009.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from agent.cloud.transport import UntrustedServerError
from agent.core.errors import BadAnswerError, KeyturnError, SourceUnavailableError, of_all, reason

TRY_S = 10.0
"""The most seconds of a fetch that one gateway gets."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Question:
    """The secret and the version that are asked for."""

    secret_name: str
    version_stage: str


class Gateway(Protocol):
    """A place at which the secret is asked for."""

    name: str

    def ask(self, question: Question, timeout_s: float) -> Mapping[str, object]:
        """Return the reply: `SecretData`, `VersionId` and so on (KMS API, GetSecretValue).

        Raises:
            NoIdentityError: there is no identity to ask with; the other shared gateways need the same one.
            KeyturnError: no answer, or a refusal.
        """


class NoIdentityError(Exception):
    """There is no identity to ask a gateway with: the session that would sign cannot be had."""

    def __init__(self, cause: KeyturnError) -> None:
        super().__init__()
        self.cause = cause


class Order:
    """The order in which the gateways of one credential are asked, with the last warning about each."""

    def __init__(self, credential: str) -> None:
        self._credential = credential
        self._said: dict[tuple[int, str], str] = {}  # why a gateway was passed over last

    def first_answer(self, gateways: Sequence[Gateway], question: Question, timeout_s: float) -> Mapping[str, object]:
        """Return the reply of the first gateway that answers.

        Raises:
            KeyturnError: a gateway refused, or none could be asked; the text tells of each.
        """
        ends = time.monotonic() + timeout_s
        passed_over: list[KeyturnError] = []
        for index, gateway in enumerate(gateways):
            place = (index, gateway.name)
            share_s = max(0.0, ends - time.monotonic()) / (len(gateways) - index)
            try:
                reply = gateway.ask(question, max(0.1, min(TRY_S, share_s)))
            except (SourceUnavailableError, BadAnswerError, UntrustedServerError) as error:
                passed_over.append(error)
                if len(gateways) > 1:
                    self._say(place, error.problem)
            except NoIdentityError as nobody:
                passed_over.append(nobody.cause.without_place())  # the fetch puts its own
                break
            else:
                self._said.pop(place, None)
                return reply
        raise _none_answered(passed_over)

    def _say(self, place: tuple[int, str], problem: str) -> None:
        before, self._said[place] = self._said.get(place), reason(problem)
        level = logging.DEBUG if before == self._said[place] else logging.WARNING
        _log.log(level, "%s is passed over: %s", place[1], problem, extra={"credential": self._credential})


def _none_answered(passed_over: list[KeyturnError]) -> KeyturnError:
    if len(passed_over) == 1:
        return passed_over[0]
    return of_all("no region answered", passed_over)
