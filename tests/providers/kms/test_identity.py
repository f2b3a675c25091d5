"""The other `credentials_type`s of the properties file: who asks KMS, how its session is kept, and what is refused."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl

import pytest

from agent.cloud.transport import Reply, Transport
from agent.core.credential import Credential, Kind
from agent.core.errors import (
    CredentialFileError,
    KeyturnError,
    NotPermittedError,
    SourceRefusedError,
    SourceUnavailableError,
)
from agent.core.finding import Finding
from agent.core.secret import Secret
from agent.core.settings import FilePath
from agent.system.clock import Clock
from providers.emulator import Fault
from providers.kms.failover import NoIdentityError
from providers.kms.properties import SECRET_KEYS
from providers.kms.ram_gateway import Identity

POLICY = ("kms:GetSecretValue",)
OF_A_CLIENT_KEY = ("client_key_private_key_path", "client_key_password_from_file_path")


class Ram:
    """The emulated account with a user, a role that it may assume, and the same role on the instance."""

    def __init__(self, kms: Any) -> None:
        self.kms = kms
        self.cloud = kms.cloud
        self.cloud.add_user("reader", *POLICY, "sts:AssumeRole")
        self.key = self.cloud.add_access_key("reader")
        self.cloud.add_role("worker", *POLICY, trusted=["reader", "ecs"])
        self.cloud.set_instance_role("worker")
        self.cloud.imds_v1 = False

    def lines(self, kind: str, **changes: str | None) -> dict[str, str | None]:
        key = {
            "credentials_access_key_id": self.key.access_key_id,
            "credentials_access_secret": self.key.access_key_secret,
        }
        role = {
            **key,
            "credentials_role_arn": self.cloud.role_arn("worker"),
            "credentials_role_session_name": "vm-1",
        }
        token = {
            "credentials_access_token_id": self.key.access_key_id,
            "credentials_access_token": self.key.access_key_secret,
        }
        of_kind = {
            "ak": key,
            "token": token,
            "ram_role": role,
            "sts": role,
            "ecs_ram_role": {"credentials_role_name": "worker"},
        }
        return {**dict.fromkeys(OF_A_CLIENT_KEY), "credentials_type": kind, **of_kind[kind], **changes}

    def file(self, kind: str, **changes: str | None) -> FilePath:
        path: FilePath = self.kms.properties(**self.lines(kind, **changes))
        return path

    def provider(self, kind: str, **changes: str | None) -> Any:
        return self.kms.provider(properties_file=self.file(kind, **changes))

    def asked(self) -> list[str]:
        return [call.action for call in self.cloud.calls]


@pytest.fixture
def ram(kms: Any) -> Ram:
    """Who may ask."""
    return Ram(kms)


def now() -> datetime:
    return datetime.now(UTC)


TYPES = {
    "ak": ["GetSecretValue"],
    "token": ["GetSecretValue"],
    "ram_role": ["AssumeRole", "GetSecretValue"],
    "sts": ["AssumeRole", "GetSecretValue"],
    "ecs_ram_role": ["MetadataToken", "MetadataCredentials", "GetSecretValue"],
}
"""`credentials_type` -> the calls of a first fetch."""


@pytest.mark.parametrize("kind", TYPES)
def test_each_type_fetches_the_secret(kind: str, ram: Ram) -> None:
    """Id, secret, version and RAM user are those of the secret, not of who asked; no call too many is made."""
    value, key = ram.provider(kind).fetch(now()), ram.cloud.current_key("uploader-ak")
    assert value.kind is Kind.ACCESS_KEY
    assert (value.access_key_id, value.access_key_secret.reveal()) == (key.access_key_id, key.access_key_secret)
    assert value.version_id == ram.cloud.secret("uploader-ak").current.version_id
    assert value.ram_user_name == "uploader"
    assert ram.asked() == TYPES[kind]
    asker = ram.cloud.calls[-1].access_key_id
    assert asker.startswith("STS.") if len(TYPES[kind]) > 1 else asker == ram.key.access_key_id


@pytest.mark.parametrize("kind", TYPES)
def test_each_type_serves_the_emergency_and_other_secrets(kind: str, ram: Ram) -> None:
    """The key before, the secret's name, and the fields of another JSON secret."""
    old = ram.cloud.current_key("uploader-ak").access_key_id
    ram.cloud.rotate("uploader-ak")
    provider = ram.provider(kind)
    assert (provider.fetch_previous().access_key_id, provider.secret_name) == (old, "uploader-ak")
    ram.cloud.add_generic_secret("other", '{"id": "a", "key": "b"}')
    fields = {"access_key_id": "id", "access_key_secret": "key"}
    other = ram.kms.provider(properties_file=ram.file(kind), secret_name="other", fields=fields)
    assert other.fetch(now()).access_key_id == "a"


