"""Error replies in plain words: every documented code, and replies that nobody documented."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from agent.cloud import failures
from agent.cloud.transport import Reply
from agent.core.errors import (
    BadAnswerError,
    KeyturnError,
    LeakedKeyError,
    NotPermittedError,
    SourceRefusedError,
    SourceUnavailableError,
)

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
REQUEST_ID = "0F1E2D3C-4B5A-6978-8796-A5B4C3D2E1F0"


def explain(status: int, body: object, **headers: str) -> KeyturnError:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return failures.explain(failures.read("kms.example", Reply(status, headers, content)), NOW)


DOCUMENTED: list[tuple[int, str, type[KeyturnError], str]] = [
    (429, "Rejected.Throttling", SourceUnavailableError, "too many calls"),
    (400, "Throttling.User", SourceUnavailableError, "too many calls"),
    (400, "Throttling", SourceUnavailableError, "too many calls"),
    (500, "InternalFailure", SourceUnavailableError, "internal error"),
    (500, "InternalError", SourceUnavailableError, "internal error"),
    (503, "ServiceUnavailableTemporary", SourceUnavailableError, "unavailable"),
    (503, "SerivceUnavailableTemporary", SourceUnavailableError, "unavailable"),
    (400, "SignatureNonceUsed", SourceUnavailableError, "seen this request"),
    (404, "InvalidAccessKeyId.NotFound", SourceRefusedError, "does not know the key"),
    (403, "InvalidAccessKeyId.Inactive", SourceRefusedError, "disabled or has expired"),
    (400, "InvalidAccessKeyId", SourceRefusedError, "refuses the key"),
    (403, "Forbidden.NoPermission", NotPermittedError, "does not permit"),
    (403, "NoPermission", NotPermittedError, "does not permit"),
    (403, "Forbidden.RAM", NotPermittedError, "does not permit"),
    (403, "Forbidden", NotPermittedError, "does not permit"),
    (403, "AccessDeniedError", NotPermittedError, "does not permit"),
    (404, "Forbidden.ResourceNotFound", SourceRefusedError, "no such secret"),
    (404, "Forbidden.KeyNotFound", SourceRefusedError, "lost the key"),
    (400, "SignatureDoesNotMatch", SourceRefusedError, "refuses the signature"),
    (400, "IncompleteSignature", SourceRefusedError, "incomplete"),
    (400, "IllegalTimestamp", SourceRefusedError, "refuses the time"),
    (400, "InvalidTimeStamp.Expired", SourceRefusedError, "refuses the time"),
    (400, "InvalidTimeStamp.Format", SourceRefusedError, "refuses the time"),
    (400, "MissingParameter", SourceRefusedError, "refuses the request"),
    (400, "InvalidParameter", SourceRefusedError, "refuses the request"),
    (403, "Forbidden.InDebt", SourceRefusedError, "bills"),
    (403, "Forbidden.InDebtOverdue", SourceRefusedError, "bills"),
    (409, "Rejected.Unavailable", SourceRefusedError, "present state"),
    (409, "Rejected.Disabled", SourceRefusedError, "present state"),
    (409, "Rejected.PendingDeletion", SourceRefusedError, "present state"),
    (400, "InvalidSecurityToken.Expired", SourceRefusedError, "session token"),
    (400, "InvalidSecurityToken.MismatchWithAccessKey", SourceRefusedError, "session token"),
    (400, "MissingSecurityToken", SourceRefusedError, "misses the token"),
    (401, "AuthenticationFail.NoPermission", NotPermittedError, "does not let this OIDC token"),
    (401, "AuthenticationFail.OIDCToken.Expired", SourceRefusedError, "it has expired"),
    (401, "AuthenticationFail.OIDCToken.Invalid", SourceRefusedError, "refuses the OIDC token"),
    (401, "AuthenticationFail.OIDCToken.InvalidSignature", SourceRefusedError, "refuses the OIDC token"),
    (401, "AuthenticationFail.OIDCToken.AudienceNotMatch", SourceRefusedError, "refuses the OIDC token"),
    (401, "AuthenticationFail.Other", SourceRefusedError, "does not believe who asks"),
    (400, "InvalidParameter.RoleArn", SourceRefusedError, "name of the role"),
    (400, "InvalidParameter.RoleSessionName", SourceRefusedError, "name of the session"),
    (400, "InvalidParameter.DurationSeconds", SourceRefusedError, "of that length"),
    (400, "InvalidParameter.PolicyGrammar", SourceRefusedError, "policy of the session"),
    (400, "InvalidParameter.PolicySize", SourceRefusedError, "policy of the session"),
    (400, "InvalidParameter.ExternalId", SourceRefusedError, "external id"),
    (400, "InvalidParameter.OIDCProviderArn", SourceRefusedError, "name of the OIDC provider"),
    (404, "EntityNotExist.Role", SourceRefusedError, "no such role"),
    (404, "EntityNotExist.User.AccessKey", SourceRefusedError, "no such user"),
    (409, "LimitExceeded.User.AccessKey", SourceRefusedError, "quota"),
    (403, "Undocumented.Code", NotPermittedError, "does not permit"),
    (418, "Undocumented.Code", SourceRefusedError, "refuses the request"),
    (502, "Undocumented.Code", SourceUnavailableError, "cannot answer"),
]


@pytest.mark.parametrize(("status", "code", "kind", "words"), DOCUMENTED, ids=[f"{s}-{c}" for s, c, _, _ in DOCUMENTED])
def test_each_code_has_its_meaning(status: int, code: str, kind: type[KeyturnError], words: str) -> None:
    """The error is the leaf that fits, names host, code, status and request, keeps the code, and has a remedy."""
    error = explain(status, {"Code": code, "Message": "CanaryMessage", "RequestId": REQUEST_ID})
    assert type(error) is kind
    assert error.retryable is (kind is SourceUnavailableError)
    assert words in error.problem
    for part in ("kms.example", code, str(status), REQUEST_ID):
        assert part in error.problem
    assert error.code == code
    assert error.remedy


@pytest.mark.parametrize("code", ["Forbidden", "Forbidden.Leaked", "NoPermission"])
def test_a_key_that_is_restricted_as_leaked_is_known_by_its_sentence(code: str) -> None:
    """Alibaba documents no code: "Forbidden : There is a risk of leakage of this AccessKey."."""
    error = explain(403, {"Code": code, "Message": "There is a risk of leakage of this AccessKey."})
    assert type(error) is LeakedKeyError and error.code == code and "keyturn rotate" in error.remedy
    assert (
        type(explain(503, {"Code": code, "Message": "There is a risk of leakage of this AccessKey."}))
        is not LeakedKeyError
    )


def test_the_message_is_never_shown(shown: Callable[[BaseException], str]) -> None:
    """What a service says besides its code can echo the string to sign, so nothing of it goes on."""
    reply = Reply(400, {}, json.dumps({"Code": "SignatureDoesNotMatch", "Message": "sts: CanaryString"}).encode())
    failed = failures.read("kms.example", reply)
    assert "CanaryString" in failed.message
    assert "CanaryString" not in repr(failed) + shown(failures.explain(failed, NOW))


@pytest.mark.parametrize(
    "code", ["x\ny", "Canary token", "C" * 101, "", 7, None, ["Canary"], "é", "a/b", "\x1b[31m"], ids=repr
)
def test_a_code_that_is_none_is_not_shown(code: object) -> None:
    """Only what looks like a code is shown as one; the rest says that there was none."""
    error = explain(400, {"Code": code, "RequestId": "bad id\n"})
    assert type(error) is BadAnswerError
    assert "no error code (HTTP 400)" in error.problem
    assert error.code == ""


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>Canary</html>", b"[]", b'"Canary"', b"[" * 100_000, b"\xff\xfe", b"null"],
    ids=lambda b: repr(b[:9]),
)
@pytest.mark.parametrize(
    ("status", "kind"), [(502, SourceUnavailableError), (429, SourceUnavailableError), (302, BadAnswerError),
                         (200 + 4, BadAnswerError), (404, BadAnswerError), (403, BadAnswerError)]
)  # fmt: skip
def test_a_reply_that_is_no_error_body(status: int, kind: type[KeyturnError], body: bytes) -> None:
    """A gateway's page, rubbish or nothing is judged by the status, retried, and not quoted."""
    error = explain(status, body)
    assert type(error) is kind
    assert error.retryable
    assert "Canary" not in str(error)


