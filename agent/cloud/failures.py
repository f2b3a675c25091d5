"""The meanings of Alibaba Cloud's error replies and their remedies: one table for KMS, STS and RAM.

Codes: the "error codes" pages of KMS 2016-01-20, STS 2015-04-01 and RAM 2015-05-01, Alibaba's common
error codes, and the constants of aliyun-secret-manager-client 0.1.5. A reply's `Message` never leaves this
module's callers: services echo the string to sign, tokens and ids in it. Its code and request id, after a
check of their characters, are what support asks for anyway.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import NamedTuple

from agent.cloud.permissions import Asked
from agent.cloud.transport import Reply
from agent.core.errors import (
    BadAnswerError,
    KeyturnError,
    LeakedKeyError,
    NotPermittedError,
    SourceRefusedError,
    SourceUnavailableError,
)

_CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_REQUEST_ID = re.compile(r"[A-Za-z0-9-]{8,64}")
_ACTION = re.compile(r"[a-z][a-z0-9-]{0,31}:[A-Za-z]{1,64}")
_BEING_ROTATED = re.compile(r"being rotated|rotating|rotation (is )?(under ?way|in progress)", re.IGNORECASE)


class RotationRunningError(SourceRefusedError):
    """KMS refuses to rotate a secret whose last rotation is still under way."""


@dataclass(frozen=True, slots=True)
class ServiceError:
    """An error reply, taken apart.

    Attributes:
        code: "" where the reply has none in an acceptable form.
        message: only to be compared with known sentences, never to be shown.
        date: the service's clock, where the reply tells it.
        denied: the RAM action that was missing, where the reply tells it.
        explicitly: whether it was denied by a statement, and not for want of one that allows it.
    """

    host: str
    status: int
    code: str
    request_id: str
    message: str = field(default="", repr=False)
    date: datetime | None = None
    denied: str = ""
    explicitly: bool = False

    @property
    def name(self) -> str:
        """The reply as messages name it: code, status and request id."""
        told = f"{self.code or 'no error code'} (HTTP {self.status}"
        return f"{told}, request {self.request_id})" if self.request_id else f"{told})"


class Meaning(NamedTuple):
    """A row of the table, for codes that begin with `prefix`."""

    prefix: str
    error: type[KeyturnError]
    words: str
    remedy: str


_WAIT = "it is tried again by itself"
_KEY_GONE = "create a new key, or a new ClientKey for the application access point, and put it in place"
_GRANT = "grant the identity this action in RAM, or look at the policy and network rule of its application access point"

_LEAKED = Meaning(
    "",
    LeakedKeyError,
    "refuses the key that signed: Alibaba Cloud restricted it as leaked",
    "replace it now: `keyturn rotate NAME --reason TEXT --disable-old`; the restriction is not lifted",
)

TABLE = (
    Meaning("Throttling", SourceUnavailableError, "answers too many calls just now", _WAIT),
    Meaning("Rejected.Throttling", SourceUnavailableError, "answers too many calls just now", _WAIT),
    Meaning("ServiceUnavailable", SourceUnavailableError, "is unavailable just now", _WAIT),
    Meaning("SerivceUnavailable", SourceUnavailableError, "is unavailable just now", _WAIT),  # so spelled in old pages
    Meaning("Internal", SourceUnavailableError, "has an internal error", _WAIT),
    Meaning("SignatureNonceUsed", SourceUnavailableError, "has seen this request before", _WAIT),
    Meaning("InvalidAccessKeyId.NotFound", SourceRefusedError, "does not know the key that signed", _KEY_GONE),
    Meaning(
        "InvalidAccessKeyId.Inactive",
        SourceRefusedError,
        "refuses the key that signed: it is disabled or has expired",
        "enable it, or " + _KEY_GONE,
    ),
    Meaning("InvalidAccessKeyId", SourceRefusedError, "refuses the key that signed", _KEY_GONE),
    Meaning(
        "InvalidSecurityToken",
        SourceRefusedError,
        "refuses the session token: it has expired or does not belong to the key",
        "take a new session",
    ),
    Meaning(
        "SignatureDoesNotMatch",
        SourceRefusedError,
        "refuses the signature: the secret or private key does not belong to the key id",
        "check that id and secret come from the same key, and that no proxy rewrites the request",
    ),
    Meaning(
        "IncompleteSignature",
        SourceRefusedError,
        "refuses the signature as incomplete",
        "check that no proxy rewrites the request",
    ),
    Meaning(
        "MissingSecurityToken",
        SourceRefusedError,
        "misses the token of the session that signed",
        "give the session's token along with its key",
    ),
    Meaning("Forbidden.InDebt", SourceRefusedError, "refuses because bills are unpaid", "settle the account's bills"),
    Meaning(
        "Forbidden.ResourceNotFound",
        SourceRefusedError,
        "has no such secret, or this identity may not see it",
        "check the secret's name and region, and the policy of the identity",
    ),
    Meaning(
        "Forbidden.KeyNotFound",
        SourceRefusedError,
        "has lost the key that encrypts the secret",
        "restore the encryption key in KMS",
    ),
    Meaning("Forbidden", NotPermittedError, "does not permit this call", _GRANT),
    Meaning("NoPermission", NotPermittedError, "does not permit this call", _GRANT),
    Meaning("AccessDenied", NotPermittedError, "does not permit this call", _GRANT),
    Meaning(
        "AuthenticationFail.NoPermission",
        NotPermittedError,
        "does not let this OIDC token assume the role",
        "register the OIDC provider in RAM, and let the role's trust policy name it with an issuer, audience and subject "
        "that fit the token",
    ),
    Meaning(
        "AuthenticationFail.OIDCToken.Expired",
        SourceRefusedError,
        "refuses the OIDC token: it has expired",
        "see why nobody renews the token's file, in Kubernetes the volume that projects it",
    ),
    Meaning(
        "AuthenticationFail.OIDCToken",
        SourceRefusedError,
        "refuses the OIDC token",
        "compare the token's issuer, audience and keys with the OIDC provider in RAM",
    ),
    Meaning(
        "AuthenticationFail", SourceRefusedError, "does not believe who asks", "check what proves the identity at STS"
    ),
    Meaning(
        "InvalidParameter.RoleArn",
        SourceRefusedError,
        "refuses the name of the role",
        "correct role_arn: acs:ram::ACCOUNT:role/NAME",
    ),
    Meaning(
        "InvalidParameter.RoleSessionName",
        SourceRefusedError,
        "refuses the name of the session",
        "correct role_session_name",
    ),
    Meaning(
        "InvalidParameter.DurationSeconds",
        SourceRefusedError,
        "refuses a session of that length",
        "ask for less, or raise the role's maximum session duration in RAM",
    ),
    Meaning(
        "InvalidParameter.Policy",
        SourceRefusedError,
        "refuses the policy of the session",
        "correct `policy`: a RAM policy as JSON of at most 2048 characters",
    ),
    Meaning(
        "InvalidParameter.OIDCProviderArn",
        SourceRefusedError,
        "refuses the name of the OIDC provider",
        "correct oidc_provider_arn: acs:ram::ACCOUNT:oidc-provider/NAME",
    ),
    Meaning("InvalidParameter.ExternalId", SourceRefusedError, "refuses the external id", "correct external_id"),
    Meaning(
        "EntityNotExist.Role", SourceRefusedError, "has no such role", "correct role_arn, or create the role in RAM"
    ),
    Meaning("EntityNotExist", SourceRefusedError, "has no such user, role or key", "check the name in the config"),
    Meaning(
        "Rejected",
        SourceRefusedError,
        "refuses this in the present state of the secret, its key or the instance",
        "look at the secret in the KMS console",
    ),
    Meaning("LimitExceeded", SourceRefusedError, "refuses: a quota is used up", "look at the quota in the console"),
    Meaning("QuotaExceed", SourceRefusedError, "refuses: a quota is used up", "look at the quota in the console"),
    # the gateways of dedicated KMS instances (KMS, "Common error codes" of the instance API)
    Meaning("Unauthorized", SourceRefusedError, "does not know the ClientKey that signed", _KEY_GONE),
    Meaning(
        "SignatureNotMatch",
        SourceRefusedError,
        "refuses the signature: the private key does not belong to the key id",
        "put the ClientKey's file in place again, unchanged, and see that no proxy rewrites the request",
    ),
    Meaning("InvalidApi", SourceRefusedError, "does not know this call", "check that the endpoint is a KMS instance's"),
    Meaning(
        "InvalidContentType", SourceRefusedError, "does not take protobuf", "see that no proxy rewrites the request"
    ),
    Meaning(
        "UnsupportedOperation",
        SourceRefusedError,
        "does not serve secrets",
        "upgrade the KMS instance, or name the shared gateway in cache_client_region_id",
    ),
)

CLOCK_CODES = ("IllegalTimestamp", "InvalidTimeStamp", "RequestTimeTooSkewed")
"""Refusals of the time in a request: they say nothing about the key that signed it."""

LEAKED = "risk of leakage of this accesskey"
"""What marks the refusal of a key that is restricted as leaked, in lower case: its sentence, since no code is documented.

