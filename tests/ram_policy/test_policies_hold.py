"""Each policy that `keyturn policy` prints, before a cloud that enforces it: enough for the work, and no action too many."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from agent.app import check, wiring
from agent.core.errors import NotPermittedError
from agent.emergency.harmless_calls import CheckOutcome, HarmlessCalls
from agent.emergency.request import Request
from agent.ram_policy.documents import Identity
from agent.ram_policy.identities import identities
from agent.system.clock import Clock
from agent.system.questions import Questions
from providers.emulator.errors import ApiError
from providers.emulator.operation import ENCRYPTION_KEY_ID
from providers.emulator.policies import SECRET_USER
from tests.support.station import Station, steps
from tests.support.vm import PATIENCE_S

LOOKS = ("kms:DescribeSecret", "ram:ListAccessKeys", "ram:GetAccessKeyLastUsed")
"""What the authority may do for `plan` alone: no emergency fails for want of it."""

CREDENTIALS = """
[credentials.by_key.provider]
type = "kms_secret"
secret_name = "reports"
properties_file = "{directory}/by_key.properties"
[credentials.by_role.provider]
type = "kms_secret"
secret_name = "reports"
properties_file = "{directory}/by_role.properties"
[credentials.session.provider]
type = "ram_role_arn"
role_arn = "acs:ram::{account}:role/app"
[credentials.session.provider.base]
type = "access_key"
access_key_id_from_file_path = "{directory}/base_id"
access_key_secret_from_file_path = "{directory}/base_secret"
"""


class World:
    """A station with one credential for each RAM identity that keyturn signs as, and the policies that were printed for it."""

    def __init__(self, station: Station) -> None:
        self.station, self.cloud, vm = station, station.cloud, station.vm
        self.cloud.add_ram_secret("reports", user="reports")
        keys = {
            name: self.cloud.add_access_key(self.cloud.add_user(name).name) for name in ("reader", "assumer", "base")
        }
        for part in ("id", "secret"):
            self._write(f"base_{part}", str(getattr(keys["base"], f"access_key_{part}")))
        regions = json.dumps([{"regionId": "cn-hangzhou", "endpoint": vm.server.endpoint}])
        reading = self.cloud.role_arn("reading")
        for name, user, rest in (
            ("by_key", "reader", "credentials_type=ak\n"),
            (
                "by_role",
                "assumer",
                f"credentials_type=ram_role\ncredentials_role_arn={reading}\ncredentials_role_session_name=x1\n",
            ),
        ):
            pair = keys[user]
            text = (
                f"credentials_access_key_id={pair.access_key_id}\ncredentials_access_secret={pair.access_key_secret}\n"
            )
            self._write(f"{name}.properties", f"{rest}{text}cache_client_region_id={regions}\n")
        self.keys = keys
        self.cloud.add_role("reading")
        self.cloud.add_role("app")
        others = CREDENTIALS.format(directory=vm.directory, account=self.cloud.account_id)
        sinks = "".join(vm.json(name) for name in ("by_key", "by_role", "session"))
        station.table = station.emergency('ram_user_name = "uploader"') + others + sinks
        vm.configure(vm.credential(), station.table)
        self.settings = wiring.load_settings(str(vm.config), {})
        self.factory = wiring.Factory(self.settings, {}, config_path=str(vm.config))
        self.printed = {self._holder(one): one for one in identities(self.settings, {})}
        for name, one in self.printed.items():
            if (policy := self.policy(one)) is not None:
                self.attach(name, policy)
            if one.trust_policy is not None:
                base = {"reading": "assumer", "app": "base"}[name]
                document = json.dumps(one.trust_policy).replace("<USER_OF_THE_KEY>", base)
                self.cloud.trust(self.cloud.role(self.cloud.role_arn(name)), self._filled(document))
            for rule in one.access_point:
                key_id = self.cloud.client_keys()[0].key_id
                assert (rule["Scope"], rule["RBAC permissions"]) == ("shared", "SecretUser")
                self.cloud.attach_rule(key_id, SECRET_USER, *rule["Accessible resources"])

    def _write(self, name: str, text: str) -> None:
        path = self.station.vm.directory / name
        path.touch(mode=0o600)
        path.write_text(text)

    def _holder(self, one: Identity) -> str:
        """Which user or role of the cloud an identity is."""
        if one.name.startswith("the RAM role"):
            return one.name.rpartition("/")[2]
        if "authority_id" in one.name:
            return "ops"
        if "base_id" in one.name:
            return "base"
        return next((user for user, key in self.keys.items() if key.access_key_id in one.name), one.name)

    def policy(self, one: Identity) -> dict[str, Any] | None:
        """What was printed, with what an operator puts in the place of each placeholder."""
        return None if one.policy() is None else json.loads(self._filled(json.dumps(one.policy())))

    def _filled(self, text: str) -> str:
        return text.replace("<ACCOUNT_ID>", self.cloud.account_id).replace("<KMS_KEY_ID>", ENCRYPTION_KEY_ID)

    def attach(self, name: str, policy: dict[str, Any]) -> None:
        if "Collector" in name or "collector" in name:
            return
        holder = self.cloud.role(self.cloud.role_arn(name)) if name in ("reading", "app") else self.cloud.user(name)
        self.cloud.attach_policy(holder, policy)

    def without(self, name: str) -> Iterator[str]:
        """Take one action after the other from somebody's policy; in the end all are there again."""
        whole = self.policy(self.printed[name])
        assert whole is not None
        for number, statement in enumerate(whole["Statement"]):
            for action in statement["Action"]:
                less = copy.deepcopy(whole)
                less["Statement"][number]["Action"] = [one for one in statement["Action"] if one != action] or [
                    "kms:Nothing"
                ]
                self.attach(name, less)
                yield action
        self.attach(name, whole)

    def fetch(self, name: str) -> str:
        """Fetch as the daemon would, by a provider that has no session from before."""
        provider = self.factory.provider(name, self.settings.credentials[name].provider)
        return provider.fetch(datetime.now(UTC)).access_key_id


