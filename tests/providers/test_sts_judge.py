"""The official STS SDK as judge: what it sends and what it reads, beside what keyturn sends and reads.

Both make the same call to the same emulated STS, which keeps the requests as they came off the wire. The judge of
GenerateSessionAccessKey, which the STS SDK does not know, is aliyun-python-sdk-core: test_rsa_key_pair.py.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
from alibabacloud_sts20150401.client import Client
from alibabacloud_sts20150401.models import AssumeRoleRequest, AssumeRoleWithOIDCRequest
from alibabacloud_tea_openapi.exceptions import AlibabaCloudException, ServerException
from alibabacloud_tea_openapi.utils_models import Config

from agent.cloud import acs3
from agent.core.credential import Credential
from agent.core.errors import BadAnswerError, KeyturnError, SourceUnavailableError
from agent.core.secret import Secret
from agent.core.settings import Duration, FilePath
from providers.emulator.reception import Reply
from providers.emulator.signatures import Request
from providers.oidc_role_arn import OidcRoleArn, OidcRoleArnSettings
from providers.ram_role_arn import RamRoleArn, RamRoleArnSettings
from tests.support.sts import REFUSALS, StsWorld

COMMON = {"Action", "Format", "SignatureNonce", "Timestamp", "Version"}
CHANGING = {"x-acs-date", "x-acs-signature-nonce"}
POLICY = (
    '{"Version": "1", "Statement": [{"Effect": "Allow", "Action": "oss:*", "Resource": "acs:oss:*:*:größe ~+/&=%"}]}'
)


class World(StsWorld):
    """An account whose STS keeps what it is sent, with each call to make in two ways: the SDK's and ours."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.token_file = directory / "token"
        self.provider_arn = self.cloud.add_oidc_provider("ack")
        self.cloud.add_role("app", external_id="team/a=b,c@d:e+f-g", trusted=("admin", "gate", "oidc:ack"))
        self.token_file.touch(mode=0o600)
        self.token_file.write_text(self.cloud.oidc_token("ack"))
        self.requests: list[Request] = []
        self.answer: Reply | None = None  # what STS says instead of its own answer
        self._serve = self.server.services.handle
        self.server.services.handle = self._keep  # type: ignore[method-assign]

    def _keep(self, request: Request) -> Reply:
        self.requests.append(request)
        return self.answer or self._serve(request)

    def both(self, theirs: Callable[[], object], ours: Callable[[], object]) -> tuple[Request, Request]:
        """Make a call in both ways and return what STS got."""
        theirs()
        ours()
        got, self.requests = self.requests, []
        assert [call.code for call in self.cloud.calls[-2:]] == ["", ""]
        return got[0], got[1]

    def sdk(self, signer: Credential | None = None) -> Any:
        """The stock client; without a key for the anonymous call."""
        identity = {} if signer is None else {
            "access_key_id": signer.access_key_id,
            "access_key_secret": signer.access_key_secret.reveal() if signer.access_key_secret else "",
            "security_token": signer.security_token.reveal() if signer.security_token else None,
        }  # fmt: skip
        return Client(Config(**identity, endpoint=self.server.endpoint, ca=str(self.ca_file), read_timeout=5000))

    @property
    def signer(self) -> Credential:
        assert isinstance(self.base.value, Credential)
        return self.base.value

    def their_assume_role(self, **options: Any) -> Any:
        asked = {"role_arn": self.role_arn, "role_session_name": "keyturn-vm1-app", "duration_seconds": 3600}
        return self.sdk(self.signer).assume_role(AssumeRoleRequest(**{**asked, **options})).body

    def our_assume_role(self, **options: Any) -> Credential:
        settings = {"type": "ram_role_arn", "role_arn": self.role_arn, "base": "admin", **options}
        return self.fetch(RamRoleArn(RamRoleArnSettings(**settings), self.context()))

    def their_oidc(self, **options: Any) -> Any:
        asked = {
            "role_arn": self.role_arn,
            "oidcprovider_arn": self.provider_arn,
            "oidctoken": self.token_file.read_text(),
            "role_session_name": "keyturn-vm1-app",
            "duration_seconds": 3600,
        }
        return self.sdk().assume_role_with_oidc(AssumeRoleWithOIDCRequest(**{**asked, **options})).body

    def our_oidc(self, **options: Any) -> Credential:
        settings = {
            "type": "oidc_role_arn",
            "role_arn": self.role_arn,
            "oidc_provider_arn": self.provider_arn,
            "oidc_token_file_path": FilePath(self.token_file),
        }
        return self.fetch(OidcRoleArn(OidcRoleArnSettings(**{**settings, **options}), self.context()))


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A running emulator, reached directly."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    made = World(tmp_path)
    with made.server:
        yield made


