"""The named calls against the emulator, which checks their signatures by its own reading of the documentation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
from alibabacloud_ram20150501 import models as ram_models
from alibabacloud_ram20150501.client import Client as RamClient
from alibabacloud_tea_openapi.exceptions import ClientException
from alibabacloud_tea_openapi.utils_models import Config

from agent.cloud.failures import RotationRunningError
from agent.cloud.openapi import Kms, OpenApi, Ram, Sts
from agent.cloud.transport import Reply, Transport
from agent.core.credential import Credential
from agent.core.errors import BadAnswerError, NotPermittedError, SourceRefusedError, SourceUnavailableError
from agent.core.secret import Secret
from providers.emulator import Cloud, EmulatorServer, Fault
from providers.emulator.reception import Reply as EmulatorReply
from providers.emulator.signatures import Request

NOW = datetime.now(UTC)


class World:
    """An emulated account with one operator and one managed secret."""

    def __init__(self, directory: Path) -> None:
        self.cloud = Cloud()
        self.cloud.add_user("operator", "kms:*", "ram:*")
        key = self.cloud.add_access_key("operator")
        self.operator = Credential(access_key_id=key.access_key_id, access_key_secret=Secret(key.access_key_secret))
        self.cloud.add_ram_secret("uploader-ak", user="uploader")
        self.server = EmulatorServer(self.cloud, directory)
        self.transport = Transport(str(self.server.ca_file), proxies=False)

    @property
    def sts(self) -> Sts:
        return Sts(self.transport, self.server.endpoint)

    @property
    def kms(self) -> Kms:
        return Kms(self.transport, self.server.endpoint)

    @property
    def ram(self) -> Ram:
        return Ram(self.transport, self.server.endpoint)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A running emulator."""
    made = World(tmp_path / "emulator")
    with made.server:
        yield made


def test_the_caller_is_named(world: World) -> None:
    """GetCallerIdentity says whose key it is."""
    found = world.sts.get_caller_identity(world.operator, now=datetime.now(UTC))
    assert found.arn.endswith(":user/operator")
    assert found.account_id == world.cloud.account_id


def test_a_rotation_with_the_callers_version_is_not_repeated(world: World) -> None:
    """The same version id twice rotates once."""
    old = world.cloud.current_key("uploader-ak").access_key_id
    for _ in range(2):
        assert world.kms.rotate_secret("uploader-ak", "v-1", world.operator, now=datetime.now(UTC))
    new = world.cloud.current_key("uploader-ak").access_key_id
    assert new != old


def test_a_second_rotation_is_told_as_such(world: World) -> None:
    """The refusal of a rotation that is under way is its own error, whatever its undocumented code is."""
    world.kms.rotate_secret("uploader-ak", "v-1", world.operator, now=datetime.now(UTC))
    for world.cloud.overlap_status, world.cloud.overlap_code in [(409, "Rejected.Unavailable"), (400, "Whatever")]:
        with pytest.raises(RotationRunningError, match="under way"):
            world.kms.rotate_secret("uploader-ak", "v-2", world.operator, now=datetime.now(UTC))


def test_other_refusals_of_a_rotation_keep_their_meaning(world: World) -> None:
    """A generic secret, the hourly quota and a missing permission are not mistaken for a running rotation."""
    world.cloud.add_generic_secret("plain", "{}")
    now = datetime.now(UTC)
    with pytest.raises(SourceRefusedError) as caught:
        world.kms.rotate_secret("plain", "v-1", world.operator, now=now)
    assert type(caught.value) is SourceRefusedError
    world.cloud.fail_next(429, "Rejected.Throttling")
    with pytest.raises(SourceUnavailableError):
        world.kms.rotate_secret("uploader-ak", "v-1", world.operator, now=now)
    world.cloud.forbid("operator", "kms:*")
    with pytest.raises(NotPermittedError):
        world.kms.rotate_secret("uploader-ak", "v-1", world.operator, now=now)


def test_a_key_is_disabled(world: World) -> None:
    """UpdateAccessKey makes a key inactive; a call that it signs is refused afterwards."""
    key = world.cloud.current_key("uploader-ak")
    world.ram.update_access_key("uploader", key.access_key_id, "Inactive", world.operator, now=datetime.now(UTC))
    old = Credential(access_key_id=key.access_key_id, access_key_secret=Secret(key.access_key_secret))
    with pytest.raises(SourceRefusedError) as caught:
        world.sts.get_caller_identity(old, now=datetime.now(UTC))
    assert caught.value.code == "InvalidAccessKeyId.Inactive"