@pytest.fixture
def world(station: Station) -> World:
    return World(station)


def test_every_fetch_works_with_exactly_what_was_printed(world: World) -> None:
    """By ClientKey, by AccessKey, by an assumed role, and a session for an application."""
    assert world.fetch("uploader") == world.station.current
    assert world.fetch("by_key") == world.fetch("by_role") == world.cloud.current_key("reports").access_key_id
    assert world.fetch("session").startswith("STS.")
    assert not world.cloud.refused()


def test_the_whole_emergency_works_with_exactly_what_was_printed(world: World) -> None:
    """Rotated, published, told, disabled, seen refused: the only refusal is the one of the old key."""
    old = world.station.start().current
    result = world.station.rotate(disable_old=True)
    assert (result.error, result.safe, result.all_moved) == (None, True, True)
    assert [call.access_key_id for call in world.cloud.refused()] == [old]


def test_check_finds_nothing_wrong_with_exactly_what_was_printed(world: World) -> None:
    """`check` asks the sources and STS; none of them refuses."""
    found = list(check.findings(world.settings, str(world.station.vm.config), {}, offline=False))
    wrong = [one for one in found if one.level == "error" and one.place.startswith("credentials.")]
    assert not wrong
    assert not world.cloud.refused()


@pytest.mark.parametrize(
    ("credential", "holder", "needed"),
    [
        ("by_key", "reader", {"kms:GetSecretValue", "kms:Decrypt"}),
        ("by_role", "reading", {"kms:GetSecretValue", "kms:Decrypt"}),
        ("by_role", "assumer", {"sts:AssumeRole"}),
        ("session", "base", {"sts:AssumeRole"}),
    ],
)
def test_a_fetch_needs_every_action_and_its_refusal_names_it(
    world: World, credential: str, holder: str, needed: set[str]
) -> None:
    """Without any one of them the fetch is refused, and the error says which action to grant, and what prints it."""
    seen = set()
    for action in world.without(holder):
        with pytest.raises(NotPermittedError) as refused:
            world.fetch(credential)
        assert action in str(refused.value)
        assert "keyturn policy" in refused.value.remedy
        seen.add(action)
    assert seen == needed
    world.fetch(credential)


