"""The stock SDKs, unchanged and with their certificate checks on, work against the emulator."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from alibabacloud_kms20160120 import models as kms_models
from alibabacloud_kms20160120.client import Client as Kms
from alibabacloud_ram20150501 import models as ram_models
from alibabacloud_ram20150501.client import Client as Ram
from alibabacloud_sts20150401.client import Client as Sts
from alibabacloud_tea_openapi.client import Client as OpenApi
from alibabacloud_tea_openapi.exceptions import ClientException as TeaRefusal
from alibabacloud_tea_openapi.models import OpenApiRequest, Params
from alibabacloud_tea_util.models import RuntimeOptions
from aliyunsdkcore.acs_exception.exceptions import ServerException
from aliyunsdkkms.request.v20160120.GetSecretValueRequest import GetSecretValueRequest

from providers.emulator.model import iso

if TYPE_CHECKING:
    from .conftest import World

SECRET = "uploader-ak"


def get_secret_value(name: str = SECRET, stage: str = "ACSCurrent", extended: bool = False) -> GetSecretValueRequest:
    request = GetSecretValueRequest()
    request.set_SecretName(name)
    request.set_VersionStage(stage)
    request.set_FetchExtendedConfig(extended)
    return request


def rotation(version_id: str) -> kms_models.RotateSecretRequest:
    return kms_models.RotateSecretRequest(secret_name=SECRET, version_id=version_id)


# The official secrets-manager client with a ClientKey


def test_the_official_client_reads_the_managed_key(world: World) -> None:
    """The main job: a ClientKey gets the JSON of the RAM secret, through the client's own cache."""
    _, cache = world.official_client()
    info = cache.get_secret_info(SECRET)
    value = json.loads(info.secret_value)
    assert set(value) == {"AccessKeyId", "AccessKeySecret", "GenerateTimestamp"}
    assert (value["AccessKeyId"], value["AccessKeySecret"]) == (world.key.access_key_id, world.key.access_key_secret)
    assert info.version_id == world.cloud.secret(SECRET).current.version_id
    assert info.secret_type == "RAMCredentials"
    assert info.secret_data_type == "text"
    assert info.rotation_interval == "604800s"
    assert json.loads(info.extended_config) == {
        "SecretSubType": "RamUserAccessKey",
        "UserName": "uploader",
        "CustomData": {},
    }


def test_the_official_client_sees_a_rotation(world: World) -> None:
    """After a rotation, a forced refresh brings the new version."""
    _, cache = world.official_client()
    before = cache.get_secret_info(SECRET).version_id
    key = world.cloud.rotate(SECRET, version_id="second")
    assert cache.refresh_now(SECRET)
    info = cache.get_secret_info(SECRET)
    assert (before != info.version_id, info.version_id) == (True, "second")
    assert json.loads(info.secret_value)["AccessKeyId"] == key.access_key_id


def test_a_client_key_may_only_read_secrets(world: World) -> None:
    """Every other action is Forbidden.NoPermission for a ClientKey, also the harmless ones."""
    from aliyunsdkcore.auth.algorithm import sha_hmac256
    from aliyunsdkcore.request import RpcRequest

    client, _ = world.official_client()
    acs = next(iter(client.client_dict.values()))
    for action in ("DescribeSecret", "RotateSecret"):
        request = RpcRequest("Kms", "2016-01-20", action, "kms")
        request.set_protocol_type("https")  # this class would send plain HTTP
        request.set_accept_format("JSON")
        request._signer = sha_hmac256
        _, _, _, error = acs._implementation_of_do_action(request, client.signer)
        assert (error.get_http_status(), error.get_error_code()) == (403, "Forbidden.NoPermission")


def test_a_disabled_client_key_is_refused(world: World) -> None:
    """InvalidAccessKeyId.Inactive, as for an AccessKey."""
    client, _ = world.official_client()
    world.cloud.client_keys()[-1].status = "Inactive"
    with pytest.raises(ServerException) as caught:
        client.get_secret_value(get_secret_value())
    assert (caught.value.get_http_status(), caught.value.get_error_code()) == (403, "InvalidAccessKeyId.Inactive")


