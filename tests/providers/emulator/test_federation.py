"""Who has no AccessKey: OIDC tokens, RSA key pairs and bearer tokens, over the wire, by the stock SDKs."""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
from alibabacloud_credentials.exceptions import CredentialException
from alibabacloud_credentials.provider import (
    OIDCRoleArnCredentialsProvider,
    RsaKeyPairCredentialsProvider,
)
from alibabacloud_sts20150401 import models as sts_models
from alibabacloud_sts20150401.client import Client as Sts
from alibabacloud_tea_openapi.exceptions import ClientException as TeaRefusal
from alibabacloud_tea_openapi.models import Config
from aliyunsdkcore.acs_exception.exceptions import ClientException, ServerException
from aliyunsdkcore.auth.credentials import RsaKeyPairCredential
from aliyunsdkcore.auth.signers.rsa_key_pair_signer import GetSessionAkRequest
from aliyunsdkcore.client import AcsClient
from aliyunsdkcore.request import CommonRequest
from aliyunsdkkms.request.v20160120.GetSecretValueRequest import GetSecretValueRequest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from providers.emulator.model import RsaKeyPair, Session

if TYPE_CHECKING:
    from .conftest import World


@pytest.fixture
def world(world: World) -> World:
    """The world with a user that may assume roles, and a role that may read secrets."""
    world.cloud.add_user("caller", "sts:AssumeRole")
    world.cloud.add_access_key("caller")
    world.cloud.add_role("app", "kms:GetSecretValue")
    return world


def caller(world: World) -> Any:
    return world.cloud.keys_of("caller")[-1]


def secret_request() -> GetSecretValueRequest:
    request = GetSecretValueRequest()
    request.set_SecretName("uploader-ak")
    return request


def identity_request() -> CommonRequest:
    request = CommonRequest(product="Sts", version="2015-04-01", action_name="GetCallerIdentity")
    request.set_method("POST")
    request.set_protocol_type("https")
    request.set_accept_format("JSON")
    return request


def refusal(call: Any, *arguments: Any) -> tuple[int, str]:
    with pytest.raises(TeaRefusal) as caught:
        call(*arguments)
    return caught.value.status_code, caught.value.code


# OIDC: nobody signs


def oidc_world(world: World) -> tuple[str, str]:
    arn = world.cloud.add_oidc_provider("cluster")
    world.cloud.add_role("pod", "kms:GetSecretValue", trusted=["oidc:cluster"])
    return arn, world.cloud.role_arn("pod")


def oidc_parameters(world: World, **changes: str) -> dict[str, str]:
    arn, role = oidc_world(world)
    return {
        "Action": "AssumeRoleWithOIDC",
        "Version": "2015-04-01",
        "OIDCProviderArn": arn,
        "RoleArn": role,
        "OIDCToken": world.cloud.oidc_token("cluster"),
        "RoleSessionName": "pod-session",
        **changes,
    }


def test_the_sts_sdk_assumes_a_role_with_an_oidc_token(world: World) -> None:
    """Anonymous: no key is needed or looked at, the token is in the query, the session works."""
    arn, role = oidc_world(world)
    sts = Sts(Config(endpoint=world.server.endpoint, ca=str(world.files.ca)))
    body = sts.assume_role_with_oidc(
        sts_models.AssumeRoleWithOIDCRequest(
            oidcprovider_arn=arn,
            role_arn=role,
            oidctoken=world.cloud.oidc_token("cluster"),
            role_session_name="pod-session",
            duration_seconds=900,
        )
    ).body
    session = world.cloud.authenticate(body.credentials.access_key_id)
    assert isinstance(session, Session)
    assert body.oidctoken_info.subject == "system:serviceaccount:ns:app"
    identity = world.tea(Sts, session).get_caller_identity().body
    assert identity.arn.endswith(":assumed-role/pod/pod-session")
    assert [call.access_key_id for call in world.cloud.calls_of("AssumeRoleWithOIDC")] == [""]