WAYS: dict[str, tuple[Callable[[World], Any], Callable[[World], Credential]]] = {
    "AssumeRole": (
        lambda world: world.their_assume_role(external_id="team/a=b,c@d:e+f-g"),
        lambda world: world.our_assume_role(external_id="team/a=b,c@d:e+f-g"),
    ),
    "AssumeRoleWithOIDC": (lambda world: world.their_oidc(), lambda world: world.our_oidc()),
}
"""The calls that the SDK knows: (its way, our way)."""


# What is sent

OPTIONS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "as little as can be said": ({}, {}),
    "all that can be said": (
        {"role_session_name": "a.b@c-d_e", "duration_seconds": 900, "policy": POLICY},
        {"role_session_name": "a.b@c-d_e", "role_session_expiration": Duration(900), "policy": POLICY},
    ),
}
"""The same wishes in the SDK's words and in ours."""


def signed_parts(request: Request) -> tuple[str, dict[str, str]]:
    """The key id of a signed request, and its signed headers."""
    found = re.fullmatch(
        r"ACS3-HMAC-SHA256 Credential=([^,]+),SignedHeaders=([^,]+),Signature=[0-9a-f]{64}",
        request.headers["authorization"],
    )
    assert found, "not the form of an ACS3 signature"
    return found[1], {name: request.headers[name] for name in found[2].split(";")}


def same_signed_call(theirs: Request, ours: Request, signer: Credential) -> None:
    """Method, path, host, parameters, body and signed headers are the SDK's, and so is the signature over them."""
    assert (ours.method, ours.path, ours.body) == (theirs.method, theirs.path, theirs.body) == ("POST", "/", b"")
    assert dict(parse_qsl(ours.query)) == dict(parse_qsl(theirs.query))
    (our_key, our_headers), (their_key, their_headers) = signed_parts(ours), signed_parts(theirs)
    assert our_key == their_key == signer.access_key_id
    del their_headers["user-agent"], their_headers["x-acs-credentials-provider"]  # say who the SDK is
    assert our_headers.keys() == their_headers.keys()
    assert {name for name in our_headers if our_headers[name] != their_headers[name]} <= CHANGING
    assert our_headers["x-acs-signature-nonce"] != their_headers["x-acs-signature-nonce"]
    for headers in (our_headers, their_headers):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", headers["x-acs-date"])
    assert signer.access_key_secret
    for request in (theirs, ours):
        key_id, headers = signed_parts(request)
        query = acs3.canonical_query(dict(parse_qsl(request.query)))
        signature = acs3.authorization(query, headers, key_id, signer.access_key_secret.reveal())
        assert request.headers["authorization"] == signature


@pytest.mark.parametrize("story", OPTIONS)
@pytest.mark.parametrize("signed_by", ["an AccessKey", "a session"])
def test_assume_role_is_sent_as_the_sdk_sends_it(world: World, story: str, signed_by: str) -> None:
    """On the wire the two calls differ in time, nonce, signature and the name of the caller's library only."""
    theirs, ours = OPTIONS[story]
    external_id = {"external_id": "team/a=b,c@d:e+f-g"}
    if signed_by == "a session":
        world.cloud.add_role("gate", "sts:AssumeRole")
        world.base.value = world.our_assume_role(role_arn=world.cloud.role_arn("gate"))
        world.requests.clear()
    got = world.both(
        lambda: world.their_assume_role(**theirs, **external_id), lambda: world.our_assume_role(**ours, **external_id)
    )
    same_signed_call(*got, world.signer)
    assert ("x-acs-security-token" in got[1].headers) == (signed_by == "a session")
    assert "SecurityToken" not in got[1].query