# aliyunsdkcore with an AccessKey


def test_the_core_sdk_reads_a_secret_with_an_access_key(world: World) -> None:
    """RPC with HMAC-SHA1; extended config only when asked for; both stages."""
    world.cloud.allow("ops", "kms:GetSecretValue")
    old = world.key
    world.cloud.rotate(SECRET)
    acs = world.acs(world.ops)
    current = json.loads(acs.do_action_with_exception(get_secret_value(extended=True)))
    previous = json.loads(acs.do_action_with_exception(get_secret_value(stage="ACSPrevious")))
    assert json.loads(current["SecretData"])["AccessKeyId"] == world.key.access_key_id
    assert json.loads(previous["SecretData"])["AccessKeyId"] == old.access_key_id
    assert current["VersionStages"] == {"VersionStage": ["ACSCurrent"]}
    assert previous["VersionStages"] == {"VersionStage": ["ACSPrevious"]}
    assert isinstance(current["ExtendedConfig"], str)
    assert "ExtendedConfig" not in previous


@pytest.mark.parametrize("stage", ["ACSPending", "nonsense", "ACSPrevious"])
def test_a_stage_that_no_version_has_is_not_found(world: World, stage: str) -> None:
    """Only ACSCurrent and ACSPrevious can be read of a RAM secret, the latter only after a rotation."""
    world.cloud.allow("ops", "kms:GetSecretValue")
    with pytest.raises(ServerException) as caught:
        world.acs(world.ops).do_action_with_exception(get_secret_value(stage=stage))
    assert (caught.value.get_http_status(), caught.value.get_error_code()) == (404, "Forbidden.ResourceNotFound")


def test_a_wrong_secret_is_a_mismatch_and_no_crash(world: World) -> None:
    """The core SDK takes the message apart at its colon; the code stays SignatureDoesNotMatch."""
    key = world.key
    wrong = type(key)(key.access_key_id, "wrong", key.user, 0.0, 0.0)
    with pytest.raises(ServerException) as caught:
        world.acs(wrong).do_action_with_exception(get_secret_value())
    assert (caught.value.get_http_status(), caught.value.get_error_code()) == (400, "SignatureDoesNotMatch")
    assert [call.code for call in world.cloud.refused(key.access_key_id)] == ["SignatureDoesNotMatch"]


def test_a_generic_secret_is_read_by_stage_and_by_version(world: World) -> None:
    """Other secrets work too, with their own version ids."""
    world.cloud.allow("ops", "kms:GetSecretValue")
    world.cloud.add_generic_secret("note", '{"ak": "one"}', "v1")
    world.cloud.put_secret_value("note", '{"ak": "two"}', "v2")
    acs = world.acs(world.ops)
    assert json.loads(acs.do_action_with_exception(get_secret_value("note")))["SecretData"] == '{"ak": "two"}'
    request = get_secret_value("note")
    request.add_query_param("VersionId", "v1")
    reply = json.loads(acs.do_action_with_exception(request))
    assert (reply["SecretData"], reply["SecretType"]) == ('{"ak": "one"}', "Generic")


# The newer SDKs: ACS3


def test_caller_identity_says_who_a_key_belongs_to(world: World) -> None:
    """Needs no permission; the new key works as soon as it exists, the old one until its life is over."""
    old = world.key
    body = world.tea(Sts, old).get_caller_identity().body
    assert body.identity_type == "RAMUser"
    assert body.arn == f"acs:ram::{body.account_id}:user/uploader"
    assert body.user_id == body.principal_id
    new = world.cloud.rotate(SECRET)
    world.tea(Sts, new).get_caller_identity()
    world.tea(Sts, old).get_caller_identity()
    world.clock.advance(11)
    world.tea(Sts, new).get_caller_identity()
    with pytest.raises(TeaRefusal) as caught:
        world.tea(Sts, old).get_caller_identity()
    assert (caught.value.status_code, caught.value.code) == (404, "InvalidAccessKeyId.NotFound")


