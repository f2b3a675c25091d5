"""The calls that only look, beside the official SDKs: what is sent, and what is read of the same answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
from alibabacloud_kms20160120 import models as kms_models
from alibabacloud_kms20160120.client import Client as KmsClient
from alibabacloud_ram20150501 import models as ram_models
from alibabacloud_ram20150501.client import Client as RamClient
from alibabacloud_tea_openapi.client import Client as OpenApiClient
from alibabacloud_tea_openapi.utils_models import Config, OpenApiRequest, Params
from alibabacloud_tea_util.models import RuntimeOptions

from agent.cloud.looks import access_key_last_used, describe_secret, key_last_use, list_access_keys
from agent.cloud.openapi import Ims, Kms, Ram
from agent.cloud.transport import Transport
from agent.core.credential import Credential
from agent.core.errors import BadAnswerError, NotPermittedError, SourceRefusedError
from agent.core.secret import Secret
from agent.core.timestamps import rfc3339
from providers.emulator import Cloud, EmulatorServer, Fault
from providers.emulator.reception import Reply
from providers.emulator.signatures import Request


class World:
    """An account that keeps what it is sent; each call can be made by the SDK and by keyturn."""

    def __init__(self, directory: Path) -> None:
        self.cloud = Cloud()
        self.cloud.add_user("operator", "kms:*", "ram:*")
        self.key = self.cloud.add_access_key("operator")
        self.who = Credential(
            access_key_id=self.key.access_key_id, access_key_secret=Secret(self.key.access_key_secret)
        )
        self.cloud.add_ram_secret("uploader-ak", user="uploader")
        self.current = self.cloud.current_key("uploader-ak").access_key_id
        self.server = EmulatorServer(self.cloud, directory)
        transport = Transport(str(self.server.ca_file), proxies=False)
        self.kms, self.ram = Kms(transport, self.server.endpoint), Ram(transport, self.server.endpoint)
        self.ims = Ims(transport, self.server.endpoint)
        self.requests: list[Request] = []
        self._serve = self.server.services.handle
        self.server.services.handle = self._keep  # type: ignore[method-assign]

    def _keep(self, request: Request) -> Reply:
        self.requests.append(request)
        return self._serve(request)

    def sdk(self, client: Callable[[Any], Any]) -> Any:
        config = Config(
            access_key_id=self.key.access_key_id,
            access_key_secret=self.key.access_key_secret,
            endpoint=self.server.endpoint,
            ca=str(self.server.ca_file),
        )
        return client(config)

    def sent(self) -> list[tuple[str, str, dict[str, str]]]:
        """Action, version and parameters of each call since the last time."""
        got, self.requests = self.requests, []
        return [(one.headers["x-acs-action"], one.headers["x-acs-version"], dict(parse_qsl(one.query))) for one in got]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A running emulator."""
    made = World(tmp_path / "emulator")
    with made.server:
        yield made


def now() -> datetime:
    return datetime.now(UTC)


def test_a_secret_is_described_as_the_sdk_describes_it(world: World) -> None:
    """The same request, and the same facts of the answer; the value is in neither."""
    theirs = world.sdk(KmsClient).describe_secret(kms_models.DescribeSecretRequest(secret_name="uploader-ak")).body
    ours = describe_secret(world.kms, "uploader-ak", world.who, now=now())
    first, second = world.sent()
    assert first == second
    assert (ours.secret_type, ours.user_name) == (theirs.secret_type, json.loads(theirs.extended_config)["UserName"])
    assert ours.last_rotated_at is not None and rfc3339(ours.last_rotated_at) == theirs.last_rotation_date


def test_keys_are_listed_as_the_sdk_lists_them(world: World) -> None:
    """Ids, states and dates of a user's keys."""
    world.cloud.rotate("uploader-ak")
    world.cloud.set_status(world.current, "Inactive")
    theirs = world.sdk(RamClient).list_access_keys(ram_models.ListAccessKeysRequest(user_name="uploader")).body
    ours = list_access_keys(world.ram, "uploader", world.who, now=now())
    first, second = world.sent()
    assert first == second
    assert [(one.access_key_id, one.status, one.created_at and rfc3339(one.created_at)) for one in ours] == [
        (one.access_key_id, one.status, one.create_date) for one in theirs.access_keys.access_key
    ]
    assert len(ours) == 2