def test_the_wire_is_the_stock_sdks(ram: Ram, monkeypatch: pytest.MonkeyPatch) -> None:
    """Query and headers are those that alibabacloud-kms20160120 3.3.1 sends for this question: RPC over POST, ACS3."""
    sent: list[tuple[str, dict[str, str]]] = []

    def record(self: Transport, endpoint: str, query: str, *, headers: dict[str, str], **options: Any) -> Reply:
        sent.append((query, headers))
        return Reply(503, {}, b"{}")

    monkeypatch.setattr(Transport, "post", record)
    with pytest.raises(SourceUnavailableError):
        ram.provider("ak").fetch(now())
    ((query, headers),) = sent
    stock = {"SecretName": "uploader-ak", "VersionStage": "ACSCurrent", "FetchExtendedConfig": "True"}
    assert dict(parse_qsl(query)) == stock
    assert (headers["x-acs-action"], headers["x-acs-version"]) == ("GetSecretValue", "2016-01-20")
    assert headers["Authorization"].startswith(f"ACS3-HMAC-SHA256 Credential={ram.key.access_key_id},")


# A file that holds a secret


@pytest.mark.parametrize("kind", ["ak", "token", "ram_role"])
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_file_with_a_secret_must_be_private(kind: str, mode: int, ram: Ram) -> None:
    """What others can read is refused before anything is asked, with the command that mends it."""
    path = ram.file(kind)
    os.chmod(path, mode)
    with pytest.raises(CredentialFileError, match=rf"credentials\.uploader: {path}: its mode {mode:04o}") as caught:
        ram.kms.fetch(properties_file=path)
    assert caught.value.remedy == f"chmod 600 {path}"
    assert [found.level for found in ram.kms.provider(properties_file=path).inspect()] == ["error"]
    assert ram.asked() == []


def test_a_file_without_a_secret_may_be_read_by_all(ram: Ram) -> None:
    """It only names other files or a role; an empty secret is none."""
    for path in (ram.file("ecs_ram_role"), ram.kms.properties(), ram.kms.properties(**dict.fromkeys(SECRET_KEYS, ""))):
        os.chmod(path, 0o644)
        assert ram.kms.fetch(properties_file=path).version_id


def test_a_secret_that_is_not_even_used_is_protected(ram: Ram) -> None:
    """A left-over credentials_access_secret is as good to a thief as one in use."""
    path = ram.kms.properties(credentials_access_secret=ram.key.access_key_secret)
    os.chmod(path, 0o644)
    with pytest.raises(CredentialFileError, match="its mode 0644"):
        ram.kms.fetch(properties_file=path)


def test_a_file_handed_over_by_systemd_is_private_enough(ram: Ram) -> None:
    """LoadCredential shows as 0440 of root in `$CREDENTIALS_DIRECTORY`."""
    path = ram.file("ak")
    os.chmod(path, 0o440)
    ram.kms.environ["CREDENTIALS_DIRECTORY"] = str(ram.kms.directory)
    if os.geteuid() == 0:
        assert ram.kms.fetch(properties_file=path).version_id