def test_a_key_that_has_not_spread_is_refused_for_a_while(world: World) -> None:
    """The propagation of a new key, as a verifier meets it."""
    world.cloud.propagation_delay_s = 30.0
    sts = world.tea(Sts, world.cloud.rotate(SECRET))
    with pytest.raises(TeaRefusal) as caught:
        sts.get_caller_identity()
    assert caught.value.code == "InvalidAccessKeyId.NotFound"
    world.clock.advance(31)
    sts.get_caller_identity()


def test_a_user_without_permission_is_refused_by_each_product_in_its_own_words(world: World) -> None:
    """KMS says Forbidden.RAM, RAM says NoPermission; both 403; nothing happens."""
    kms, ram = world.tea(Kms, world.key), world.tea(Ram, world.key)
    with pytest.raises(TeaRefusal) as from_kms:
        kms.rotate_secret(rotation("v1"))
    with pytest.raises(TeaRefusal) as from_ram:
        ram.list_access_keys(ram_models.ListAccessKeysRequest(user_name="uploader"))
    assert (from_kms.value.status_code, from_kms.value.code) == (403, "Forbidden.RAM")
    assert (from_ram.value.status_code, from_ram.value.code) == (403, "NoPermission")
    assert len(world.cloud.secret(SECRET).versions) == 1


def test_the_authority_rotates_once_per_version_id(world: World) -> None:
    """RotateSecret flips the version, repeats harmlessly, and refuses another one while the first runs."""
    kms, old = world.tea(Kms, world.ops), world.key
    body = kms.rotate_secret(rotation("emergency-1")).body
    assert (body.secret_name, body.version_id) == (SECRET, "emergency-1")
    assert body.arn.endswith(f":secret/{SECRET}")
    new = world.key
    assert new.access_key_id != old.access_key_id
    kms.rotate_secret(rotation("emergency-1"))
    assert world.key is new
    with pytest.raises(TeaRefusal) as caught:
        kms.rotate_secret(rotation("emergency-2"))
    assert "Your secret is being rotated, please try again later" in str(caught.value)
    world.clock.advance(11)
    kms.rotate_secret(rotation("emergency-2"))
    newest = world.key
    assert newest is not new
    world.clock.advance(11)
    kms.rotate_secret(rotation("emergency-2"))
    assert world.key is newest, "a version id is spent for good"


def test_a_secret_is_described_without_its_value(world: World) -> None:
    """DescribeSecret and ListSecretVersionIds show dates, versions and stages, and no key."""
    kms, old = world.tea(Kms, world.ops), world.key
    world.cloud.rotate(SECRET, version_id="second")
    described = kms.describe_secret(kms_models.DescribeSecretRequest(secret_name=SECRET)).body
    assert (described.secret_type, described.automatic_rotation) == ("RAMCredentials", "Enabled")
    assert described.last_rotation_date < described.next_rotation_date
    listed = kms.list_secret_version_ids(kms_models.ListSecretVersionIdsRequest(secret_name=SECRET)).body
    stages = {each.version_id: each.version_stages.version_stage for each in listed.version_ids.version_id}
    assert stages.pop("second") == ["ACSCurrent"]
    assert list(stages.values()) == [["ACSPrevious"]]
    assert listed.total_count == 2
    shown = str(described.to_map()) + str(listed.to_map())
    assert old.access_key_secret not in shown
    assert old.access_key_id not in shown