def test_a_key_is_made_as_the_sdk_makes_one(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same request; the secret shows itself nowhere; a third key is refused by its code."""
    sent: list[dict[str, str]] = []
    serve = world.server.services.handle

    def keep(request: Request) -> EmulatorReply:
        sent.append({"Action": request.headers["x-acs-action"], **dict(parse_qsl(request.query))})
        return serve(request)

    monkeypatch.setattr(world.server.services, "handle", keep)
    made = world.ram.create_access_key("uploader", world.operator, now=datetime.now(UTC))
    config = Config(
        access_key_id=world.operator.access_key_id,
        access_key_secret=world.operator.access_key_secret.reveal(),
        endpoint=world.server.endpoint,
        ca=str(world.server.ca_file),
    )
    with pytest.raises(ClientException) as theirs:
        RamClient(config).create_access_key(ram_models.CreateAccessKeyRequest(user_name="uploader"))
    with pytest.raises(SourceRefusedError) as ours:
        world.ram.create_access_key("uploader", world.operator, now=datetime.now(UTC))
    assert theirs.value.code == ours.value.code == "LimitExceeded.User.AccessKey"
    assert sent[0] == sent[1] == sent[2]
    key = world.cloud.access_key(made.access_key_id)
    assert made.access_key_secret.reveal() == key.access_key_secret
    assert key.access_key_secret not in repr(made)
    assert made.request_id and made.created_at is not None


def test_a_lost_answer_to_the_making_of_a_key_is_not_asked_for_again(world: World) -> None:
    """One request, one key, whose secret nobody has."""
    world.cloud.inject(Fault.LOSE_REPLY, action="CreateAccessKey")
    with pytest.raises(SourceUnavailableError):
        world.ram.create_access_key("uploader", world.operator, now=datetime.now(UTC))
    assert len(world.cloud.calls_of("CreateAccessKey")) == 1
    assert len(world.cloud.keys_of("uploader")) == 2


@pytest.mark.parametrize(
    "body", ["{}", '{"AccessKey": 7}', '{"AccessKey": {"AccessKeyId": "LTAI", "AccessKeySecret": 7}}']
)
def test_a_key_without_its_parts_is_none(world: World, body: str) -> None:
    """The error quotes nothing of the answer."""
    world.cloud.inject(Fault.WRONG_SHAPE, body=body)
    with pytest.raises(BadAnswerError):
        world.ram.create_access_key("uploader", world.operator, now=datetime.now(UTC))


def test_a_wrong_clock_is_told_with_its_skew(world: World) -> None:
    """A request signed an hour off is refused in words that blame the clock."""
    with pytest.raises(SourceRefusedError, match=r"this machine's clock is (59|60|61) min behind its"):
        world.sts.get_caller_identity(world.operator, now=datetime.now(UTC) - timedelta(hours=1))


@pytest.mark.parametrize("fault", [Fault.RUBBISH, Fault.EMPTY, Fault.WRONG_SHAPE, Fault.OVERSIZED, Fault.REDIRECT])
def test_an_answer_that_is_none(world: World, fault: Fault) -> None:
    """What is not a JSON object of the right shape is refused, and may be tried again."""
    world.cloud.inject(fault)
    with pytest.raises(BadAnswerError, match=world.server.endpoint) as caught:
        world.sts.get_caller_identity(world.operator, now=datetime.now(UTC))
    assert caught.value.retryable


@pytest.mark.parametrize("body", ['{"Arn": 7, "AccountId": "1"}', '{"Arn": "x"}', '{"Arn": "a\\nb", "AccountId": "1"}'])
def test_an_identity_without_its_parts(world: World, body: str) -> None:
    """An object that lacks what was asked for is no answer."""
    world.cloud.inject(Fault.WRONG_SHAPE, body=body)
    with pytest.raises(BadAnswerError, match="has no A"):
        world.sts.get_caller_identity(world.operator, now=datetime.now(UTC))


def test_the_endpoint_may_be_anything_that_answers(world: World) -> None:
    """A service that is not named here is called by action and version."""
    api = OpenApi(world.transport, world.server.endpoint, "2015-04-01")
    assert "Arn" in api.call("GetCallerIdentity", {}, world.operator, now=datetime.now(UTC))


def test_what_an_anonymous_call_proves_itself_with_is_in_no_url(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The parameters of an anonymous call are in the body, as a form; the query has what every call has."""
    sent: list[tuple[str, str, Mapping[str, str], bytes]] = []

    def record(self: Transport, endpoint: str, query: str, **given: Any) -> Reply:
        sent.append((endpoint, query, given["headers"], given["body"]))
        return Reply(200, {}, b"{}")

    monkeypatch.setattr(Transport, "post", record)
    now = datetime(2026, 11, 22, 1, 2, 3, tzinfo=UTC)
    assert world.sts.call_anonymously("AssumeRoleWithOIDC", {"OIDCToken": "a.b/c+d", "RoleArn": "x"}, now=now) == {}
    ((endpoint, query, headers, body),) = sent
    common = dict(parse_qsl(query))
    assert len(common.pop("SignatureNonce")) == 32
    assert common == {
        "Action": "AssumeRoleWithOIDC",
        "Format": "JSON",
        "Timestamp": "2026-11-22T01:02:03Z",
        "Version": "2015-04-01",
    }
    assert (endpoint, body) == (world.server.endpoint, b"OIDCToken=a.b%2Fc%2Bd&RoleArn=x")
    assert headers["content-type"] == "application/x-www-form-urlencoded"
    assert "authorization" not in {name.lower() for name in headers}


def test_a_refusal_of_an_anonymous_call_keeps_its_meaning(world: World) -> None:
    """An error reply to an anonymous call is read as any other is."""
    with pytest.raises(SourceRefusedError, match=r"AssumeRoleWithOIDC: .*AuthenticationFail") as caught:
        world.sts.call_anonymously("AssumeRoleWithOIDC", {}, now=datetime.now(UTC))
    assert caught.value.code == "AuthenticationFail.OIDCToken.Invalid"
