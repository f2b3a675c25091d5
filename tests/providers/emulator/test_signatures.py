"""The emulator believes what the stock SDKs sign, and nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from providers.emulator.errors import ApiError
from providers.emulator.model import AccessKey, Caller, ClientKey, RsaKeyPair, Session, User
from providers.emulator.signatures import (
    NonceBook,
    Request,
    check_token,
    claimed,
    read_anonymous_claim,
    read_claim,
    verify,
)

RECORDED = json.loads(Path(__file__).with_name("wire_samples.json").read_text())
SAMPLES: dict[str, Any] = {sample["name"]: sample for sample in RECORDED["samples"]}
RPC = [name for name in SAMPLES if "ACS3" not in name]
ACS3 = [name for name in SAMPLES if "ACS3" in name]


def request_of(name: str) -> Request:
    sample = SAMPLES[name]
    return Request(sample["method"], sample["path"], sample["query"], sample["headers"], sample["body"].encode())


def public_key(name: str) -> RSAPublicKey:
    key = load_pem_public_key(RECORDED[name].encode())
    assert isinstance(key, RSAPublicKey)
    return key


class RecordedKeyPair(RsaKeyPair):
    """One of which only the public half was kept."""

    @property
    def public_key(self) -> RSAPublicKey:
        return public_key("rsa_public_key")


def key_of(access_key_id: str) -> Caller:
    if access_key_id == RECORDED["client_key_id"]:
        return ClientKey(access_key_id, public_key("client_public_key"))
    if access_key_id == RECORDED["rsa_key_id"]:
        return RecordedKeyPair(access_key_id, "recorder", None)  # type: ignore[arg-type]
    if access_key_id == RECORDED["session_id"]:
        secret, token = RECORDED["session_secret"], RECORDED["session_token"]
        return Session(access_key_id, secret, token, float("inf"), User("recorder", "1"))
    return AccessKey(RECORDED["access_key_id"], RECORDED["access_key_secret"], "recorder", 0.0, 0.0)


def check(request: Request, at: float, nonces: NonceBook | None = None) -> None:
    claim = read_claim(request)
    key = key_of(claim.access_key_id)
    check_token(claim, key, at)
    verify(request, claim, key, at, nonces or NonceBook())


def refusal(request: Request, at: float, nonces: NonceBook | None = None) -> tuple[int, str]:
    with pytest.raises(ApiError) as caught:
        check(request, at, nonces)
    return caught.value.status, caught.value.code


def with_header(request: Request, **changes: str | None) -> Request:
    headers = dict(request.headers)
    for name, value in changes.items():
        headers.pop(name.replace("_", "-"), None)
        if value is not None:
            headers[name.replace("_", "-")] = value
    return replace(request, headers=headers)


@pytest.mark.parametrize("name", SAMPLES)
def test_what_an_sdk_sent_once_still_verifies(name: str) -> None:
    """A request recorded from a stock SDK passes, whatever characters its values hold."""
    check(request_of(name), SAMPLES[name]["at"])


@pytest.mark.parametrize("name", SAMPLES)
def test_a_request_claims_its_action_and_key_before_it_is_believed(name: str) -> None:
    """The records can name action and key of every request, refused ones too."""
    action, access_key_id = claimed(request_of(name))
    assert action == name.rpartition(" ")[2]
    assert access_key_id in [RECORDED[kind] for kind in ("access_key_id", "client_key_id", "session_id", "rsa_key_id")]


@pytest.mark.parametrize("name", RPC)
def test_a_changed_parameter_breaks_an_rpc_signature(name: str) -> None:
    """Every parameter is signed: a changed value, an added one and a removed one are refused."""
    request, at = request_of(name), SAMPLES[name]["at"]
    no = (400, "SignatureDoesNotMatch")
    changed = request.query.replace("Format=JSON", "Format=XML")
    assert changed != request.query
    assert refusal(replace(request, query=changed), at) == no
    assert refusal(replace(request, query=request.query + "&DryRun=true"), at) == no
    assert refusal(replace(request, query=request.query.replace("Format=JSON&", "")), at) == no


@pytest.mark.parametrize("name", RPC)
def test_the_method_is_signed(name: str) -> None:
    """A GET that becomes a POST, or the other way round, is refused."""
    request = request_of(name)
    other = "GET" if request.method == "POST" else "POST"
    assert refusal(replace(request, method=other), SAMPLES[name]["at"]) == (400, "SignatureDoesNotMatch")


@pytest.mark.parametrize("name", [name for name in SAMPLES if "form" in name])
def test_a_form_body_is_signed(name: str) -> None:
    """A changed body is refused, by its parameters (RPC) or by its hash (ACS3)."""
    request = request_of(name)
    changed = replace(request, body=request.body + b"x")
    assert refusal(changed, SAMPLES[name]["at"]) == (400, "SignatureDoesNotMatch")


@pytest.mark.parametrize("name", ACS3)
def test_changes_break_an_acs3_signature(name: str) -> None:
    """Query, method, body and signed headers are all covered."""
    request, at = request_of(name), SAMPLES[name]["at"]
    no = (400, "SignatureDoesNotMatch")
    assert refusal(replace(request, query=request.query + "&A=b"), at) == no
    assert refusal(replace(request, method="PUT"), at) == no
    assert refusal(replace(request, path="/other"), at) == no
    assert refusal(with_header(request, host="127.0.0.1:1"), at) == no
    assert refusal(with_header(request, x_acs_action="DeleteSecret"), at) == no
    assert refusal(with_header(request, x_acs_content_sha256="0" * 64), at) == no


@pytest.mark.parametrize("name", ACS3)
def test_acs3_wants_host_and_every_x_acs_header_signed(name: str) -> None:
    """A header of the protocol that is not among the signed ones is refused, and so is a signed one that is missing."""
    request, at = request_of(name), SAMPLES[name]["at"]
    assert refusal(with_header(request, x_acs_smuggled="in"), at) == (400, "IncompleteSignature")
    assert refusal(with_header(request, accept=None), at) == (400, "IncompleteSignature")
    assert "content-type" in request.headers or (
        refusal(with_header(request, content_type="application/json"), at) == (400, "IncompleteSignature")
    ), "an unsigned content-type could make a body mean something else"
    unsigned_host = request.headers["authorization"].replace(";host;", ";")
    assert refusal(with_header(request, authorization=unsigned_host), at) == (400, "IncompleteSignature")


@pytest.mark.parametrize("name", SAMPLES)
def test_the_key_matters(name: str) -> None:
    """A signature by another key, or by a key of the other kind, is refused."""
    request, at = request_of(name), SAMPLES[name]["at"]
    claim = read_claim(request)
    wrong: list[Caller] = [AccessKey(claim.access_key_id, "another secret", "u", 0.0, 0.0)]
    if claim.access_key_id != RECORDED["client_key_id"]:
        wrong.append(key_of(RECORDED["client_key_id"]))
    for key in wrong:
        with pytest.raises(ApiError) as caught:
            verify(request, claim, key, at, NonceBook())
        assert caught.value.code in ("SignatureDoesNotMatch", "InvalidParameter")


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("skew", [-901, 901])
def test_a_clock_that_is_off_by_more_than_15_minutes_is_refused(name: str, skew: int) -> None:
    """15 minutes of skew pass in both directions, one second more does not."""
    at = SAMPLES[name]["at"]
    stamp = request_of(name).parameters.get("Timestamp") or request_of(name).headers["x-acs-date"]
    assert stamp.endswith("Z")
    check(request_of(name), at + (skew - 1 if skew > 0 else skew + 2))
    assert refusal(request_of(name), at + skew + (1 if skew > 0 else 0)) == (400, "InvalidTimeStamp.Expired")


@pytest.mark.parametrize("name", SAMPLES)
def test_a_nonce_works_once(name: str) -> None:
    """The very same request again is a replay; a refused request spends no nonce."""
    request, at, nonces = request_of(name), SAMPLES[name]["at"], NonceBook()
    refusal(replace(request, method="PUT"), at, nonces)
    check(request, at, nonces)
    assert refusal(request, at + 800, nonces) == (400, "SignatureNonceUsed")


def test_nonces_are_forgotten_when_their_time_is_over() -> None:
    """The memory of nonces does not grow for ever, and forgets none that could be used again."""
    nonces = NonceBook()
    nonces.spend("a", "n", 0.0)
    with pytest.raises(ApiError):
        nonces.spend("a", "n", 1800.0)
    nonces.spend("a", "n", 1801.0)
    nonces.spend("b", "n", 1801.0)


@pytest.mark.parametrize("parameter", ["Action", "Version", "AccessKeyId", "SignatureNonce", "Timestamp", "Signature"])
def test_a_missing_rpc_parameter_is_named(parameter: str) -> None:
    """What is missing is a MissingParameter that says which."""
    request = request_of(RPC[0])
    rest = "&".join(pair for pair in request.query.split("&") if not pair.startswith(parameter + "="))
    with pytest.raises(ApiError, match=f'400 MissingParameter: .*"{parameter}"'):
        read_claim(replace(request, query=rest))


@pytest.mark.parametrize("header", ["x-acs-action", "x-acs-version", "x-acs-date", "x-acs-signature-nonce"])
def test_a_missing_acs3_header_is_named(header: str) -> None:
    """What is missing is a MissingParameter that says which."""
    with pytest.raises(ApiError, match=f'400 MissingParameter: .*"{header}"'):
        read_claim(with_header(request_of(ACS3[0]), **{header: None}))


@pytest.mark.parametrize("timestamp", ["2026-11-22 03:46:17", "yesterday", "2026-11-22T03:46:17+00:00"])
def test_a_malformed_time_is_refused(timestamp: str) -> None:
    """Only `YYYY-MM-DDThh:mm:ssZ` is a time."""
    request = request_of(RPC[0])
    pairs = [
        "Timestamp=" + quote(timestamp) if pair.startswith("Timestamp=") else pair for pair in request.query.split("&")
    ]
    assert refusal(replace(request, query="&".join(pairs)), 0.0) == (400, "InvalidTimeStamp.Format")


@pytest.mark.parametrize("name", [name for name in SAMPLES if "session" in name])
def test_the_token_of_a_session_is_signed_and_checked(name: str) -> None:
    """Taken away, it is missing; changed, it does not fit, whatever the signature says."""
    request, at = request_of(name), SAMPLES[name]["at"]
    token = RECORDED["session_token"]
    assert token in request.query or request.headers["x-acs-security-token"] == token
    changed = replace(request, query=request.query.replace(token, token[::-1]))
    changed = with_header(changed, x_acs_security_token=token[::-1]) if name in ACS3 else changed
    assert refusal(changed, at) == (400, "InvalidSecurityToken.MismatchWithAccessKey")
    bare = replace(request, query=request.query.replace(f"SecurityToken={token}&", ""))
    bare = with_header(bare, x_acs_security_token=None) if name in ACS3 else bare
    assert refusal(bare, at) == (400, "MissingSecurityToken")


def test_the_id_in_the_header_must_be_the_one_that_signs() -> None:
    """x-acs-accesskey-id beside a session's token is no second opinion."""
    name = "sts ACS3 with a session, GetCallerIdentity"
    request = with_header(request_of(name), x_acs_accesskey_id="STS.another")
    assert refusal(request, SAMPLES[name]["at"]) == (400, "InvalidSecurityToken.MismatchWithAccessKey")


