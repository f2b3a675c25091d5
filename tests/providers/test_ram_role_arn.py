"""Sessions of a role from AssumeRole, against the emulated STS; test_sts_judge.py compares with the official SDK."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest

from agent.cloud.transport import UntrustedServerError
from agent.core.credential import Credential, Kind
from agent.core.errors import (
    BadAnswerError,
    CredentialFileError,
    NotPermittedError,
    SourceRefusedError,
    SourceUnavailableError,
)
from agent.core.provider import ProviderContext
from agent.core.secret import Secret
from agent.core.settings import Duration, FilePath
from agent.engine.base_credentials import BaseCredentials, InlineBase, NamedBase
from agent.system.clock import Clock
from providers.access_key import AccessKey, AccessKeySettings
from providers.emulator import Fault
from providers.ram_role_arn import RamRoleArn, RamRoleArnSettings
from providers.sts_sessions import default_session_name
from tests.support.sts import (
    FixedBase,
    StsWorld,
    complaints,
    gives_no_session,
    lives_for,
    no_trust,
    record_posts,
)


class World(StsWorld):
    """With the provider under test."""

    def settings(self, **changes: Any) -> RamRoleArnSettings:
        return RamRoleArnSettings(**{"type": "ram_role_arn", "role_arn": self.role_arn, "base": "admin", **changes})

    def provider(self, **changes: Any) -> RamRoleArn:
        return RamRoleArn(self.settings(**changes), self.context())

    def get(self, timeout_s: float = 10.0, **changes: Any) -> Credential:
        return self.fetch(self.provider(**changes), timeout_s)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A running emulator, reached directly."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    made = World(tmp_path)
    with made.server:
        yield made


def whoami(world: World, value: Credential) -> str:
    """Whose session STS says it is."""
    from agent.cloud.openapi import Sts
    from agent.cloud.transport import Transport

    sts = Sts(Transport(world.ca_file), world.server.endpoint)
    return sts.get_caller_identity(value, now=datetime.now(UTC)).arn


def test_a_session_of_the_role_is_fetched_by_one_call(world: World) -> None:
    """The session works, is of the role, ends when asked, and is named after this machine and the credential."""
    value = world.get()
    assert value.kind is Kind.STS
    assert lives_for(value, 3600)
    assert [call.action for call in world.cloud.calls] == ["AssumeRole"]
    assert whoami(world, value) == f"acs:ram::{world.cloud.account_id}:assumed-role/app/keyturn-vm1-app"


def test_each_fetch_has_the_bases_newest_value(world: World) -> None:
    """A base that rotated signs with its new key at the next fetch, and each session is a new one."""
    provider = world.provider()
    first = world.fetch(provider)
    key = world.cloud.add_access_key("admin")
    world.cloud.delete_access_key(world.key.access_key_id)
    world.base.value = Credential(access_key_id=key.access_key_id, access_key_secret=Secret(key.access_key_secret))
    assert world.fetch(provider).access_key_id != first.access_key_id
    assert [call.access_key_id for call in world.cloud.calls] == [world.key.access_key_id, key.access_key_id]


def test_a_session_can_be_the_base_of_another(world: World) -> None:
    """Its token is signed with: a role assumed from a role."""
    world.cloud.add_role("gate", "sts:AssumeRole", trusted=("admin",))
    world.cloud.add_role("app", trusted=("gate",))
    world.base.value = world.get(role_arn=world.cloud.role_arn("gate"))
    assert ":assumed-role/app/" in whoami(world, world.get())


def test_an_inline_provider_can_be_the_base(world: World, private: Callable[[Path, str], Path]) -> None:
    """A base written into the provider's own table works, and its failure is told as it is."""
    (world.directory / "id").write_text(world.key.access_key_id)
    secret = private(world.directory / "secret", world.key.access_key_secret)
    settings = AccessKeySettings(
        type="access_key",
        access_key_id_from_file_path=FilePath(world.directory / "id"),
        access_key_secret_from_file_path=FilePath(secret),
    )
    world.base = InlineBase(AccessKey(settings, world.context()), Clock().now)  # type: ignore[assignment]
    assert world.get().security_token
    secret.chmod(0o644)
    with pytest.raises(CredentialFileError, match=r"^credentials\.app: access_key_secret: .*0644"):
        world.get()