@pytest.mark.parametrize(
    ("date", "words"),
    [
        ("Sun, 22 Nov 2026 12:17:00 GMT", "this machine's clock is 17 min behind its"),
        ("Sun, 22 Nov 2026 11:40:00 GMT", "this machine's clock is 20 min ahead of its"),
        ("Fri, 20 Nov 2026 12:00:00 GMT", "this machine's clock is 48 h ahead of its"),
        ("Sun, 22 Nov 2026 12:01:00 GMT", "this machine's clock is 60 s behind its"),
    ],
)
def test_the_skew_of_the_clock_is_measured(date: str, words: str) -> None:
    """A refused timestamp comes with the distance to the service's clock."""
    error = explain(400, {"Code": "InvalidTimeStamp.Expired"}, date=date)
    assert words in error.problem
    assert "clock" in error.remedy


@pytest.mark.parametrize("date", ["", "yesterday", "Sun, 99 Nov 2026 12:17:00 GMT", "Sun, 22 Nov 2026 12:17:00 -0000"])
def test_a_bad_date_is_left_out(date: str) -> None:
    """Without a readable Date the refusal is told without a measure."""
    error = explain(400, {"Code": "IllegalTimestamp"}, date=date)
    assert "refuses the time" in error.problem
    assert "this machine's clock is" not in error.problem
