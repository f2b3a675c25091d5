"""Sessions over the wire, by the stock SDKs: who gets one, what it may do, and how it is refused."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import pytest
import requests
from alibabacloud_credentials.provider import (
    RamRoleArnCredentialsProvider,
)
from alibabacloud_kms20160120 import models as kms_models
from alibabacloud_kms20160120.client import Client as Kms
from alibabacloud_ram20150501 import models as ram_models
from alibabacloud_ram20150501.client import Client as Ram
from alibabacloud_sts20150401 import models as sts_models
from alibabacloud_sts20150401.client import Client as Sts
from alibabacloud_tea_openapi.exceptions import ClientException as TeaRefusal
from aliyunsdkcore.acs_exception.exceptions import ServerException
from aliyunsdkcore.auth.credentials import RamRoleArnCredential
from aliyunsdkcore.client import AcsClient
from aliyunsdkcore.request import CommonRequest
from aliyunsdkkms.request.v20160120.GetSecretValueRequest import GetSecretValueRequest

from providers.emulator.model import Session

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


def session_of(world: World, role: str = "app", **options: Any) -> Session:
    return world.cloud.assume_role(world.cloud.role_arn(role), "tester", **options)


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


# AssumeRole by the new SDK (ACS3)


def test_the_sts_sdk_assumes_a_role_and_the_session_works(world: World) -> None:
    """All fields of the reply; the session signs for KMS with the permissions of its role, and for nothing else."""
    asked = sts_models.AssumeRoleRequest(
        role_arn=world.cloud.role_arn("app"), role_session_name="tester", duration_seconds=900
    )
    body = world.tea(Sts, caller(world)).assume_role(asked).body
    given = body.credentials
    session = world.cloud.authenticate(given.access_key_id)
    assert isinstance(session, Session)
    assert body.assumed_role_user.arn == f"acs:ram::{world.cloud.account_id}:role/app/tester"
    assert body.assumed_role_user.assumed_role_id.endswith(":tester")
    assert (given.access_key_secret, given.security_token) == (session.access_key_secret, session.security_token)
    kms = world.tea(Kms, session)
    value = kms.get_secret_value(kms_models.GetSecretValueRequest(secret_name="uploader-ak")).body.secret_data
    assert json.loads(value)["AccessKeyId"] == world.key.access_key_id
    rotation = kms_models.RotateSecretRequest(secret_name="uploader-ak", version_id="v2")
    assert refusal(kms.rotate_secret, rotation) == (403, "Forbidden.RAM")


def test_expiration_is_told_in_the_time_of_the_cloud(world: World) -> None:
    """To the second, by the cloud's clock and not by the machine's."""
    world.clock.advance(600)
    asked = sts_models.AssumeRoleRequest(role_arn=world.cloud.role_arn("app"), role_session_name="tester")
    given = world.tea(Sts, caller(world)).assume_role(asked).body.credentials
    session = world.cloud.authenticate(given.access_key_id)
    assert isinstance(session, Session)
    told = datetime.strptime(given.expiration, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()
    assert told == int(session.expires_at)
    assert told > time.time() + 4000


def test_refusals_of_assume_role_reach_the_sdk(world: World) -> None:
    """Permission, unknown role, bounds, external id: status and code as documented; the body is STS's."""
    arn, sts = world.cloud.role_arn("app"), world.tea(Sts, caller(world))
    ask = sts_models.AssumeRoleRequest

    def no(**options: Any) -> tuple[int, str]:
        return refusal(sts.assume_role, ask(**{"role_arn": arn, "role_session_name": "tester", **options}))

    assert no(role_arn=arn + "x") == (404, "EntityNotExist.Role")
    assert no(role_arn="x") == (400, "InvalidParameter.RoleArn")
    assert no(duration_seconds=60) == (400, "InvalidParameter.DurationSeconds")
    assert no(role_session_name="!") == (400, "InvalidParameter.RoleSessionName")
    assert no(policy="no") == (400, "InvalidParameter.PolicyGrammar")
    assert no(external_id="!") == (400, "InvalidParameter.ExternalId")
    assert refusal(sts.assume_role, ask(role_arn=arn)) == (400, "MissingParameter")
    world.cloud.forbid("caller", "sts:AssumeRole")
    assert no() == (403, "NoPermission")