def test_the_credentials_library_assumes_a_role_with_an_oidc_token(trusting: World, tmp_path: Path) -> None:
    """By GET, with action and version among the parameters; a refusal arrives with its code."""
    arn, role = oidc_world(trusting)
    token_file = tmp_path / "token"
    token_file.write_text(trusting.cloud.oidc_token("cluster"))

    def ask() -> Any:
        return OIDCRoleArnCredentialsProvider(
            role_arn=role,
            oidc_provider_arn=arn,
            oidc_token_file_path=str(token_file),
            sts_endpoint=trusting.server.endpoint,
        ).get_credentials()

    assert ask().get_access_key_id().startswith("STS.")
    token_file.write_text(trusting.cloud.oidc_token("cluster", life_s=-10))
    with pytest.raises(CredentialException, match=r"http_code: 401.*AuthenticationFail\.OIDCToken\.Expired"):
        ask()


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_oidc_parameters_may_come_in_the_query_or_in_a_form(world: World, method: str) -> None:
    """Both are accepted, also mixed, by both methods."""
    asked = oidc_parameters(world)
    in_query = {"Action": asked["Action"], "Version": asked["Version"]}
    in_form = {name: value for name, value in asked.items() if name not in in_query}
    for query, form in ((asked, None), ({}, asked), (in_query, in_form)):
        reply = requests.request(method, world.url(), params=query, data=form, verify=str(world.files.ca), timeout=10)
        assert reply.status_code == 200, reply.text


def test_what_is_wrong_with_an_oidc_request_is_said(world: World) -> None:
    """Missing parts, another version, a time of yesterday, a wrong policy: a code for each, in STS's body."""

    def answer(**changes: str) -> tuple[int, str]:
        asked = {name: value for name, value in oidc_parameters(world, **changes).items() if value}
        reply = requests.post(world.url(), params=asked, verify=str(world.files.ca), timeout=10)
        assert "Recommend" in reply.json()
        return reply.status_code, reply.json()["Code"]

    assert answer(OIDCToken="") == (401, "AuthenticationFail.OIDCToken.Invalid")
    assert answer(OIDCToken="x.y.z") == (401, "AuthenticationFail.OIDCToken.Invalid")
    assert answer(RoleArn="") == (400, "MissingParameter")
    assert answer(Version="") == (400, "MissingParameter")
    assert answer(Version="2016-01-20") == (400, "InvalidVersion")
    assert answer(Timestamp="2020-01-01T00:00:00Z") == (400, "InvalidTimeStamp.Expired")
    assert answer(Policy="no") == (400, "InvalidParameter.PolicyGrammar")
    assert answer(DurationSeconds="1") == (400, "InvalidParameter.DurationSeconds")


# RSA key pairs


def pem_body(pair: RsaKeyPair) -> str:
    return base64.b64encode(pair.private_key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())).decode()


def test_the_core_sdk_gets_a_session_with_an_rsa_key_pair(trusting: World) -> None:
    """SHA256withRSA; the session is the user's, has no token, and signs the call."""
    world = trusting
    world.cloud.allow("caller", "kms:GetSecretValue")
    pair = world.cloud.add_rsa_key_pair("caller")
    credential = RsaKeyPairCredential(pair.public_key_id, pem_body(pair), 900)
    client = AcsClient(credential=credential, **world.acs_options())
    reply = json.loads(client.do_action_with_exception(secret_request()))
    assert json.loads(reply["SecretData"])["AccessKeyId"] == world.key.access_key_id
    assert [call.action for call in world.cloud.calls] == ["GenerateSessionAccessKey", "GetSecretValue"]
    assert world.cloud.calls[0].access_key_id == pair.public_key_id
    assert world.cloud.calls[1].access_key_id.startswith("TMPSK.")


def test_a_session_of_a_key_pair_is_the_users_and_ends(world: World) -> None:
    """GetCallerIdentity names the user; the end is InvalidSecurityToken.Expired, as for the others."""
    pair = world.cloud.add_rsa_key_pair("caller")
    session = world.cloud.generate_session_access_key(pair, 900)
    sts = world.tea(Sts, session)
    assert sts.get_caller_identity().body.arn.endswith(":user/caller")
    world.clock.advance(900)
    assert refusal(sts.get_caller_identity) == (400, "InvalidSecurityToken.Expired")


def test_another_private_key_and_an_unknown_id_get_nothing(trusting: World) -> None:
    """The SDK turns both refusals into one of its own; the records have the codes."""
    world = trusting
    pair, other = world.cloud.add_rsa_key_pair("caller"), world.cloud.add_rsa_key_pair("caller")
    for key_id, key in ((pair.public_key_id, other), ("LTRSA.unknown", pair)):
        client = AcsClient(credential=RsaKeyPairCredential(key_id, pem_body(key), 900), **world.acs_options())
        with pytest.raises(ClientException):
            client.do_action_with_exception(secret_request())
    assert [call.code for call in world.cloud.calls] == ["SignatureDoesNotMatch", "InvalidAccessKeyId.NotFound"]


