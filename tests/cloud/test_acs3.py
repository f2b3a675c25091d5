"""ACS3 signatures against requests that alibabacloud-tea-openapi 0.4.6 signed, frozen.

Recorded by sending real SDK calls (STS 1.2.0, KMS 3.3.1, RAM 1.3.0) to a loopback server, with the SDK's nonce and
clock fixed to the values below.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from urllib.parse import parse_qsl

import pytest

from agent.cloud import acs3
from agent.core.credential import Credential
from agent.core.secret import Secret

SENT_BY_THE_SDK = {
    "host": "127.0.0.1:18443",
    "user-agent": "AlibabaCloud (Linux; x86_64) Python/3.11.7 Core/0.4.3 TeaDSL/2",
    "x-acs-date": "2026-11-22T01:30:16Z",
    "x-acs-signature-nonce": "9f8e7d6c5b4a39281706f5e4d3c2b1a0",
    "accept": "application/json",
    "x-acs-content-sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "x-acs-credentials-provider": "static_ak",
}
KEY = ("LTAI5tSample0000000000001", "SampleSecret00000000000000001a")
STS = {
    "x-acs-credentials-provider": "static_sts",
    "x-acs-accesskey-id": "STS.Sample",
    "x-acs-security-token": "CAIS+sample/token==",
}
AT = datetime(2026, 11, 22, 1, 30, 16, tzinfo=UTC)

SAMPLES = {
    "no parameters": (
        {}, {"x-acs-version": "2015-04-01", "x-acs-action": "GetCallerIdentity"}, KEY,
        "7d94c5c8f0926f430821fbca5db4e81e45ccc0418b007694009afa05757f0294",
    ),
    "a session": (
        {}, {"x-acs-version": "2015-04-01", "x-acs-action": "GetCallerIdentity", **STS},
        ("STS.Sample", "SampleStsSecret"),
        "07b162844dbb1121e2e84567b108d66f14799358a7efe82cb762cfa5320a6f8d",
    ),
    "every awkward character": (
        {"SecretName": "acs/ram/user/app ~*+ü", "VersionId": "v-1"},
        {"x-acs-version": "2016-01-20", "x-acs-action": "RotateSecret"}, KEY,
        "f3357e28d12245b5ccad4780686175be46baba1d51b0f30ac3f54334484cf1ae",
    ),
    "parameters out of order": (
        {"UserName": "app.user@x", "UserAccessKeyId": "LTAI5tOld", "Status": "Inactive"},
        {"x-acs-version": "2015-05-01", "x-acs-action": "UpdateAccessKey"}, KEY,
        "fc27ebd715c254a813908f8f17a4da70a8b86b33b5b63b8281dc51b02a83060c",
    ),
}  # fmt: skip


@pytest.mark.parametrize("story", SAMPLES)
def test_the_signature_is_the_sdks(story: str) -> None:
    """Over the headers and parameters that the SDK sent, our signature is byte for byte the SDK's."""
    params, more, (key_id, secret), signature = SAMPLES[story]
    headers = {**SENT_BY_THE_SDK, **more}
    made = acs3.authorization(acs3.canonical_query(params), headers, key_id, secret)
    names = ";".join(sorted(headers))
    assert made == f"ACS3-HMAC-SHA256 Credential={key_id},SignedHeaders={names},Signature={signature}"


def sign(identity: Credential, **options: object) -> acs3.Signed:
    given = {"host": "sts.aliyuncs.com", "at": AT, "nonce": "n" * 32, **options}
    return acs3.sign("GetCallerIdentity", "2015-04-01", {"B": "2 é", "A": "1"}, identity, **given)  # type: ignore[arg-type]


def test_all_that_must_be_signed_is_signed() -> None:
    """The host and every x-acs header are among the signed ones (Alibaba's V3 signature document)."""
    signed = sign(Credential(access_key_id="STS.a", access_key_secret=Secret("b"), security_token=Secret("tok")))
    names = signed.headers["Authorization"].split("SignedHeaders=")[1].split(",")[0].split(";")
    assert set(names) == {name for name in signed.headers if name != "Authorization"}
    assert {"x-acs-security-token", "x-acs-accesskey-id", "host"} <= set(names)
    assert parse_qsl(signed.query) == [("A", "1"), ("B", "2 é")]


def test_a_long_term_key_sends_no_token() -> None:
    """Without a session the two headers of a session are absent."""
    signed = sign(Credential(access_key_id="a", access_key_secret=Secret("b")))
    assert not {"x-acs-security-token", "x-acs-accesskey-id"} & set(signed.headers)


def test_the_date_is_utc() -> None:
    """A clock in another zone signs the same instant."""
    identity = Credential(access_key_id="a", access_key_secret=Secret("b"))
    elsewhere = AT.astimezone(timezone(timedelta(hours=8)))
    assert sign(identity).headers == sign(identity, at=elsewhere).headers


def test_a_signed_request_does_not_show_itself() -> None:
    """The repr has neither token nor signature."""
    signed = sign(Credential(access_key_id="a", access_key_secret=Secret("b"), security_token=Secret("CanaryToken")))
    assert "CanaryToken" not in repr(signed)
    assert "Signature" not in repr(signed)