def test_an_external_id_reaches_the_role(world: World) -> None:
    """The parameter is looked at where the role demands one."""
    world.cloud.add_role("foreign", external_id="customer:1")
    sts, arn = world.tea(Sts, caller(world)), world.cloud.role_arn("foreign")
    ask = sts_models.AssumeRoleRequest
    assert refusal(sts.assume_role, ask(role_arn=arn, role_session_name="tester")) == (403, "NoPermission")
    sts.assume_role(ask(role_arn=arn, role_session_name="tester", external_id="customer:1"))


# What a session is worth


def test_caller_identity_names_role_and_session(world: World) -> None:
    """IdentityType AssumedRoleUser, the assumed-role ARN, a role id instead of a user id."""
    body = world.tea(Sts, session_of(world)).get_caller_identity().body
    assert body.identity_type == "AssumedRoleUser"
    assert body.arn == f"acs:ram::{body.account_id}:assumed-role/app/tester"
    assert body.principal_id == f"{body.role_id}:tester"
    assert body.user_id is None


def test_a_role_has_no_keys_of_its_own(world: World) -> None:
    """RAM's "without UserName, the caller" means nobody for a role."""
    world.cloud.add_role("app", "ram:ListAccessKeys")
    ram = world.tea(Ram, session_of(world))
    assert refusal(ram.list_access_keys, ram_models.ListAccessKeysRequest()) == (400, "MissingParameter")
    assert ram.list_access_keys(ram_models.ListAccessKeysRequest(user_name="uploader")).body.access_keys


def test_a_session_is_refused_with_a_wrong_token_and_without_one(world: World) -> None:
    """ACS3: mismatch, missing, unknown id, wrong secret, each with its own code; another session's token is no help."""
    session, other = session_of(world), session_of(world)
    cases = {
        (400, "InvalidSecurityToken.MismatchWithAccessKey"): replace(session, security_token=other.security_token),
        (400, "MissingSecurityToken"): replace(session, security_token=""),
        (404, "InvalidAccessKeyId.NotFound"): replace(session, access_key_id="STS.unknown"),
        (400, "SignatureDoesNotMatch"): replace(session, access_key_secret="wrong"),
    }
    for expected, wrong in cases.items():
        assert refusal(world.tea(Sts, wrong).get_caller_identity) == expected
    world.tea(Sts, session).get_caller_identity()


def test_a_token_does_not_fit_an_access_key(world: World) -> None:
    """A long-term key that comes with somebody's token is refused."""
    key, session = caller(world), session_of(world)
    mixed = replace(session, access_key_id=key.access_key_id, access_key_secret=key.access_key_secret)
    assert refusal(world.tea(Sts, mixed).get_caller_identity) == (400, "InvalidSecurityToken.MismatchWithAccessKey")


def test_an_expired_session_is_told_so_by_both_schemes(world: World) -> None:
    """InvalidSecurityToken.Expired, from the second on at which its life is over."""
    world.cloud.session_life_s = 60.0
    session = session_of(world)
    sts, acs = world.tea(Sts, session), world.acs(session)
    sts.get_caller_identity()
    acs.do_action_with_exception(identity_request())
    world.clock.advance(60)
    assert refusal(sts.get_caller_identity) == (400, "InvalidSecurityToken.Expired")
    with pytest.raises(ServerException) as caught:
        acs.do_action_with_exception(identity_request())
    assert (caught.value.get_http_status(), caught.value.get_error_code()) == (400, "InvalidSecurityToken.Expired")