@pytest.mark.parametrize("story", OPTIONS)
def test_assume_role_with_oidc_sends_the_sdks_parameters_but_in_the_body(world: World, story: str) -> None:
    """The SDK has the token in the URL, which proxies and exceptions write down; ours has it in the form alone."""
    theirs, ours = OPTIONS[story]
    their, our = world.both(lambda: world.their_oidc(**theirs), lambda: world.our_oidc(**ours))
    assert (our.method, our.path, our.headers["host"]) == (their.method, their.path, their.headers["host"])
    in_query, in_body = dict(parse_qsl(our.query)), dict(parse_qsl(our.body.decode()))
    sdk = dict(parse_qsl(their.query))
    assert in_query.keys() == COMMON
    assert in_body == {name: value for name, value in sdk.items() if name not in COMMON}
    assert their.body == b""
    for name in ("Action", "Version"):
        assert in_query[name] == sdk[name] == their.headers[f"x-acs-{name.lower()}"]
    assert (in_query["Format"].lower(), in_query["SignatureNonce"] != sdk["SignatureNonce"]) == ("json", True)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", in_query["Timestamp"])
    assert our.headers["content-type"] == "application/x-www-form-urlencoded"
    assert not {name for request in (our, their) for name in request.headers} & {"authorization"}
    token = world.token_file.read_text()
    assert token == in_body["OIDCToken"]
    assert token not in our.query + repr(our.headers)


def test_a_caller_is_asked_for_as_the_sdk_asks(world: World) -> None:
    """GetCallerIdentity, which proves new values, is the SDK's call too."""
    from agent.cloud.openapi import Sts
    from agent.cloud.transport import Transport

    sts = Sts(Transport(world.ca_file), world.server.endpoint)
    got = world.both(
        lambda: world.sdk(world.signer).get_caller_identity(),
        lambda: sts.get_caller_identity(world.signer, now=datetime.now(UTC)),
    )
    same_signed_call(*got, world.signer)


# What is read

EXPIRATION = (datetime.now(UTC) + timedelta(hours=1)).replace(microsecond=0)
PARTS = {
    "AccessKeyId": "STS.CanaryId",
    "AccessKeySecret": "CanarySecret",
    "SecurityToken": "CanaryToken/+=",
    "Expiration": EXPIRATION.strftime("%Y-%m-%dT%H:%M:%SZ"),
}


def reply(credentials: object, status: int = 200, **more: object) -> Reply:
    return Reply(status, json.dumps({"RequestId": "0A1B2C3D-0000", "Credentials": credentials, **more}).encode())


WHOLE: dict[str, Reply] = {
    "as documented": reply(PARTS, AssumedRoleUser={"Arn": "acs:ram::1:role/app/x", "AssumedRoleId": "3:x"}),
    "without the user": reply(PARTS),
    "with what nobody knows yet": reply({**PARTS, "Colour": "red"}, Later={"x": [1]}),
    "in another order": reply(dict(reversed(PARTS.items()))),
}


@pytest.mark.parametrize("action", WAYS)
@pytest.mark.parametrize("story", WHOLE)
def test_a_session_is_read_as_the_sdk_reads_it(world: World, action: str, story: str) -> None:
    """The four parts of a reply are the same in both readings."""
    world.answer = WHOLE[story]
    theirs, ours = (way(world) for way in WAYS[action])
    given = theirs.credentials
    assert ours == Credential(
        access_key_id=given.access_key_id,
        access_key_secret=Secret(given.access_key_secret),
        security_token=Secret(given.security_token),
        expiration=datetime.strptime(given.expiration, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC),
    )
    assert ours.expiration == EXPIRATION


