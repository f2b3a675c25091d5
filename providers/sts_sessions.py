"""The common parts of the providers of sessions: the rules of STS for their settings, and the reader of a reply.

Limits: STS API 2015-04-01, AssumeRole and AssumeRoleWithOIDC (the comments in the models of alibabacloud-sts20150401
1.2.0); names of roles: RAM API, CreateRole.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from agent.cloud.failures import json_object, request_id_of
from agent.core.credential import Credential
from agent.core.errors import BadAnswerError
from agent.core.provider import ProviderContext
from agent.core.secret import Secret
from agent.core.settings import Duration, Problems, ProviderSettings, endpoint_fault
from agent.core.timestamps import moment_of

MAX_POLICY_CHARS = 2048
SESSION_NAME_CHARS = 64
SHORTEST_S, LONGEST_S = 15 * 60, 12 * 3600
"""A role's own MaxSessionDuration lies between 1 h and 12 h and may forbid what is allowed here."""

_SESSION_NAME = re.compile(r"[A-Za-z0-9.@_-]{2,64}")
_FOREIGN = re.compile(r"[^A-Za-z0-9.@_-]")
_ROLE_ARN = re.compile(r"acs:ram::[0-9]{1,32}:role/[A-Za-z0-9._-]{1,64}")
_PROVIDER_ARN = re.compile(r"acs:ram::[0-9]{1,32}:oidc-provider/[A-Za-z0-9._-]{1,128}")


@dataclass(frozen=True, kw_only=True)
class RoleSettings(ProviderSettings):
    """The keys that both ways of assuming a role have in common."""

    role_session_name: str | None = None  # None: keyturn-HOST-NAME
    policy: str | None = None  # what the session may do at most: a RAM policy, as JSON
    role_session_expiration: Duration = Duration(3600)
    sts_endpoint: str | None = None  # None: the one of `[cloud]`

    def problems(self) -> Problems:
        """Yield (key, sentence) for what the types cannot rule out."""
        yield from super().problems()
        if self.role_session_name is not None and (fault := session_name_fault(self.role_session_name)):
            yield "role_session_name", fault
        if self.policy is not None and (fault := _policy_fault(self.policy)):
            yield "policy", fault
        yield from life_problems("role_session_expiration", self.role_session_expiration, LONGEST_S)
        yield from endpoint_problems(self.sts_endpoint)


def role_arn_fault(text: str) -> str | None:
    """Return why `text` names no role; None where it does."""
    return None if _ROLE_ARN.fullmatch(text) else "want the ARN of a role: acs:ram::ACCOUNT-ID:role/NAME"


def provider_arn_fault(text: str) -> str | None:
    """Return why `text` names no OIDC provider; None where it does."""
    return (
        None
        if _PROVIDER_ARN.fullmatch(text)
        else "want the ARN of an OIDC provider: acs:ram::ACCOUNT-ID:oidc-provider/NAME"
    )


def session_name_fault(text: str) -> str | None:
    """Return why `text` can be no session's name; None where it can."""
    return None if _SESSION_NAME.fullmatch(text) else 'want 2 to 64 letters, digits and ".", "@", "-", "_"'


def life_problems(key: str, life_s: float, longest_s: int) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with the length of a session, in seconds."""
    if not SHORTEST_S <= life_s <= longest_s or life_s != int(life_s):
        yield key, f'want whole seconds from "15m" to "{longest_s // 3600}h"'


def endpoint_problems(endpoint: str | None) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with `sts_endpoint`."""
    if endpoint is not None and (fault := endpoint_fault(endpoint)):
        yield "sts_endpoint", fault


def _policy_fault(text: str) -> str | None:
    if len(text) > MAX_POLICY_CHARS:
        return f"is {len(text)} characters long; STS takes {MAX_POLICY_CHARS}"
    return (
        None if json_object(text) else 'want a RAM policy as a JSON object, such as {"Version": "1", "Statement": […]}'
    )


def default_session_name(context: ProviderContext) -> str:
    """Return `keyturn-HOST-NAME` in the characters and the length that STS accepts.

    Where something has to be replaced or cut, eight digits of a hash of the whole keep two names distinct, because
    ActionTrail shows sessions under this name.
    """
    whole = f"keyturn-{context.hostname}-{context.credential}"
    if _SESSION_NAME.fullmatch(whole):
        return whole
    digest = hashlib.sha256(whole.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    return f"{_FOREIGN.sub('-', whole)[: SESSION_NAME_CHARS - 9]}-{digest}"


@dataclass(frozen=True, slots=True)
class SessionReader:
    """A reader of the session in a reply. Its errors name what is wrong and never quote the reply.

    Attributes:
        action: the action that was called.
        endpoint: the server that answered.
    """

    action: str
    endpoint: str

    def read_role_session(self, answer: Mapping[str, object]) -> Credential:
        """Return the credential in a reply to AssumeRole or AssumeRoleWithOIDC.

        Raises:
            BadAnswerError: as `read`.
        """
        found = answer.get("Credentials")
        if not isinstance(found, dict):
            raise self.bad("has no Credentials")
        key_id, secret, token = (found.get(name) for name in ("AccessKeyId", "AccessKeySecret", "SecurityToken"))
        return self.read(key_id, secret, found.get("Expiration"), token or "", request_id=request_id_of(answer))

    def read(
        self, key_id: object, secret: object, expiration: object, token: object | None = None, *, request_id: str
    ) -> Credential:
        """Return the credential in the reply.

        Args:
            token: None for a kind of session that has none.
            request_id: the service's name for the call; "" where it gives none.

        Raises:
            BadAnswerError: a part is missing or of another type.
        """
        return Credential(
            access_key_id=self._text("key id", key_id),
            access_key_secret=Secret(self._text("secret", secret)),
            security_token=None if token is None else Secret(self._text("SecurityToken", token)),
            expiration=self._moment(expiration),
            request_id=request_id,
        )

    def bad(self, what: str) -> BadAnswerError:
        """Return the error for a reply that holds no session."""
        return BadAnswerError(
            f"{self.action}: the answer of {self.endpoint} {what}",
            "check that the endpoint is STS; the value in use stays",
        )

    def _text(self, name: str, value: object) -> str:
        if not isinstance(value, str) or not value:
            raise self.bad(f"has no {name}")
        return value

    def _moment(self, value: object) -> datetime:
        moment = moment_of(self._text("Expiration", value))
        if moment is None:
            raise self.bad("has an Expiration that is no time like 2026-01-01T00:00:00Z")
        return moment