def test_a_replaced_key_is_followed(ram: Ram) -> None:
    """The file is read for each fetch: the next one is signed by the new key, also where it assumes a role."""
    for kind, action in (("ak", "GetSecretValue"), ("ram_role", "AssumeRole")):
        provider = ram.provider(kind)
        provider.fetch(now())
        another = ram.cloud.add_access_key("reader")
        ram.file(
            kind,
            credentials_access_key_id=another.access_key_id,
            credentials_access_secret=another.access_key_secret,
        )
        provider.fetch(now())
        assert ram.cloud.calls_of(action)[-1].access_key_id == another.access_key_id
        ram.cloud.delete_access_key(another.access_key_id)


# A session is kept


@pytest.mark.parametrize(("kind", "action"), [("ram_role", "AssumeRole"), ("ecs_ram_role", "MetadataCredentials")])
def test_polls_share_a_session(kind: str, action: str, ram: Ram) -> None:
    """Five polls cost one session and five reads."""
    provider = ram.provider(kind)
    for _ in range(5):
        provider.fetch(now())
    assert (len(ram.cloud.calls_of(action)), len(ram.cloud.calls_of("GetSecretValue"))) == (1, 5)


def test_regions_share_a_session(ram: Ram) -> None:
    """A busy region is passed over without a second AssumeRole."""
    two = json.dumps([{"regionId": "cn-x", "endpoint": ram.kms.endpoint}] * 2)
    ram.cloud.fail_next(503, action="GetSecretValue")
    assert ram.provider("ram_role", cache_client_region_id=two).fetch(now()).version_id
    assert ram.asked() == ["AssumeRole", "GetSecretValue", "GetSecretValue"]


REFUSALS = {
    "InvalidSecurityToken.Expired": 400,
    "InvalidAccessKeyId.NotFound": 404,
    "InvalidAccessKeyId.Inactive": 403,
    "Forbidden.NoPermission": 403,
}


@pytest.mark.parametrize("code", REFUSALS)
@pytest.mark.parametrize(("kind", "action"), [("ram_role", "AssumeRole"), ("ecs_ram_role", "MetadataCredentials")])
def test_a_kept_session_that_kms_refuses_is_replaced_at_once(kind: str, action: str, code: str, ram: Ram) -> None:
    """The fetch succeeds with a new session, and later ones go on with that."""
    provider = ram.provider(kind)
    provider.fetch(now())
    ram.cloud.rotate_instance_session()
    ram.cloud.fail_next(REFUSALS[code], code, action="GetSecretValue")
    assert provider.fetch(now()).version_id
    assert provider.fetch(now()).version_id
    assert len(ram.cloud.calls_of(action)) == 2
    assert len({call.access_key_id for call in ram.cloud.calls_of("GetSecretValue")}) == 2


def test_a_new_session_that_kms_refuses_is_not_tried_twice(ram: Ram) -> None:
    """Another one would fare no better; the next poll starts afresh."""
    provider = ram.provider("ram_role")
    ram.cloud.fail_next(400, "InvalidSecurityToken.Expired", action="GetSecretValue")
    with pytest.raises(SourceRefusedError, match="InvalidSecurityToken"):
        provider.fetch(now())
    assert ram.asked() == ["AssumeRole", "GetSecretValue"]
    assert provider.fetch(now()).version_id
    assert len(ram.cloud.calls_of("AssumeRole")) == 2


def test_a_refusal_of_the_question_keeps_the_session(ram: Ram) -> None:
    """No such secret: that says nothing of who asked."""
    provider = ram.provider("ram_role")
    provider.fetch(now())
    ram.cloud.fail_next(404, "Forbidden.ResourceNotFound", action="GetSecretValue")
    with pytest.raises(SourceRefusedError):
        provider.fetch(now())
    provider.fetch(now())
    assert len(ram.cloud.calls_of("AssumeRole")) == 1


def test_a_refused_accesskey_is_told_and_not_tried_again(ram: Ram) -> None:
    """There is no other one to try."""
    provider = ram.provider("ak")
    ram.cloud.delete_access_key(ram.key.access_key_id)
    with pytest.raises(SourceRefusedError, match=r"credentials\.uploader: .*InvalidAccessKeyId\.NotFound"):
        provider.fetch(now())
    assert ram.asked() == ["GetSecretValue"]


