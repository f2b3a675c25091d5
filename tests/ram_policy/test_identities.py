"""Who signs what, from configs alone: nothing runs, and nobody is asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agent.app import wiring
from agent.ram_policy.documents import PLACEHOLDERS, Identity, placeholders_in
from agent.ram_policy.identities import identities

SINK = '[[credentials.{name}.sinks]]\ntype = "json"\npath = "{directory}/{name}.json"\n'
KEY_FILES = (
    '{ type = "access_key", access_key_id_from_file_path = "/k/id", access_key_secret_from_file_path = "/k/secret" }'
)
AUTHORITY = f"authority = {KEY_FILES}"
ROLE = "acs:ram::7:role/app"


class Configs:
    """Configs in a directory, and what is found in them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def properties(self, *lines: str) -> str:
        path = self.directory / "x.properties"
        path.touch(mode=0o600)
        region = json.dumps([{"regionId": "cn-beijing", "vpc": True}])
        path.write_text("\n".join([*lines, f"cache_client_region_id={region}"]) + "\n")
        return str(path)

    def found(self, only: str | None = None, *, cloud: str = "", **credentials: str) -> list[Identity]:
        path = self.directory / "keyturn.toml"
        tables = [
            f"[credentials.{name}]\n{text}\n" + SINK.format(name=name, directory=self.directory)
            for name, text in credentials.items()
        ]
        path.write_text(f"[cloud]\n{cloud}\n" + "".join(tables))
        return identities(wiring.load_settings(str(path), {}), {}, only)

    def secret(self, *lines: str, name: str = "uploader-ak", more: str = "") -> str:
        file = self.properties(*lines)
        return f'provider = {{ type = "kms_secret", secret_name = "{name}", properties_file = "{file}" }}\n{more}'


@pytest.fixture
def configs(tmp_path: Path) -> Configs:
    return Configs(tmp_path)


def grants(one: Identity) -> set[tuple[str, str]]:
    return {(grant.action, grant.resource) for grant in one.grants}


AK = ("credentials_type=ak", "credentials_access_key_id=LTAIx", "credentials_access_secret=canary-of-a-secret")
BY_ROLE = (
    "credentials_type=ram_role",
    "credentials_access_key_id=LTAIx",
    "credentials_access_secret=canary-of-a-secret",
    f"credentials_role_arn={ROLE}",
    "credentials_role_session_name=me",
)
SECRET, KEY = "acs:kms:cn-beijing:<ACCOUNT_ID>:secret/uploader-ak", "acs:kms:cn-beijing:<ACCOUNT_ID>:key/<KMS_KEY_ID>"
READS = {("kms:GetSecretValue", SECRET), ("kms:Decrypt", KEY)}


def test_an_access_key_that_reads_a_secret(configs: Configs) -> None:
    """The region is the one that is asked, not that of [cloud]; the secret of the file is in nothing that is found."""
    (one,) = configs.found("up", up=configs.secret(*AK))
    assert grants(one) == READS
    assert "LTAIx" in one.name
    assert "canary" not in json.dumps(one.as_json())


def test_a_secret_by_its_arn_leaves_no_account_open(configs: Configs) -> None:
    """What the config knows is exact."""
    (one,) = configs.found("up", up=configs.secret(*AK, name="acs:kms:cn-beijing:42:secret/uploader-ak"))
    assert grants(one) == {
        ("kms:GetSecretValue", "acs:kms:cn-beijing:42:secret/uploader-ak"),
        ("kms:Decrypt", "acs:kms:cn-beijing:42:key/<KMS_KEY_ID>"),
    }


def test_an_assumed_role_that_reads_a_secret(configs: Configs) -> None:
    """Two identities: the role reads, the AccessKey only assumes it."""
    role, key = configs.found("up", up=configs.secret(*BY_ROLE))
    assert grants(role) == READS
    assert grants(key) == {("sts:AssumeRole", "acs:ram:*:7:role/app")}
    assert role.trusts[0]["Principal"] == {"RAM": ["acs:ram::<ACCOUNT_ID>:user/<USER_OF_THE_KEY>"]}


@pytest.mark.parametrize(
    ("lines", "principal"),
    [
        (("credentials_type=ecs_ram_role", "credentials_role_name=app"), {"Service": ["ecs.aliyuncs.com"]}),
        (
            ("credentials_type=oidc_role_arn", f"credentials_role_arn={ROLE}"),
            {"Federated": ["acs:ram::<ACCOUNT_ID>:oidc-provider/<OIDC_PROVIDER>"]},
        ),
    ],
)
def test_a_role_that_reads_a_secret_without_a_key(configs: Configs, lines: tuple[str, ...], principal: object) -> None:
    """The instance's role and a token's role need no base, but a trust policy."""
    (role,) = configs.found("up", up=configs.secret(*lines))
    assert grants(role) == READS
    assert role.trusts[0]["Principal"] == principal