def test_a_public_key_id_will_do_as_the_id() -> None:
    """GenerateSessionAccessKey names its key pair by either parameter."""
    name = "core GET, RSA key pair, GenerateSessionAccessKey"
    request = request_of(name)
    renamed = replace(request, query=request.query.replace("AccessKeyId=", "PublicKeyId="))
    assert read_claim(renamed).access_key_id == read_claim(request).access_key_id == RECORDED["rsa_key_id"]


def test_recorded_requests_without_a_signature_are_read() -> None:
    """A bearer token in a header, and a request of nobody: action, version and token are found."""
    bearer, anonymous = (
        Request(each["method"], each["path"], each["query"], each["headers"], each["body"].encode())
        for each in RECORDED["unsigned"]
    )
    claim = read_claim(bearer)
    assert (claim.action, claim.version, claim.security_token) == ("GetCallerIdentity", "2015-04-01", "b" * 20)
    claim = read_anonymous_claim(anonymous, RECORDED["unsigned"][1]["at"])
    assert (claim.action, claim.version, claim.access_key_id) == ("AssumeRoleWithOIDC", "2015-04-01", "")
    assert claim.parameters["OIDCToken"] == "a.b.c"


@pytest.mark.parametrize("name", SAMPLES)
def test_a_mismatch_does_not_give_the_right_string_away(name: str) -> None:
    """The core SDK renames the code when the server's string equals its own, so the server never shows it."""
    request = request_of(name)
    with pytest.raises(ApiError) as caught:
        check(replace(request, method="PUT"), SAMPLES[name]["at"])
    assert caught.value.message.partition(":")[2] == "(not shown)"


@pytest.mark.parametrize(
    "authorization", ["ACS3-HMAC-SHA256", "ACS3-HMAC-SHA256 Credential=a", "ACS3-HMAC-SHA256 Credential=,b=c"]
)
def test_half_an_authorization_is_refused(authorization: str) -> None:
    """A header that names no key, headers or signature is an IncompleteSignature."""
    with pytest.raises(ApiError, match="400 IncompleteSignature"):
        read_claim(with_header(request_of(ACS3[0]), authorization=authorization))