class FakeBase:
    """Hands out sessions of a life in seconds; None: it is down; 0: a long-term key."""

    def __init__(self, clock: FakeClock) -> None:
        self.life_s: float | None = 900.0
        self.made = 0
        self.closed = False
        self._clock = clock

    def newest(self, timeout_s: float) -> Credential:
        if self.life_s is None:
            raise SourceRefusedError("the base is down")
        self.made += 1
        ends = self._clock.now() + timedelta(seconds=self.life_s) if self.life_s else None
        return Credential(access_key_id=f"STS.{self.made}", access_key_secret=Secret("s"), expiration=ends)

    def inspect(self) -> Iterator[Finding]:
        return iter(())

    def close(self) -> None:
        self.closed = True


class FakeClock(Clock):
    """Goes only when told to; the wall clock can be stepped away from it."""

    def __init__(self) -> None:
        self.passed_s = 1000.0
        self.stepped_s = 0.0

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.passed_s + self.stepped_s)

    def boottime(self) -> float:
        return self.passed_s


class Keeping:
    """An identity on a fake base."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.base = FakeBase(self.clock)
        self.identity = Identity(self.base, self.clock)

    def asks_after(self, seconds: float) -> str:
        self.clock.passed_s += seconds
        return self.identity.newest(1.0).access_key_id


@pytest.fixture
def keeping() -> Keeping:
    return Keeping()


def test_a_session_serves_until_two_thirds_of_its_life(keeping: Keeping) -> None:
    """900 s: the one of the start until 600 s, then a new one."""
    assert [keeping.asks_after(s) for s in (0, 300, 299, 2, 598)] == ["STS.1", "STS.1", "STS.1", "STS.2", "STS.2"]


def test_a_session_that_is_not_renewed_serves_on_while_it_lives(
    keeping: Keeping, caplog: pytest.LogCaptureFixture
) -> None:
    """Behind two thirds a base that fails is a warning; behind the end it is an error; when it is back, it is asked."""
    caplog.set_level(logging.WARNING)
    keeping.asks_after(0)
    keeping.base.life_s = None
    assert keeping.asks_after(601) == "STS.1"
    assert "the base is down" in caplog.text
    with pytest.raises(NoIdentityError):
        keeping.asks_after(300)
    keeping.base.life_s = 900.0
    assert keeping.asks_after(0) == "STS.2"


def test_a_stepped_wall_clock_neither_storms_nor_holds_on(keeping: Keeping) -> None:
    """An hour back: renewed at two thirds all the same. An hour ahead: one renewal, not one for each poll."""
    keeping.asks_after(0)
    keeping.clock.stepped_s = -3600.0
    assert [keeping.asks_after(s) for s in (300, 301)] == ["STS.1", "STS.2"]
    keeping.clock.stepped_s = 3600.0
    assert [keeping.asks_after(s) for s in (1, 60, 60)] == ["STS.3", "STS.3", "STS.3"]


def test_a_long_term_key_is_not_kept(keeping: Keeping) -> None:
    """The base is asked each time, so that a replaced key is found."""
    keeping.base.life_s = 0.0
    assert [keeping.asks_after(1), keeping.asks_after(1)] == ["STS.1", "STS.2"]


def test_a_refused_session_is_forgotten_only_if_it_is_the_one_that_is_kept(keeping: Keeping) -> None:
    """A thread that comes late with an old refusal does not throw a new session away."""
    old = keeping.identity.newest(1.0)
    keeping.asks_after(601)
    assert keeping.identity.after_refusal(old, 1.0) is None
    assert keeping.asks_after(1) == "STS.2"


def test_closing_forgets_the_session_and_closes_the_base(ram: Ram, keeping: Keeping) -> None:
    """Nothing lives on behind a provider that was closed, and it may still be asked."""
    keeping.asks_after(0)
    keeping.identity.close()
    assert (keeping.base.closed, keeping.asks_after(0)) == (True, "STS.2")
    provider = ram.provider("ram_role")
    provider.fetch(now())
    provider.close()
    provider.close()
    assert provider.fetch(now()).version_id
    assert len(ram.cloud.calls_of("AssumeRole")) == 2


# What goes wrong


def test_a_base_that_fails_is_told_once(ram: Ram) -> None:
    """Two regions need the same session: STS is asked once, and its answer is the error, with the credential once."""
    two = json.dumps([{"regionId": "cn-x", "endpoint": ram.kms.endpoint}] * 2)
    ram.cloud.fail_next(503, action="AssumeRole", times=5)
    with pytest.raises(SourceUnavailableError) as caught:
        ram.provider("ram_role", cache_client_region_id=two).fetch(now())
    assert caught.value.problem.startswith("credentials.uploader: AssumeRole: ")
    assert caught.value.problem.count("credentials.") == 1
    assert ram.asked() == ["AssumeRole"]


def test_a_role_that_may_not_be_assumed_is_a_question_of_rights(ram: Ram) -> None:
    """The exit code is that of the base's error."""
    ram.cloud.add_role("worker", *POLICY, trusted=["somebody"])
    with pytest.raises(NotPermittedError, match=r"credentials\.uploader: AssumeRole: .*assume the role"):
        ram.provider("ram_role").fetch(now())