def test_versions_without_a_stage_are_listed_on_request_only(world: World) -> None:
    """IncludeDeprecated shows them; pages count from 1."""
    kms = world.tea(Kms, world.ops)
    for number in range(3):
        world.cloud.rotate(SECRET, version_id=f"v{number}")
    ask = kms_models.ListSecretVersionIdsRequest
    assert kms.list_secret_version_ids(ask(secret_name=SECRET)).body.total_count == 2
    page = kms.list_secret_version_ids(
        ask(secret_name=SECRET, include_deprecated="true", page_number=2, page_size=3)
    ).body
    assert (page.total_count, [each.version_id for each in page.version_ids.version_id]) == (4, ["v2"])


def test_the_authority_cuts_the_old_key_off(world: World) -> None:
    """UpdateAccessKey Inactive, then the old key is refused everywhere while the new one works."""
    ram, old = world.tea(Ram, world.ops), world.key
    new = world.cloud.rotate(SECRET)
    ram.update_access_key(
        ram_models.UpdateAccessKeyRequest(user_name="uploader", user_access_key_id=old.access_key_id, status="Inactive")
    )
    with pytest.raises(TeaRefusal) as caught:
        world.tea(Sts, old).get_caller_identity()
    assert (caught.value.status_code, caught.value.code) == (403, "InvalidAccessKeyId.Inactive")
    world.tea(Sts, new).get_caller_identity()
    listed = ram.list_access_keys(ram_models.ListAccessKeysRequest(user_name="uploader")).body.access_keys.access_key
    assert {each.access_key_id: each.status for each in listed} == {
        old.access_key_id: "Inactive",
        new.access_key_id: "Active",
    }


def test_a_key_is_deleted_once_it_is_disabled_and_lies_in_the_recycle_bin(world: World) -> None:
    """DeleteAccessKey refuses an active key, and one that is gone; the recycle bin (IMS) keeps it for 30 days."""
    ram, key = world.tea(Ram, world.ops), world.key
    world.cloud.allow("ops", "ram:DeleteAccessKey", "ram:ListAccessKeysInRecycleBin")
    delete = ram_models.DeleteAccessKeyRequest(user_name="uploader", user_access_key_id=key.access_key_id)
    with pytest.raises(TeaRefusal) as caught:
        ram.delete_access_key(delete)
    assert caught.value.status_code == 409
    world.cloud.set_status(key.access_key_id, "Inactive")
    ram.delete_access_key(delete)
    assert not ram.list_access_keys(ram_models.ListAccessKeysRequest(user_name="uploader")).body.access_keys.access_key
    for refused in (
        delete,
        ram_models.DeleteAccessKeyRequest(user_name="ops", user_access_key_id=key.access_key_id),
    ):
        with pytest.raises(TeaRefusal) as caught:
            ram.delete_access_key(refused)
        assert (caught.value.status_code, caught.value.code) == (404, "EntityNotExist.User.AccessKey")

    def recycled() -> list[dict[str, str]]:
        params = Params(
            action="ListAccessKeysInRecycleBin",
            version="2019-08-15",
            protocol="HTTPS",
            method="POST",
            auth_type="AK",
            style="RPC",
            pathname="/",
            req_body_type="formData",
            body_type="json",
        )
        asked = OpenApiRequest(query={"UserId": world.cloud.user("uploader").user_id})
        answer = world.tea(OpenApi, world.ops).call_api(params, asked, RuntimeOptions())
        return answer["body"]["AccessKeys"]["AccessKey"]

    (kept,) = recycled()
    assert kept.keys() == {"AccessKeyId", "CreateDate", "RecycleDate", "DeleteDate"}
    assert kept["AccessKeyId"] == key.access_key_id
    assert world.cloud.recycled_keys(world.cloud.user("ops").user_id) == []