RAM, "Restrictive protection for compromised AccessKey pairs": "Forbidden : There is a risk of leakage of this AccessKey."
"""

Judge = Callable[[ServiceError], KeyturnError | None]
"""A caller's own reading of an error reply, asked before the table."""


def is_about_clock(code: str) -> bool:
    """Return whether a refusal's code blames this machine's clock."""
    return code.startswith(CLOCK_CODES)


def read(host: str, reply: Reply) -> ServiceError:
    """Take an error reply apart; anything malformed in it is left out."""
    body = json_object(reply.body) or {}
    # The field is described with RAM's DecodeDiagnosticMessage, and in the models of newer SDKs.
    detail = body.get("AccessDeniedDetail")
    denial = detail if isinstance(detail, dict) else {}
    return ServiceError(
        host=host,
        status=reply.status,
        code=_checked(_CODE, body.get("Code")),
        request_id=request_id_of(body),
        message=str(body.get("Message") or "")[:2000],
        date=_date(reply.headers),
        denied=_checked(_ACTION, denial.get("AuthAction")),
        explicitly=denial.get("NoPermissionType") == "ExplicitDeny",
    )


def rotation_running(failed: ServiceError) -> KeyturnError | None:
    """Recognise the refusal of a second rotation.

    Its code is not documented, only its sentence is: "Your secret is being rotated, please try again
    later" (KMS, "Manage and use RAM secrets"). Other `Rejected.*` codes mean other things.
    """
    if not 400 <= failed.status < 500 or not _BEING_ROTATED.search(f"{failed.message} {failed.code}"):
        return None
    return RotationRunningError(
        f"{failed.host} refuses a rotation, because one is under way: {failed.name}",
        "wait until it has ended; the key that it replaces can be disabled meanwhile",
        code=failed.code,
    )