def test_what_is_asked_for_is_what_is_configured(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Name, policy, length and external id reach STS as they are written."""
    world.cloud.add_role("app", external_id="team/a")
    policy = '{"Version": "1", "Statement": [{"Effect": "Allow", "Action": "oss:*", "Resource": "*"}]}'
    sent = record_posts(monkeypatch)
    value = world.get(
        role_session_name="a.b@c-d_e", policy=policy, role_session_expiration=Duration(900), external_id="team/a"
    )
    assert lives_for(value, 900)
    assert dict(parse_qsl(sent[0][0])) == {
        "RoleArn": world.role_arn,
        "RoleSessionName": "a.b@c-d_e",
        "Policy": policy,
        "DurationSeconds": "900",
        "ExternalId": "team/a",
    }


def test_the_session_name_fits_whatever_the_machine_is_called() -> None:
    """2 to 64 of the allowed characters, and two machines or credentials stay two."""
    made = {
        default_session_name(ProviderContext(name, hostname=host))
        for host in ("vm1", "vm 1", "vm_1", "h" * 80, "h" * 81, "größe", "")
        for name in ("app", "a" * 60, "a" * 61)
    }
    assert len(made) == 21
    settings = {"type": "ram_role_arn", "role_arn": "acs:ram::1:role/a", "base": "x"}
    for name in made:
        assert complaints(RamRoleArnSettings(**settings, role_session_name=name)) == []


ANSWERS: dict[str, tuple[str, str]] = {
    "nothing": ("{}", "has no Credentials"),
    "no session": ('{"RequestId": "Canary"}', "has no Credentials"),
    "a list": ('{"Credentials": ["Canary"]}', "has no Credentials"),
    "a text": ('{"Credentials": "Canary"}', "has no Credentials"),
    "an empty session": ('{"Credentials": {}}', "has no key id"),
    "no secret": ('{"Credentials": {"AccessKeyId": "Canary"}}', "has no secret"),
    "a number for a secret": ('{"Credentials": {"AccessKeyId": "Canary", "AccessKeySecret": 7}}', "has no secret"),
    "no token": ('{"Credentials": {"AccessKeyId": "Canary", "AccessKeySecret": "Canary"}}', "has no SecurityToken"),
    "a number for a token": (
        '{"Credentials": {"AccessKeyId": "Canary", "AccessKeySecret": "Canary", "SecurityToken": 7}}',
        "has no SecurityToken",
    ),
    "no end": (
        '{"Credentials": {"AccessKeyId": "Canary", "AccessKeySecret": "Canary", "SecurityToken": "Canary"}}',
        "has no Expiration",
    ),
    "an end that is a word": (
        '{"Credentials": {"AccessKeyId": "Canary", "AccessKeySecret": "Canary", "SecurityToken": "Canary",'
        ' "Expiration": "soonCanary"}}',
        "Expiration that is no time",
    ),
    "an end without a zone": (
        '{"Credentials": {"AccessKeyId": "Canary", "AccessKeySecret": "Canary", "SecurityToken": "Canary",'
        ' "Expiration": "2126-01-01T00:00:00"}}',
        "Expiration that is no time",
    ),
    "a blank in the token": (
        '{"Credentials": {"AccessKeyId": "Id", "AccessKeySecret": "x", "SecurityToken": "Canary x",'
        ' "Expiration": "2126-01-01T00:00:00Z"}}',
        "with a blank",
    ),
}


@pytest.mark.parametrize("story", ANSWERS)
def test_a_reply_without_a_whole_session_is_refused(world: World, story: str) -> None:
    """What is missing or of another type is named and never quoted."""
    gives_no_session(world, world.get, *ANSWERS[story])


def test_a_session_that_is_over_is_refused(world: World) -> None:
    """An answer that died before it came is no value."""
    world.cloud.session_life_s = -5
    with pytest.raises(BadAnswerError, match=r"credentials\.app: .*already expired"):
        world.get()


def test_who_may_not_is_told_of_both_locks(world: World) -> None:
    """AssumeRole says the same of a missing permission and of a trust policy: the remedy names both."""
    world.cloud.add_role("app", trusted=("somebody",))
    with pytest.raises(NotPermittedError, match="NoPermission") as caught:
        world.get()
    for words in ("sts:AssumeRole", "trust policy", "external_id"):
        assert words in caught.value.remedy
    world.cloud.add_role("app", external_id="team")
    with pytest.raises(NotPermittedError):
        world.get(external_id="other")


def test_a_role_that_is_not_there_is_told(world: World) -> None:
    """An unknown role is a refusal that names the setting."""
    with pytest.raises(SourceRefusedError, match="no such role") as caught:
        world.get(role_arn=world.cloud.role_arn("nobody"))
    assert "role_arn" in caught.value.remedy


def test_a_wrong_clock_is_told_with_its_skew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request from another time is refused in words that blame the clock, and say by how much."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    world = World(tmp_path)
    monkeypatch.setattr(world.cloud, "now", lambda: time.time() + 1200)
    with world.server, pytest.raises(SourceRefusedError, match=r"clock is (19|20|21) min behind its"):
        world.get()


def test_a_base_that_fails_is_named_as_the_cause(world: World) -> None:
    """The error begins with this credential and blames the other; STS is not asked; retrying follows the cause."""
    shelf = BaseCredentials()
    shelf.failed("admin", SourceUnavailableError("credentials.admin: kms is down", "wait"))

    def never() -> Any:
        raise AssertionError

    world.base = NamedBase("app", "admin", shelf, never, Clock().now)  # type: ignore[assignment]
    with pytest.raises(SourceUnavailableError, match=r"^credentials\.app: its base credentials\.admin failed: kms is"):
        world.get()
    world.base = FixedBase(NotPermittedError("some text of a third party", "ask", code="X"))
    with pytest.raises(NotPermittedError, match=r"^credentials\.app: some text") as caught:
        world.get()
    assert (caught.value.remedy, caught.value.code) == ("ask", "X")
    assert world.cloud.calls == []


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (Credential(bearer_token=Secret("Canary")), "a bearer token"),
        (Credential(access_key_id="KAAP.1-2", access_key_secret=Secret("Canary")), "a ClientKey"),
    ],
)
def test_a_base_that_cannot_sign_is_refused(world: World, value: Credential, words: str) -> None:
    """A bearer token or a ClientKey is refused here, in words that say what would do."""
    world.base.value = value
    with pytest.raises(SourceRefusedError, match=rf"^credentials\.app: its base gives {words}") as caught:
        world.get()
    assert "AccessKey" in caught.value.remedy
    assert world.cloud.calls == []


def test_a_slow_base_leaves_the_rest_of_the_time(world: World) -> None:
    """Base and STS share one deadline; where the base took it all, STS is not asked."""
    world.base.delay_s = 0.3
    with pytest.raises(SourceUnavailableError, match="its base took all the time"):
        world.get(timeout_s=0.2)
    assert world.cloud.calls == []
    world.cloud.inject(Fault.HANG)
    started = time.monotonic()
    with pytest.raises(SourceUnavailableError):
        world.get(timeout_s=0.8)
    assert time.monotonic() - started < 20


def test_a_server_that_is_not_trusted_gets_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the CA nothing is sent; with `cloud.ca_file` a third party's CA is trusted (all other tests)."""
    with no_trust(monkeypatch), pytest.raises(UntrustedServerError, match=r"credentials\.app: .*not from an authority"):
        world.get()
    assert world.cloud.calls == []


def test_the_providers_own_endpoint_goes_before_the_clouds(world: World) -> None:
    """`sts_endpoint` of the provider is asked where there is one."""
    with pytest.raises(SourceUnavailableError, match=r"127\.0\.0\.1:1: "):
        world.get(sts_endpoint="127.0.0.1:1")


def test_building_one_touches_nothing(world: World) -> None:
    """A source that is down must not stop the agent from starting; closing lets go of the base."""
    world.server.stop()
    provider = world.provider()
    assert [finding.level for finding in provider.inspect()] == ["ok", "ok"]
    provider.close()
    assert world.base.closed


PROBLEMS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "all is well": ({"external_id": "a=b,c@d:e/f-g", "policy": '{"Version": "1"}', "sts_endpoint": "sts.x.com"}, []),
    "no ARN": ({"role_arn": "app"}, ["role_arn"]),
    "a user's ARN": ({"role_arn": "acs:ram::1:user/app"}, ["role_arn"]),
    "a masked ARN": ({"role_arn": "acs:ram::12****:role/app"}, ["role_arn"]),
    "an ARN with a line break": ({"role_arn": "acs:ram::1:role/app\n"}, ["role_arn"]),
    "a short name": ({"role_session_name": "a"}, ["role_session_name"]),
    "a long name": ({"role_session_name": "a" * 65}, ["role_session_name"]),
    "a name with a slash": ({"role_session_name": "a/b"}, ["role_session_name"]),
    "an empty name": ({"role_session_name": ""}, ["role_session_name"]),
    "a policy that is no JSON": ({"policy": "allow all"}, ["policy"]),
    "a policy that is a list": ({"policy": "[]"}, ["policy"]),
    "an empty policy": ({"policy": "{}"}, ["policy"]),
    "a long policy": ({"policy": '{"a": "' + "x" * 2048 + '"}'}, ["policy"]),
    "a short session": ({"role_session_expiration": Duration(899)}, ["role_session_expiration"]),
    "a long session": ({"role_session_expiration": Duration(12 * 3600 + 1)}, ["role_session_expiration"]),
    "half a second": ({"role_session_expiration": Duration(900.5)}, ["role_session_expiration"]),
    "the longest session": ({"role_session_expiration": Duration(12 * 3600)}, []),
    "a short external id": ({"external_id": "a"}, ["external_id"]),
    "a long external id": ({"external_id": "a" * 1225}, ["external_id"]),
    "an external id with a blank": ({"external_id": "a b"}, ["external_id"]),
    "an URL for an endpoint": ({"sts_endpoint": "https://sts.x.com"}, ["sts_endpoint"]),
    "everything": (
        {"role_arn": "", "policy": "", "external_id": "", "role_session_name": " "},
        ["role_session_name", "policy", "role_arn", "external_id"],
    ),
}


@pytest.mark.parametrize("story", PROBLEMS)
def test_settings_that_cannot_work_are_told_by_key(story: str) -> None:
    """`check` says of each key what STS would refuse, before anything is asked."""
    changes, keys = PROBLEMS[story]
    given = {"type": "ram_role_arn", "role_arn": "acs:ram::1234567890123456:role/app-1.x", "base": "admin", **changes}
    assert complaints(RamRoleArnSettings(**given)) == keys