def test_an_instance_without_a_role_is_told(ram: Ram) -> None:
    """The metadata service's own error, under the credential's name."""
    ram.cloud.set_instance_role(None)
    with pytest.raises(SourceRefusedError, match=r"^credentials\.uploader: (?!credentials)") as caught:
        ram.provider("ecs_ram_role").fetch(now())
    assert caught.value.remedy


def test_instances_come_before_the_role_is_assumed(ram: Ram) -> None:
    """While a dedicated instance answers, STS is not needed; when both fail, the error tells of both."""
    entry = {"regionId": "cn-x", "endpoint": ram.kms.endpoint, "clientKeyFile": str(ram.kms.key_file)}
    entry |= {"passwordFromFilePath": str(ram.kms.password_file)}
    provider = ram.provider("ram_role", cache_client_dkms_config_info=json.dumps([entry]))
    provider.fetch(now())
    assert ram.asked() == ["dkms:GetSecretValue"]
    ram.cloud.fail_next(503, action="dkms:GetSecretValue")
    ram.cloud.fail_next(503, action="AssumeRole")
    with pytest.raises(SourceUnavailableError, match=r"no region answered: .*; AssumeRole: "):
        provider.fetch(now())
    ram.cloud.fail_next(503, action="dkms:GetSecretValue")
    assert provider.fetch(now()).version_id


def test_a_hanging_sts_holds_up_nobody(ram: Ram) -> None:
    """The whole fetch ends within its time."""
    ram.cloud.inject(Fault.HANG, action="AssumeRole")
    began = time.monotonic()
    with pytest.raises(SourceUnavailableError):
        ram.provider("ram_role").fetch(now(), 1.0)
    assert time.monotonic() - began < 15.0


IMPOSSIBLE: dict[str, tuple[str, dict[str, str | None], str]] = {
    "no id": ("ak", {"credentials_access_key_id": None}, "credentials_access_key_id is missing"),
    "no secret": ("ak", {"credentials_access_secret": ""}, "credentials_access_secret is missing"),
    "a blank in the id": ("ak", {"credentials_access_key_id": "LT AI"}, "credentials_access_key_id has a blank"),
    "a blank in the secret": ("ak", {"credentials_access_secret": "Can ary"}, "credentials_access_secret has a blank"),
    "a secret beyond ASCII": (
        "ak",
        {"credentials_access_secret": "Canäry"},
        "credentials_access_secret has a blank or",
    ),
    "no token": ("token", {"credentials_access_token": None}, "credentials_access_token is missing"),
    "no id of a token": ("token", {"credentials_access_token_id": None}, "credentials_access_token_id is missing"),
    "no role": ("ram_role", {"credentials_role_arn": None}, "credentials_role_arn is missing"),
    "no session name": ("sts", {"credentials_role_session_name": None}, "credentials_role_session_name is missing"),
    "no key for a role": ("sts", {"credentials_access_secret": None}, "credentials_access_secret is missing"),
    "a role that is none": ("ram_role", {"credentials_role_arn": "worker"}, "credentials_role_arn: want the ARN"),
    "an impossible session": ("sts", {"credentials_role_session_name": "a b"}, "credentials_role_session_name: want"),
    "no instance role": ("ecs_ram_role", {"credentials_role_name": None}, "credentials_role_name is missing"),
    "an impossible role": ("ecs_ram_role", {"credentials_role_name": "../x"}, "credentials_role_name: want the name"),
    "no region": ("ak", {"cache_client_region_id": None}, "cache_client_region_id is missing"),
}