def test_the_credentials_librarys_own_signature_is_not_accepted(trusting: World) -> None:
    """It signs with HMAC and the PEM text as the secret, which no public key can check."""
    pair = trusting.cloud.add_rsa_key_pair("caller")
    key_file = trusting.files.directory / "pair.pem"
    pem = pair.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    key_file.write_bytes(pem)
    with pytest.raises(CredentialException, match="http_code: 400"):
        RsaKeyPairCredentialsProvider(
            public_key_id=pair.public_key_id,
            private_key_file=str(key_file),
            sts_endpoint=trusting.server.endpoint,
        ).get_credentials()


def test_a_key_pair_can_do_nothing_else_and_nobody_else_can_do_that(world: World) -> None:
    """GenerateSessionAccessKey is for key pairs, everything else is not."""
    pair = world.cloud.add_rsa_key_pair("caller")
    acs = AcsClient(ak=pair.public_key_id, secret=pem_body(pair), **world.acs_options())
    request = GetSessionAkRequest()
    request.set_action_name("GetCallerIdentity")
    with pytest.raises(ServerException) as caught:
        acs.do_action_with_exception(request)
    assert (caught.value.get_http_status(), caught.value.get_error_code()) == (403, "NoPermission")
    request = identity_request()
    request.set_action_name("GenerateSessionAccessKey")
    with pytest.raises(ServerException) as caught:
        world.acs(caller(world)).do_action_with_exception(request)
    assert (caught.value.get_http_status(), caught.value.get_error_code()) == (403, "NoPermission")


def test_the_session_of_a_key_pair_lives_an_hour_at_most(world: World) -> None:
    """15 minutes to an hour, as the SDK checks it before it asks."""
    pair = world.cloud.add_rsa_key_pair("caller")
    acs = AcsClient(ak=pair.public_key_id, secret=pem_body(pair), **world.acs_options())
    for seconds in (899, 3601):
        request = GetSessionAkRequest()
        request.set_duration_seconds(seconds)
        with pytest.raises(ServerException) as caught:
            acs.do_action_with_exception(request)
        assert caught.value.get_error_code() == "InvalidParameter.DurationSeconds"


# Bearer tokens


def bearer_client(world: World, token: str) -> Any:
    return Sts(Config(bearer_token=token, endpoint=world.server.endpoint, ca=str(world.files.ca)))


def test_a_bearer_token_stands_for_its_user(world: World) -> None:
    """As the stock SDK sends it, without a signature; permissions are the user's."""
    token = world.cloud.add_bearer_token("caller")
    sts = bearer_client(world, token)
    assert sts.get_caller_identity().body.arn.endswith(":user/caller")
    ask = sts_models.AssumeRoleRequest(role_arn=world.cloud.role_arn("app"), role_session_name="tester")
    sts.assume_role(ask)
    world.cloud.forbid("caller", "sts:AssumeRole")
    assert refusal(sts.assume_role, ask) == (403, "NoPermission")


def test_an_unknown_bearer_token_is_refused(world: World) -> None:
    """A 403 with a code of its own."""
    world.cloud.add_bearer_token("caller")
    assert refusal(bearer_client(world, "forged").get_caller_identity) == (403, "InvalidBearerToken")


def test_a_bearer_request_is_checked_for_time_and_replay(world: World) -> None:
    """Unsigned as it is: an old request, the same one twice, another body and half a request are refused."""
    token = world.cloud.add_bearer_token("caller")
    headers = {
        "x-acs-action": "GetCallerIdentity",
        "x-acs-version": "2015-04-01",
        "x-acs-date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "x-acs-signature-nonce": "once",
        "x-acs-content-sha256": hashlib.sha256(b"").hexdigest(),
        "x-acs-bearer-token": token,
        "x-acs-signature-type": "BEARERTOKEN",
    }

    def answer(body: bytes = b"", **changes: str) -> str:
        changed = {**headers, **{name.replace("_", "-"): value for name, value in changes.items()}}
        given = {name: value for name, value in changed.items() if value}
        reply = requests.post(world.url(), data=body, headers=given, verify=str(world.files.ca), timeout=10)
        return str(reply.json().get("Code", "OK"))

    assert answer(b"x") == "SignatureDoesNotMatch"
    assert answer(x_acs_signature_type="") == "MissingParameter"
    assert answer(x_acs_signature_nonce="") == "MissingParameter"
    assert answer() == "OK"
    assert answer() == "SignatureNonceUsed"
    world.clock.advance(1000)
    assert answer(x_acs_signature_nonce="twice") == "InvalidTimeStamp.Expired"
