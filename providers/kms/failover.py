"""Several gateways for one secret: which are asked, for how long, and what their failures come to.

They are asked in the order of the config, each within a fair share of the time. One that cannot be reached, talks
rubbish, or does not prove who it is, is passed over, with a warning when that begins, or its reason changes: an outage
of a day is no line a minute. A gateway that is the only one gets none, since the fetch itself fails then and says why.
A *refusal* (no permission, no such secret, a bad key) ends the fetch, as in the official client: the gateways hold
copies of one secret, and an answer that hides behind a refusal of the first would be an older value or another secret
of the same name.
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
"""The most that one gateway gets of a fetch, in seconds."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked for."""

    secret_name: str
    version_stage: str


class Gateway(Protocol):
    """One place where the secret is asked for."""

    name: str

    def ask(self, question: Question, timeout_s: float) -> Mapping[str, object]:
        """Return the reply: `SecretData`, `VersionId` and so on (KMS API, GetSecretValue).

        Raises:
            NoIdentityError: who would ask could not be found out; the other gateways of the shared kind need the same.
            KeyturnError: no answer, or a refusal.
        """


class NoIdentityError(Exception):
    """Nobody is there to ask a gateway: the session that would sign cannot be had."""

    def __init__(self, cause: KeyturnError) -> None:
        super().__init__()
        self.cause = cause


class Order:
    """Asks the gateways of one credential, and knows what was said of each."""

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