def test_a_role_trusts_nobody_but_the_base_that_was_printed(world: World) -> None:
    """Somebody else who may assume it is refused, and so is a base without the external id that the policy asks for."""
    app = world.cloud.role(world.cloud.role_arn("app"))
    anybody = {"Version": "1", "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "*"}]}
    world.cloud.attach_policy(world.cloud.user("reader"), anybody)
    arn, keys = world.cloud.role_arn("app"), world.keys
    with pytest.raises(ApiError, match="NoPermission"):
        world.cloud.assume_role(arn, "x1", caller=keys["reader"])
    assert world.cloud.assume_role(arn, "x1", caller=keys["base"]).principal is app
    found = Identity("the role")
    found.trust({"RAM": [f"acs:ram::{world.cloud.account_id}:user/base"]}, {"StringEquals": {"sts:ExternalId": "e-1"}})
    world.cloud.trust(app, found.trust_policy or {})
    with pytest.raises(ApiError, match="NoPermission"):
        world.cloud.assume_role(arn, "x1", caller=keys["base"])
    assert world.cloud.assume_role(arn, "x1", caller=keys["base"], external_id="e-1").principal is app


def test_the_emergency_needs_every_action_and_its_refusal_names_it(world: World) -> None:
    """Without RotateSecret nothing happens; without UpdateAccessKey the old key stays; each time the action is named."""
    old, told = world.station.start().current, {}
    for action in world.without("ops"):
        if action in LOOKS:
            continue
        result = world.station.rotate(disable_old=True)
        failed = next(name for name, outcome in steps(result).items() if outcome == "failed")
        told[action] = failed
        assert result.error is not None
        assert action in result.error
        assert world.station.authority.access_key_id in result.error
        assert world.station.status_of(old) == "Active"
    assert told == {"kms:RotateSecret": "rotate", "ram:UpdateAccessKey": "disable_old"}
    assert world.station.rotate(disable_old=True).safe


def foreseen(world: World) -> dict[str, CheckOutcome]:
    """What `plan` asks as the authority: the RAM action of each call, and how that ended."""
    authority, source = (
        world.factory.authority("uploader"),
        world.factory.provider("uploader", world.settings.credentials["uploader"].provider),
    )
    calls = HarmlessCalls("uploader", authority, world.factory.cloud(), Clock(), Questions(PATIENCE_S))
    found = calls.look(source, "uploader-ak", "uploader", world.station.current)
    return {one.action: one.outcome for one in found.checks if one.action}


def test_what_plan_asks_needs_every_action_that_only_looks(world: World) -> None:
    """With what was printed every look succeeds; without one of them, that one is not permitted, and the others still are."""
    assert foreseen(world) == dict.fromkeys(LOOKS, CheckOutcome.OK)
    for action in world.without("ops"):
        if action in LOOKS:
            wanted = {one: CheckOutcome.NOT_PERMITTED if one == action else CheckOutcome.OK for one in LOOKS}
            assert foreseen(world) == wanted


def test_a_client_key_whose_access_point_names_another_secret_is_refused(world: World) -> None:
    """The error names the secret, the ClientKey and what the access point's policy must say."""
    key = world.cloud.client_keys()[0]
    key.rules.clear()
    world.cloud.attach_rule(key.key_id, SECRET_USER, "secret/another")
    with pytest.raises(NotPermittedError) as refused:
        world.fetch("uploader")
    assert refused.value.code == "Forbidden.NoPermission"
    for word in ("uploader-ak", key.key_id, "access point", "keyturn policy"):
        assert word in refused.value.remedy


def test_check_names_the_action_that_a_refusal_points_to(world: World) -> None:
    """An observed 403 becomes a finding with the action, the secret and the key that signed."""
    next(world.without("reader"))
    found = check.findings(world.settings, str(world.station.vm.config), {}, offline=False)
    (wrong,) = [one for one in found if one.level == "error" and one.place == "credentials.by_key.provider"]
    for word in ("kms:GetSecretValue", "reports", world.keys["reader"].access_key_id, "keyturn policy"):
        assert word in wrong.remedy


@pytest.mark.skipif("delete_old" not in Request.__annotations__, reason="this keyturn does not delete old keys")
def test_deleting_the_old_key_takes_the_policy_that_is_printed_apart(world: World) -> None:
    """Without it the key is dead but kept, and the action is named; with it the key is deleted."""
    old = world.station.start().current
    first = world.station.rotate(disable_old=True, delete_old=True)
    assert first.safe
    assert "ram:DeleteAccessKey" in str(first.error)
    apart = world.printed["ops"].policy("rotate --delete-old")
    world.cloud.attach_policy(world.cloud.user("ops"), world._filled(json.dumps(apart)), "apart")
    again = world.station.rotate(disable_old=True, delete_old=True, leaked=old)
    assert (again.error, again.safe) == (None, True)
    assert old not in {key.access_key_id for key in world.cloud.keys_of("uploader")}