def test_a_detached_role_makes_its_sessions_useless(world: World) -> None:
    """Whatever they ask for, in the words of each product."""
    session = session_of(world)
    world.tea(Sts, session).get_caller_identity()
    world.cloud.detach_policies("app")
    assert refusal(world.tea(Sts, session).get_caller_identity) == (403, "NoPermission")
    ask = kms_models.GetSecretValueRequest(secret_name="uploader-ak")
    assert refusal(world.tea(Kms, session).get_secret_value, ask) == (403, "Forbidden.RAM")
    assert refusal(world.tea(Sts, session_of(world)).get_caller_identity) == (403, "NoPermission")


# The older SDK (RPC, HMAC-SHA1)


def test_the_core_sdk_signs_with_a_session(world: World) -> None:
    """StsTokenCredential: SecurityToken is a signed parameter; missing and foreign tokens are refused."""
    session = session_of(world)
    reply = json.loads(world.acs(session).do_action_with_exception(secret_request()))
    assert json.loads(reply["SecretData"])["AccessKeyId"] == world.key.access_key_id
    for wrong, code in (
        (
            replace(session, security_token=session_of(world).security_token),
            "InvalidSecurityToken.MismatchWithAccessKey",
        ),
        (replace(session, security_token=""), "MissingSecurityToken"),
    ):
        with pytest.raises(ServerException) as caught:
            world.acs(wrong).do_action_with_exception(secret_request())
        assert (caught.value.get_http_status(), caught.value.get_error_code()) == (400, code)


def test_the_core_sdk_assumes_a_role_by_itself(trusting: World) -> None:
    """RamRoleArnCredential: AssumeRole with the AccessKey, then the call with the session."""
    world, key = trusting, caller(trusting)
    credential = RamRoleArnCredential(
        key.access_key_id, key.access_key_secret, world.cloud.role_arn("app"), "core-session"
    )
    client = AcsClient(credential=credential, **world.acs_options())
    reply = json.loads(client.do_action_with_exception(secret_request()))
    assert json.loads(reply["SecretData"])["AccessKeyId"] == world.key.access_key_id
    assert [call.action for call in world.cloud.calls] == ["AssumeRole", "GetSecretValue"]
    assert world.cloud.calls[0].access_key_id == key.access_key_id
    assert world.cloud.calls[1].access_key_id.startswith("STS.")


def test_the_credentials_library_assumes_a_role(trusting: World) -> None:
    """RPC by GET with HMAC-SHA1."""
    key = caller(trusting)
    given = RamRoleArnCredentialsProvider(
        access_key_id=key.access_key_id,
        access_key_secret=key.access_key_secret,
        role_arn=trusting.cloud.role_arn("app"),
        role_session_name="library",
        sts_endpoint=trusting.server.endpoint,
    ).get_credentials()
    session = trusting.cloud.authenticate(given.get_access_key_id())
    assert isinstance(session, Session)
    assert given.get_security_token() == session.security_token


# Clocks


@pytest.mark.parametrize("minutes", [-20, 20])
def test_a_cloud_whose_clock_is_off_refuses_and_tells_its_time(world: World, minutes: int) -> None:
    """InvalidTimeStamp.Expired by both schemes; the Date header is the cloud's time, so that a client can tell why."""
    world.clock.advance(minutes * 60)
    assert refusal(world.tea(Sts, caller(world)).get_caller_identity) == (400, "InvalidTimeStamp.Expired")
    with pytest.raises(ServerException) as caught:
        world.acs(caller(world)).do_action_with_exception(identity_request())
    assert caught.value.get_error_code() == "InvalidTimeStamp.Expired"
    reply = requests.post(world.url(), verify=str(world.files.ca), timeout=10)
    told = parsedate_to_datetime(reply.headers["Date"]).timestamp()
    assert abs(told - world.clock()) < 60
