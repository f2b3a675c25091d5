"""The life of a RAM user's AccessKeys in the emulator, driven by the official RAM SDK.

IMS has an SDK of its own, which is not installed: its actions are called through the layer below all these SDKs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from alibabacloud_ram20150501 import models
from alibabacloud_ram20150501.client import Client as Ram
from alibabacloud_sts20150401.client import Client as Sts
from alibabacloud_tea_openapi.client import Client as OpenApi
from alibabacloud_tea_openapi.exceptions import ClientException
from alibabacloud_tea_openapi.models import OpenApiRequest, Params
from alibabacloud_tea_util.models import RuntimeOptions

from providers.emulator.model import AccessKey, iso

if TYPE_CHECKING:
    from .conftest import World

DAY_S = 86400.0


class User:
    """A RAM user as an administrator sees it, through the SDK."""

    def __init__(self, world: World, name: str = "reporter", admin: str = "admin") -> None:
        self.world, self.name, self.cloud = world, name, world.cloud
        self.id = self.cloud.add_user(name).user_id
        self.cloud.add_user(admin, "ram:*")
        self.admin = (self.cloud.keys_of(admin) or [self.cloud.add_access_key(admin)])[0]
        self.ram = world.tea(Ram, self.admin)

    def create(self) -> AccessKey:
        made = self.ram.create_access_key(models.CreateAccessKeyRequest(user_name=self.name)).body.access_key
        assert made.status == "Active"
        return AccessKey(made.access_key_id, made.access_key_secret, self.name, 0.0, 0.0)

    def update(self, key: AccessKey, status: str) -> None:
        self.ram.update_access_key(
            models.UpdateAccessKeyRequest(user_name=self.name, user_access_key_id=key.access_key_id, status=status)
        )

    def delete(self, key: AccessKey) -> None:
        self.ram.delete_access_key(
            models.DeleteAccessKeyRequest(user_name=self.name, user_access_key_id=key.access_key_id)
        )

    def listed(self) -> dict[str, str]:
        answer = self.ram.list_access_keys(models.ListAccessKeysRequest(user_name=self.name)).body
        return {one.access_key_id: one.status for one in answer.access_keys.access_key}

    def last_used(self, key: AccessKey) -> str:
        asked = models.GetAccessKeyLastUsedRequest(user_name=self.name, user_access_key_id=key.access_key_id)
        return str(self.ram.get_access_key_last_used(asked).body.access_key_last_used.last_used_date)

    def ims(self, action: str, signer: AccessKey | None = None, **query: str) -> dict[str, Any]:
        params = Params(
            action=action,
            version="2019-08-15",
            protocol="HTTPS",
            method="POST",
            auth_type="AK",
            style="RPC",
            pathname="/",
            req_body_type="formData",
            body_type="json",
        )
        client = self.world.tea(OpenApi, signer or self.admin)
        body: dict[str, Any] = client.call_api(params, OpenApiRequest(query=query), RuntimeOptions())["body"]
        return body

    def recycled(self) -> list[str]:
        answer = self.ims("ListAccessKeysInRecycleBin", UserId=self.id)
        return [one["AccessKeyId"] for one in answer["AccessKeys"]["AccessKey"]]

    def works(self, key: AccessKey) -> bool:
        try:
            self.world.tea(Sts, key).get_caller_identity()
        except ClientException:
            return False
        return True


@pytest.fixture
def user(world: World) -> User:
    return User(world)


@contextmanager
def refused(status: int, code: str) -> Iterator[None]:
    with pytest.raises(ClientException) as caught:
        yield
    assert (caught.value.status_code, caught.value.code) == (status, code)


def test_a_key_is_made_and_its_secret_is_shown_once(user: User) -> None:
    """The new key signs; no later answer has its secret."""
    key = user.create()
    assert user.works(key)
    listed = user.ram.list_access_keys(models.ListAccessKeysRequest(user_name=user.name)).body.to_map()
    assert [one["AccessKeyId"] for one in listed["AccessKeys"]["AccessKey"]] == [key.access_key_id]
    assert key.access_key_secret not in str(listed)


def test_a_third_key_is_one_too_many(user: User) -> None:
    """A disabled key counts as well; one in the recycle bin does not."""
    first, _second = user.create(), user.create()
    user.update(first, "Inactive")
    with refused(409, "LimitExceeded.User.AccessKey"):
        user.create()
    user.delete(first)
    user.create()


def test_keys_are_made_for_users_that_exist_by_those_who_may(user: User) -> None:
    """Without a name, the caller is meant; who may not is told so; an unknown user is none."""
    own = user.ram.create_access_key(models.CreateAccessKeyRequest()).body.access_key.access_key_id
    assert own in [key.access_key_id for key in user.cloud.keys_of("admin")]
    with refused(404, "EntityNotExist.User"):
        user.ram.create_access_key(models.CreateAccessKeyRequest(user_name="nobody"))
    with refused(403, "NoPermission"):
        user.world.tea(Ram, user.create()).create_access_key(models.CreateAccessKeyRequest(user_name="reporter"))
    assert len(user.cloud.keys_of("reporter")) == 1


def test_what_becomes_of_a_key_takes_a_while(user: User) -> None:
    """A new key is refused at first, and a disabled one is accepted for a while."""
    user.cloud.propagation_delay_s, user.cloud.disable_delay_s = 30.0, 20.0
    key = user.create()
    with refused(404, "InvalidAccessKeyId.NotFound"):
        user.world.tea(Sts, key).get_caller_identity()
    user.world.clock.advance(31)
    assert user.works(key)
    user.update(key, "Inactive")
    assert user.works(key)
    user.world.clock.advance(21)
    with refused(403, "InvalidAccessKeyId.Inactive"):
        user.world.tea(Sts, key).get_caller_identity()
    user.update(key, "Active")
    assert user.works(key)


def test_a_list_tells_what_was_a_while_ago(user: User) -> None:
    """A new key is missing, a disabled one is still active, a deleted one still there; the limit knows better."""
    user.cloud.list_delay_s = 60.0
    key = user.create()
    user.create()
    assert user.listed() == {}
    with refused(409, "LimitExceeded.User.AccessKey"):
        user.create()
    user.world.clock.advance(61)
    assert set(user.listed().values()) == {"Active"} and len(user.listed()) == 2
    user.update(key, "Inactive")
    assert user.listed()[key.access_key_id] == "Active"
    user.delete(key)
    assert len(user.listed()) == 2
    with refused(404, "EntityNotExist.User.AccessKey"):
        user.delete(key)
    user.world.clock.advance(61)
    assert key.access_key_id not in user.listed() and len(user.listed()) == 1


def test_the_last_use_says_when_and_ims_says_for_what(user: User) -> None:
    """Each signed call that is answered counts, for the product that was called; a refused one does not."""
    key = user.create()
    ask = {"UserPrincipalName": f"reporter@{user.cloud.account_id}.onaliyun.com", "UserAccessKeyId": key.access_key_id}

    def used() -> tuple[str, str]:
        answer = user.ims("GetAccessKeyLastUsed", **ask)["AccessKeyLastUsed"]
        assert answer["LastUsedDate"] == user.last_used(key)
        return answer["LastUsedDate"], answer["ServiceName"]

    assert used() == ("", "")
    user.cloud.allow("reporter", "ram:ListAccessKeys")
    for client, call, service in (
        (Sts, lambda one: one.get_caller_identity(), "Sts"),
        (Ram, lambda one: one.list_access_keys(models.ListAccessKeysRequest()), "Ram"),
    ):
        user.world.clock.advance(60)
        earliest = iso(user.world.clock())
        call(user.world.tea(client, key))
        when, whose = used()
        assert earliest <= when <= iso(user.world.clock()) and whose == service
    before = used()
    user.world.clock.advance(60)
    with refused(403, "NoPermission"):
        user.world.tea(Ram, key).create_access_key(models.CreateAccessKeyRequest())
    assert used() == before
    for principal in ("reporter@other.onaliyun.com", f"nobody@{user.cloud.account_id}.onaliyun.com"):
        with refused(404, "EntityNotExist.User"):
            user.ims("GetAccessKeyLastUsed", UserPrincipalName=principal, UserAccessKeyId=key.access_key_id)


def test_the_recycle_bin_holds_three_keys_for_thirty_days(user: User) -> None:
    """The fourth pushes the first out; what is too old is gone for good."""
    deleted = []
    for _ in range(4):
        key = user.create()
        user.update(key, "Inactive")
        user.delete(key)
        deleted.append(key.access_key_id)
    assert user.recycled() == deleted[:0:-1]
    with refused(404, "EntityNotExist.User.AccessKey"):
        user.ims("RestoreAccessKeyFromRecycleBin", UserId=user.id, UserAccessKeyId=deleted[0])
    user.world.clock.advance(31 * DAY_S)
    assert user.cloud.recycled_keys(user.id) == []


def test_a_deleted_key_can_be_had_back(user: User) -> None:
    """Disabled, as it went; where the user has two others there is no room."""
    key = user.create()
    user.update(key, "Inactive")
    user.delete(key)
    others = user.create(), user.create()
    restore = {"UserId": user.id, "UserAccessKeyId": key.access_key_id}
    with refused(409, "LimitExceeded.User.AccessKey"):
        user.ims("RestoreAccessKeyFromRecycleBin", **restore)
    user.update(others[0], "Inactive")
    user.delete(others[0])
    user.ims("RestoreAccessKeyFromRecycleBin", **restore)
    assert user.listed() == {key.access_key_id: "Inactive", others[1].access_key_id: "Active"}
    assert user.recycled() == [others[0].access_key_id]
    assert not user.works(key)
    user.update(key, "Active")
    assert user.works(key)


def test_a_leaked_key_cannot_rotate_itself(user: User) -> None:
    """All of RAM and of IMS is closed to it, whatever its user may do; STS is not."""
    user.cloud.allow("reporter", "ram:*")
    key = user.create()
    user.cloud.restrict_access_key(key.access_key_id)
    with refused(403, "Forbidden"):
        user.world.tea(Ram, key).create_access_key(models.CreateAccessKeyRequest())
    with refused(403, "Forbidden"):
        user.ims("ListAccessKeysInRecycleBin", key, UserId=user.id)
    assert user.works(key)