def test_a_client_key_takes_a_rule_and_no_policy(configs: Configs) -> None:
    """In the console's words, with the VPC gateway's network type."""
    (point,) = configs.found(
        "up", up=configs.secret("credentials_type=client_key", "client_key_private_key_path=/k/ck")
    )
    assert point.policy() is None
    (rule,) = point.access_point
    assert rule["RBAC permissions"] == "SecretUser"
    assert rule["Accessible resources"] == ["secret/uploader-ak"]
    assert rule["Network access rule"]["Network type"] == "VPC"


def test_a_dedicated_instance_takes_a_rule_of_its_own(configs: Configs) -> None:
    """Its scope is the instance, and the RBAC permission another."""
    instance = [
        {"regionId": "cn-beijing", "endpoint": "kst-x.cryptoservice.kms.aliyuncs.com", "clientKeyFile": "/k/ck"}
    ]
    file = configs.directory / "dedicated.properties"
    file.touch(mode=0o600)
    file.write_text(f"cache_client_dkms_config_info={json.dumps(instance)}\nclient_key_password_from_file_path=/k/pw\n")
    text = f'provider = {{ type = "kms_secret", secret_name = "uploader-ak", properties_file = "{file}" }}\n'
    (point,) = configs.found("up", up=text)
    (rule,) = point.access_point
    assert (rule["Scope"], rule["RBAC permissions"]) == (instance[0]["endpoint"], "CryptoServiceSecretUser")


def test_a_properties_file_that_cannot_be_read_hides_no_policy(configs: Configs) -> None:
    """The policy of a RAM identity is shown, with the reason why nothing more is known."""
    text = (
        'provider = { type = "kms_secret", secret_name = "uploader-ak", properties_file = "/nowhere/x.properties" }\n'
    )
    (one,) = configs.found("up", up=text)
    assert {action for action, _arn in grants(one)} == {"kms:GetSecretValue", "kms:Decrypt"}
    assert any("/nowhere/x.properties" in note for note in one.notes)


EMERGENCY = f'emergency = {{ ram_user_name = "uploader", {AUTHORITY} }}\n'


def test_the_authority_of_an_emergency(configs: Configs) -> None:
    """Rotation and the end of the old key; to delete is a policy of its own."""
    _reader, authority = configs.found("up", cloud='region_id = "cn-hangzhou"', up=configs.secret(*AK, more=EMERGENCY))
    user = "acs:ram:*:<ACCOUNT_ID>:user/uploader"
    assert authority.used_by == ["credentials.up.emergency.authority"]
    assert "/k/id" in authority.name
    always, delete = authority.policy(), authority.policy("rotate --delete-old")
    assert always is not None
    assert delete is not None
    of_secret, of_user = always["Statement"]
    assert (of_secret["Resource"], of_user["Resource"]) == (SECRET.replace("beijing", "hangzhou"), user)
    assert of_secret["Action"] == ["kms:RotateSecret", "kms:DescribeSecret"]
    assert of_user["Action"] == ["ram:UpdateAccessKey", "ram:ListAccessKeys", "ram:GetAccessKeyLastUsed"]
    assert "ram:DeleteAccessKey" not in json.dumps(always)
    assert delete["Statement"] == [{"Effect": "Allow", "Action": ["ram:DeleteAccessKey"], "Resource": user}]


def test_one_authority_for_several_secrets_is_one_identity(configs: Configs) -> None:
    """With one policy that names both secrets."""
    found = configs.found(
        a=configs.secret(*AK, more=EMERGENCY),
        b=configs.secret(*AK, name="other", more=EMERGENCY.replace('"uploader"', '"o"')),
    )
    (authority,) = [one for one in found if "/k/id" in one.name]
    assert authority.used_by == ["credentials.a.emergency.authority", "credentials.b.emergency.authority"]
    assert {arn.rpartition("/")[2] for action, arn in grants(authority) if action == "kms:RotateSecret"} == {
        "uploader-ak",
        "other",
    }


def test_the_user_of_a_secret_with_kms_own_name_is_known(configs: Configs) -> None:
    """KMS names the secret of a RAM user acs/ram/user/NAME."""
    more = f"emergency = {{ {AUTHORITY} }}\n"
    _reader, authority = configs.found("up", up=configs.secret(*AK, name="acs/ram/user/billing", more=more))
    assert ("ram:UpdateAccessKey", "acs:ram:*:<ACCOUNT_ID>:user/billing") in grants(authority)