@pytest.mark.parametrize("story", IMPOSSIBLE)
def test_what_is_missing_or_impossible_is_told_by_file_and_key(story: str, ram: Ram) -> None:
    """One sentence, a remedy, no value quoted, nothing asked; `check --offline` says the same."""
    kind, changes, words = IMPOSSIBLE[story]
    path = ram.file(kind, **changes)
    provider = ram.kms.provider(properties_file=path)
    with pytest.raises(CredentialFileError) as caught:
        provider.fetch(now())
    assert f"credentials.uploader: {path}: {words}" in caught.value.problem
    assert caught.value.remedy
    assert "Can" not in str(caught.value)
    assert [finding.level for finding in provider.inspect()] == ["error"]
    assert ram.asked() == []


@pytest.mark.parametrize("kind", TYPES)
def test_check_says_who_asks(kind: str, ram: Ram) -> None:
    """A ready machine has nothing to complain of, and no network is used."""
    findings = list(ram.provider(kind).inspect())
    assert findings
    assert {finding.level for finding in findings} == {"ok"}
    assert {finding.place for finding in findings} == {"credentials.uploader.provider"}
    assert ram.key.access_key_secret not in str(findings)
    assert ram.asked() == []


def test_check_warns_of_keys_without_effect(ram: Ram) -> None:
    """What belongs to another type contradicts this one; it is ignored, as the official client does, but not silently."""
    provider = ram.provider("ak", credentials_role_name="worker", client_key_private_key_path="/x")
    *warnings, last = provider.inspect()
    assert [finding.level for finding in (*warnings, last)] == ["warning", "warning", "ok"]
    assert "client_key_private_key_path is ignored: it means nothing to credentials_type=ak" in warnings[0].text
    assert "credentials_role_name is ignored" in warnings[1].text
    assert provider.fetch(now()).version_id


def test_nothing_secret_is_ever_said(
    ram: Ram, shown: Callable[[BaseException], str], caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """AccessKey, session and fetched secret are in no error, no repr, no record at DEBUG, no output."""
    for name in list(logging.root.manager.loggerDict):
        logging.getLogger(name).setLevel(logging.DEBUG)
    caplog.set_level(logging.DEBUG)
    said = ""
    for kind in TYPES:
        provider = ram.provider(kind)
        said += repr(provider.fetch(now())) + repr(provider) + repr(provider._made)
        for fault in (Fault.RUBBISH, Fault.RESET, Fault.WRONG_SHAPE):
            # A reset of the connection that the fetch above has left is excused once, of the new one it is a failure.
            ram.cloud.inject(fault, action="GetSecretValue", times=2 if fault is Fault.RESET else 1)
            with pytest.raises(KeyturnError) as caught:
                provider.fetch(now())
            said += shown(caught.value)
    printed = capfd.readouterr()
    said += caplog.text + printed.out + printed.err
    session = ram.cloud.instance_session()
    held = ram.cloud.current_key("uploader-ak").access_key_secret
    assert "credentials.uploader" in said
    for canary in (ram.key.access_key_secret, held, session.access_key_secret, session.security_token, "Signature="):
        assert canary not in said