@pytest.mark.parametrize("action", WAYS)
@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_the_sdk_leaves_out_is_missed(world: World, action: str, part: str) -> None:
    """Where the SDK hands out a session with None in it, keyturn refuses the answer and says what it lacks."""
    world.answer = reply({name: text for name, text in PARTS.items() if name != part})
    theirs, ours = WAYS[action]
    assert [name for name, value in theirs(world).credentials.to_map().items() if value] == sorted(set(PARTS) - {part})
    words = {"AccessKeyId": "has no key id", "AccessKeySecret": "has no secret"}.get(part, f"has no {part}")
    with pytest.raises(BadAnswerError, match=words) as caught:
        ours(world)
    assert "Canary" not in f"{caught.value}{caught.value!r}"


@pytest.mark.parametrize("action", WAYS)
def test_what_is_not_used_spoils_nothing(world: World, action: str) -> None:
    """The SDK reads nothing where any field has another shape; keyturn takes a whole session all the same."""
    world.answer = reply(PARTS, AssumedRoleUser="of another shape")
    theirs, ours = WAYS[action]
    assert theirs(world) is None
    assert ours(world).expiration == EXPIRATION


RUBBISH: dict[str, tuple[Reply, type[KeyturnError]]] = {
    "a page instead of an answer": (Reply(200, b"<html>Canary</html>"), BadAnswerError),
    "nothing": (Reply(200, b""), BadAnswerError),
    "half an answer": (Reply(200, b'{"Credentials": {"AccessKeyId": "Canary'), BadAnswerError),
    "a list": (Reply(200, b'["Canary"]'), BadAnswerError),
    "credentials that are a text": (reply("Canary"), BadAnswerError),
    "credentials that are a list": (reply([PARTS]), BadAnswerError),
    "no credentials": (reply(None), BadAnswerError),
    "a gateway's page": (Reply(502, b"<html>Canary: Bad Gateway</html>"), SourceUnavailableError),
    "a gateway that says nothing": (Reply(504, b""), SourceUnavailableError),
    "a proxy that wants a login": (Reply(403, b"<html>Canary: sign in</html>"), BadAnswerError),
}


@pytest.mark.parametrize("action", WAYS)
@pytest.mark.parametrize("story", RUBBISH)
def test_what_holds_no_session_for_the_sdk_holds_none_for_us(world: World, action: str, story: str) -> None:
    """The SDK fails in whatever way it happens to; keyturn's error has its class, is tried again, and quotes nothing."""
    world.answer, kind = RUBBISH[story]
    theirs, ours = WAYS[action]
    try:
        found = theirs(world).credentials
    except Exception:
        found = None
    assert not found
    with pytest.raises(kind, match=r"^credentials\.app: ") as caught:
        ours(world)
    assert type(caught.value) is kind
    assert action in str(caught.value)
    assert world.server.endpoint in str(caught.value)
    assert caught.value.retryable
    assert "Canary" not in f"{caught.value}{caught.value!r}{caught.value.__context__!r}"


@pytest.mark.parametrize("action", WAYS)
@pytest.mark.parametrize("code", [*REFUSALS, "AccessDenied", "Forbidden.RAM"])
def test_a_refusal_has_the_sdks_code(world: World, action: str, code: str) -> None:
    """Status and code are read as the SDK reads them; what is a server's error to it is tried again by us."""
    status, kind, exit_code = REFUSALS.get(code, REFUSALS["NoPermission"])
    world.cloud.fail_next(status, code, times=2)
    theirs, ours = WAYS[action]
    with pytest.raises(AlibabaCloudException) as refused:
        theirs(world)
    with pytest.raises(KeyturnError) as caught:
        ours(world)
    assert (caught.value.code, status) == (refused.value.code, refused.value.status_code)
    assert (type(caught.value), caught.value.exit_code) == (kind, exit_code)
    assert caught.value.retryable or not isinstance(refused.value, ServerException)


def test_a_clock_that_is_off_is_refused_for_both(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The signed time is judged alike, and the code is the same."""
    monkeypatch.setattr(world.cloud, "now", lambda: time.time() + 1200)
    theirs, ours = WAYS["AssumeRole"]
    with pytest.raises(AlibabaCloudException) as refused:
        theirs(world)
    with pytest.raises(KeyturnError, match="clock is") as caught:
        ours(world)
    assert caught.value.code == refused.value.code
    assert not caught.value.retryable