def test_an_authority_that_is_a_role(configs: Configs) -> None:
    """The role rotates; its base may assume it, and nothing else."""
    more = (
        f'[credentials.up.emergency]\nram_user_name = "uploader"\n[credentials.up.emergency.authority]\ntype = "ram_role_arn"\n'
        f'role_arn = "{ROLE}"\nexternal_id = "e-1"\nbase = {KEY_FILES}\n'
    )
    _reader, key, role = configs.found("up", up=configs.secret(*AK, more=more))
    assert grants(key) == {("sts:AssumeRole", "acs:ram:*:7:role/app")}
    assert {"kms:RotateSecret", "ram:UpdateAccessKey", "ram:DeleteAccessKey"} < {
        action for action, _arn in grants(role)
    }
    assert role.trusts[0]["Condition"] == {"StringEquals": {"sts:ExternalId": "e-1"}}


def test_the_base_of_a_session_by_its_name(configs: Configs) -> None:
    """Whoever the secret of the other credential belongs to assumes the role."""
    session = f'provider = {{ type = "ram_role_arn", role_arn = "{ROLE}", base = "up" }}\n'
    found = configs.found(up=configs.secret(*AK), session=session)
    (base,) = [one for one in found if one.used_by == ["credentials.session.provider.base"]]
    assert grants(base) == {("sts:AssumeRole", "acs:ram:*:7:role/app")}
    assert "uploader-ak" in base.name


def test_a_canary_sees_its_own_keys(configs: Configs) -> None:
    """The permission that docs/canary.md speaks of."""
    found = configs.found("up", up="canary = true\n" + configs.secret(*AK, name="acs/ram/user/billing"))
    (user,) = [one for one in found if one.used_by == ["credentials.up.canary"]]
    assert grants(user) == {("ram:ListAccessKeys", "acs:ram:*:<ACCOUNT_ID>:user/billing")}


@pytest.mark.parametrize("authority", [KEY_FILES, '{ type = "function_compute" }', '"ops"'])
def test_whoever_rotates_a_ram_user_may_do_that_to_this_user_alone(configs: Configs, authority: str) -> None:
    """An inline authority, the role of a function, which Function Compute assumes, or another credential."""
    own = f'provider = {{ type = "ram_user", ram_user_name = "batch", owner = true, authority = {authority} }}\n'
    found = configs.found("up", up=own + f"emergency = {{ {AUTHORITY} }}\n", ops=f"provider = {KEY_FILES}\n")
    actions = ("List{}s", "Get{}LastUsed", "Create{}", "Update{}", "Delete{}")
    wanted = {(f"ram:{name.format('AccessKey')}", "acs:ram:*:<ACCOUNT_ID>:user/batch") for name in actions}
    assert [grants(one) for one in found] == [wanted] * (2 if "function" in authority else 1)
    trusts = [one.trust_policy for one in found if one.trust_policy]
    assert len(trusts) == ("function" in authority)
    assert "fc.aliyuncs.com" in json.dumps(trusts) or not trusts


def test_the_collector_of_the_log(configs: Configs) -> None:
    """With the whole config only; by Kafka it takes more."""
    api, kafka = configs.found(cloud='region_id = "cn-shanghai"', up=configs.secret(*AK))[1:]
    logstore = "acs:log:cn-shanghai:<ACCOUNT_ID>:project/<SLS_PROJECT>/logstore/<SLS_LOGSTORE>"
    assert grants(api) == {("log:PostLogStoreLogs", logstore)}
    assert grants(api) < grants(kafka)
    assert {action for action, _arn in grants(kafka)} == {
        "log:GetProject", "log:GetLogStore", "log:ListShards", "log:PostLogStoreLogs",
    }  # fmt: skip


def test_every_placeholder_that_is_printed_is_explained(configs: Configs) -> None:
    """Nothing in angle brackets stays without a word on how to find it."""
    found = configs.found(
        up=configs.secret(*BY_ROLE, more=f"emergency = {{ {AUTHORITY} }}\n"),
        here='provider = { type = "ecs_ram_role" }\n',
        pod='provider = { type = "oidc_role_arn" }\n',
    )
    text = json.dumps([one.as_json() for one in found])
    assert "<" not in _without(text, placeholders_in(text))
    assert set(placeholders_in(text)) <= set(PLACEHOLDERS)


def _without(text: str, names: Any) -> str:
    for name in names:
        text = text.replace(name, "")
    return text