def request_id_of(answer: Mapping[str, object]) -> str:
    """Return the service's name for a call, from its reply; "" where that has none in an acceptable form."""
    return _checked(_REQUEST_ID, answer.get("RequestId"))


def explain(failed: ServiceError, now: datetime, asked: Asked | None = None) -> KeyturnError:
    """Make the error for a reply whose status is not 200.

    Args:
        failed: the reply.
        now: this machine's clock, against which the service's is compared.
        asked: the call, for whose want of permission the remedy is exact.
    """
    error = _explained(failed, now, asked)
    error.request_id = failed.request_id
    return error


def _explained(failed: ServiceError, now: datetime, asked: Asked | None) -> KeyturnError:
    if is_about_clock(failed.code):
        return _clock(failed, now)
    if 400 <= failed.status < 500 and LEAKED in failed.message.lower():
        return _error(_LEAKED, failed)
    for meaning in TABLE:
        if failed.code.startswith(meaning.prefix):
            return _error(meaning, failed, asked)
    return _by_status(failed, asked)


def json_object(body: bytes | str) -> dict[str, object] | None:
    """Parse a JSON object, None for anything else. The parser's own exception holds the text, so it stays here."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _error(meaning: Meaning, failed: ServiceError, asked: Asked | None = None) -> KeyturnError:
    exact = asked.remedy(failed.denied, explicitly=failed.explicitly) if asked and meaning.remedy == _GRANT else None
    return meaning.error(f"{failed.host} {meaning.words}: {failed.name}", exact or meaning.remedy, code=failed.code)


def _by_status(failed: ServiceError, asked: Asked | None) -> KeyturnError:
    status, remedy = failed.status, "check that the endpoint is the service that you mean"
    if status == 429 or status >= 500:
        return _error(Meaning("", SourceUnavailableError, "cannot answer just now", _WAIT), failed)
    if 300 <= status < 400:
        return _error(Meaning("", BadAnswerError, "answers with a redirect, which is not followed", remedy), failed)
    if failed.code and status in (401, 403):
        return _error(Meaning("", NotPermittedError, "does not permit this call", _GRANT), failed, asked)
    if failed.code:
        return _error(Meaning("", SourceRefusedError, "refuses the request", "look the code up"), failed)
    return _error(Meaning("", BadAnswerError, "answers nothing that Alibaba Cloud would", remedy), failed)


def _clock(failed: ServiceError, now: datetime) -> KeyturnError:
    remedy = "set the clock, for example by chrony or systemd-timesyncd"
    said = f"{failed.host} refuses the time of the request: {failed.name}"
    if failed.date is None:
        return SourceRefusedError(said, remedy, code=failed.code)
    skew_s = (now - failed.date).total_seconds()
    skew = f"this machine's clock is {_span(abs(skew_s))} {'ahead of' if skew_s > 0 else 'behind'} its"
    return SourceRefusedError(f"{said}; {skew}", remedy, code=failed.code)


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 2 * 3600 else f"{seconds / 3600:.0f} h"


def _checked(pattern: re.Pattern[str], value: object) -> str:
    return value if isinstance(value, str) and pattern.fullmatch(value) else ""


def _date(headers: Mapping[str, str]) -> datetime | None:
    try:
        date = parsedate_to_datetime(headers.get("date", ""))
    except (TypeError, ValueError, IndexError):
        return None
    return date if date.tzinfo else None