def test_the_last_use_is_asked_for_as_the_sdk_asks(world: World) -> None:
    """A key that was never used has no date."""
    request = ram_models.GetAccessKeyLastUsedRequest(user_name="operator", user_access_key_id=world.key.access_key_id)
    theirs = world.sdk(RamClient).get_access_key_last_used(request).body.access_key_last_used
    ours = access_key_last_used(world.ram, "operator", world.key.access_key_id, world.who, now=now())
    first, second = world.sent()
    assert first == second
    assert ours is not None and theirs.last_used_date is not None
    assert access_key_last_used(world.ram, "uploader", world.current, world.who, now=now()) is None


def test_ims_says_for_which_product_a_key_was_used(world: World) -> None:
    """The request that the generated SDKs send by the layer below them; a key that was never used has neither."""
    params = Params(
        action="GetAccessKeyLastUsed",
        version="2019-08-15",
        protocol="HTTPS",
        method="POST",
        auth_type="AK",
        style="RPC",
        pathname="/",
        req_body_type="formData",
        body_type="json",
    )
    name = f"operator@{world.cloud.account_id}.onaliyun.com"
    asked = OpenApiRequest(query={"UserPrincipalName": name, "UserAccessKeyId": world.key.access_key_id})
    world.sdk(OpenApiClient).call_api(params, asked, RuntimeOptions())
    account = world.cloud.account_id
    ours = key_last_use(world.ims, "operator", account, world.key.access_key_id, world.who, now=now())
    first, second = world.sent()
    assert first == second
    assert ours.at is not None and ours.service == "Ims"
    never = key_last_use(world.ims, "uploader", account, world.current, world.who, now=now())
    assert (never.at, never.service) == (None, "")
    for body in ("{}", '{"AccessKeyLastUsed": 7}', '{"AccessKeyLastUsed": {"LastUsedDate": 7}}',
                 '{"AccessKeyLastUsed": {"LastUsedDate": "yesterday"}}'):  # fmt: skip
        for ask in (
            lambda: key_last_use(world.ims, "operator", account, world.key.access_key_id, world.who, now=now()),
            lambda: access_key_last_used(world.ram, "operator", world.key.access_key_id, world.who, now=now()),
        ):
            world.cloud.inject(Fault.WRONG_SHAPE, body=body)
            with pytest.raises(BadAnswerError):  # never "not used": a key may be disabled because it rests
                ask()


def test_refusals_keep_their_meaning(world: World) -> None:
    """A missing permission, an unknown user, another user's key and an unknown secret."""
    with pytest.raises(SourceRefusedError) as caught:
        list_access_keys(world.ram, "nobody", world.who, now=now())
    assert caught.value.code == "EntityNotExist.User"
    with pytest.raises(SourceRefusedError) as caught:
        access_key_last_used(world.ram, "operator", world.current, world.who, now=now())
    assert caught.value.code == "EntityNotExist.User.AccessKey"
    with pytest.raises(SourceRefusedError):
        describe_secret(world.kms, "unknown", world.who, now=now())
    world.cloud.forbid("operator", "kms:*", "ram:*")
    for ask in (
        lambda: describe_secret(world.kms, "uploader-ak", world.who, now=now()),
        lambda: list_access_keys(world.ram, "uploader", world.who, now=now()),
        lambda: access_key_last_used(world.ram, "uploader", world.current, world.who, now=now()),
    ):
        with pytest.raises(NotPermittedError):
            ask()


@pytest.mark.parametrize(
    "body",
    [
        "{}",
        '{"AccessKeys": 7}',
        '{"AccessKeys": {"AccessKey": [7]}}',
        '{"AccessKeys": {"AccessKey": [{"Status": "Active"}]}}',
    ],
)
def test_an_answer_without_a_list_is_none(world: World, body: str) -> None:
    """An empty list would say that there is no key in the way."""
    world.cloud.inject(Fault.WRONG_SHAPE, body=body)
    with pytest.raises(BadAnswerError):
        list_access_keys(world.ram, "uploader", world.who, now=now())


@pytest.mark.parametrize("config", ["", "{", "7", '{"UserName": 7}', '{"UserName": "a\\nb"}', "[" * 5000, "null"])
def test_a_user_that_cannot_be_read_is_none(world: World, config: str) -> None:
    """What KMS puts into ExtendedConfig is text of a kind of its own."""
    body = json.dumps({"SecretType": "RAMCredentials", "ExtendedConfig": config, "LastRotationDate": "soon"})
    world.cloud.inject(Fault.WRONG_SHAPE, body=body)
    seen = describe_secret(world.kms, "uploader-ak", world.who, now=now())
    assert (seen.user_name, seen.last_rotated_at) == ("", None)