def test_keys_are_looked_for_at_their_own_user(world: World) -> None:
    """A key of someone else, an unknown user and no real status are refused; without a name, oneself is meant."""
    ram, key = world.tea(Ram, world.ops), world.key
    ask = ram_models.UpdateAccessKeyRequest
    refused = [
        (
            ask(user_name="ops", user_access_key_id=key.access_key_id, status="Inactive"),
            "EntityNotExist.User.AccessKey",
        ),
        (ask(user_name="nobody", user_access_key_id=key.access_key_id, status="Inactive"), "EntityNotExist.User"),
        (ask(user_name="uploader", user_access_key_id=key.access_key_id, status="Off"), "InvalidParameter.Status"),
    ]
    for request, code in refused:
        with pytest.raises(TeaRefusal) as caught:
            ram.update_access_key(request)
        assert caught.value.code == code
    own = ram.list_access_keys(ram_models.ListAccessKeysRequest()).body.access_keys.access_key
    assert [each.access_key_id for each in own] == [world.ops.access_key_id]


def test_the_last_use_of_a_key_is_told(world: World) -> None:
    """Of a call that was answered; of an unknown key and of somebody else's it is refused."""
    ram, ask = world.tea(Ram, world.ops), ram_models.GetAccessKeyLastUsedRequest
    world.cloud.allow("ops", "ram:GetAccessKeyLastUsed")
    request = ask(user_name="uploader", user_access_key_id=world.key.access_key_id)
    assert not ram.get_access_key_last_used(request).body.access_key_last_used.last_used_date
    world.tea(Sts, world.key).get_caller_identity()
    used = ram.get_access_key_last_used(request).body.access_key_last_used.last_used_date
    assert used == iso(world.clock())
    for user, key_id in (("ops", world.key.access_key_id), ("uploader", "LTAI5tUnknown")):
        with pytest.raises(TeaRefusal) as caught:
            ram.get_access_key_last_used(ask(user_name=user, user_access_key_id=key_id))
        assert caught.value.code == "EntityNotExist.User.AccessKey"


def test_a_key_that_is_restricted_as_leaked_may_do_nothing_in_ram(world: World) -> None:
    """Refused there by Alibaba's sentence, with every permission; STS goes on, and other keys of the user too."""
    world.cloud.restrict_access_key(world.ops.access_key_id)
    with pytest.raises(TeaRefusal) as caught:
        world.tea(Ram, world.ops).list_access_keys(ram_models.ListAccessKeysRequest())
    assert (caught.value.status_code, caught.value.code) == (403, "Forbidden")
    assert "There is a risk of leakage of this AccessKey." in caught.value.message
    world.tea(Sts, world.ops).get_caller_identity()
    second = world.cloud.add_access_key("ops")
    world.tea(Ram, second).list_access_keys(ram_models.ListAccessKeysRequest())


def test_an_action_that_the_emulator_does_not_know_says_so(world: World) -> None:
    """InvalidAction.NotFound, 404."""
    with pytest.raises(TeaRefusal) as caught:
        world.tea(Ram, world.ops).list_users(ram_models.ListUsersRequest())
    assert (caught.value.status_code, caught.value.code) == (404, "InvalidAction.NotFound")


def test_a_client_that_does_not_trust_the_ca_sends_nothing(world: World) -> None:
    """The emulator's certificate is worth nothing without its CA: no request reaches the service."""
    from alibabacloud_tea_openapi.models import Config

    config = Config(access_key_id="a", access_key_secret="b", endpoint=world.server.endpoint)
    with pytest.raises(Exception, match="CERTIFICATE_VERIFY_FAILED"):
        Sts(config).get_caller_identity()
    assert world.cloud.calls == []


def test_every_call_is_on_record_with_its_outcome(world: World) -> None:
    """Who, what, which status: enough to count the refused requests of a key."""
    world.tea(Sts, world.key).get_caller_identity()
    with pytest.raises(TeaRefusal):
        world.tea(Kms, world.key).rotate_secret(rotation("v1"))
    records = [(call.action, call.status, call.code) for call in world.cloud.calls]
    assert records == [("GetCallerIdentity", 200, ""), ("RotateSecret", 403, "Forbidden.RAM")]
    assert [call.action for call in world.cloud.refused(world.key.access_key_id)] == ["RotateSecret"]
    assert world.cloud.refused(world.ops.access_key_id) == []
