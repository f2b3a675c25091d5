"""The role of an ECS instance, from the emulated metadata server: both modes, refusals, faults, and silence."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from agent.cloud.transport import Transport
from agent.core.credential import Credential
from agent.core.errors import BadAnswerError, KeyturnError, NotPermittedError, SourceRefusedError
from agent.core.errors import SourceUnavailableError as Unavailable
from agent.core.provider import ProviderContext
from agent.core.secret import Secret
from agent.system.clock import Clock
from providers.ecs_ram_role import ROLE_PATH, EcsRamRole, EcsRamRoleSettings, Metadata
from providers.emulator import Cloud, Fault, MetadataServer


class Instance:
    """An emulated instance with the role `worker`, in hardened mode only."""

    def __init__(self) -> None:
        self.cloud = Cloud()
        self.cloud.imds_v1 = False
        self.cloud.add_role("worker", trusted=["ecs"])
        self.cloud.set_instance_role("worker")
        self.server = MetadataServer(self.cloud)

    def provider(self, environ: dict[str, str] | None = None, **changes: Any) -> EcsRamRole:
        settings = EcsRamRoleSettings(**{"type": "ecs_ram_role", "metadata_endpoint": self.server.url, **changes})
        assert list(settings.problems()) == []
        return EcsRamRole(settings, ProviderContext("worker", environ=environ or {}))

    def fetch(self, timeout_s: float = 10.0, **changes: Any) -> Credential:
        return self.provider(**changes).fetch(datetime.now(UTC), timeout_s)

    def asked(self) -> list[str]:
        return [call.action for call in self.cloud.calls]


@pytest.fixture
def instance() -> Iterator[Instance]:
    """A running metadata server."""
    made = Instance()
    with made.server:
        yield made


def text(secret: Secret | None) -> str:
    assert secret is not None
    return secret.reveal()


def test_a_session_of_the_instances_role(instance: Instance) -> None:
    """Id, secret, token and end are those that the metadata server hands out; the role is asked of it."""
    found, handed_out = instance.fetch(), instance.cloud.instance_session()
    assert (found.access_key_id, text(found.access_key_secret), text(found.security_token)) == (
        handed_out.access_key_id, handed_out.access_key_secret, handed_out.security_token
    )  # fmt: skip
    assert found.expiration == datetime.fromtimestamp(int(handed_out.expires_at), UTC)
    assert instance.asked() == ["MetadataToken", "MetadataRoleName", "MetadataCredentials"]


def test_a_token_is_used_again(instance: Instance) -> None:
    """The second fetch asks for no new token, and finds the new session."""
    provider = instance.provider()
    first = provider.fetch(datetime.now(UTC))
    instance.cloud.rotate_instance_session()
    assert provider.fetch(datetime.now(UTC)).access_key_id != first.access_key_id
    assert instance.asked().count("MetadataToken") == 1


def test_a_refused_token_is_replaced(instance: Instance) -> None:
    """A kept token that the server does not know any more costs one call and no failure."""
    provider = instance.provider(role_name="worker")
    provider.fetch(datetime.now(UTC))
    instance.cloud._metadata_tokens.clear()
    provider.fetch(datetime.now(UTC))
    assert instance.asked().count("MetadataToken") == 2


def test_a_new_token_that_is_refused_is_told(instance: Instance) -> None:
    """Where even a new token does not help, it ends after one try, as a refusal."""
    instance.cloud.fail_next(403, times=5, action="MetadataCredentials")
    with pytest.raises(NotPermittedError, match="HTTP 403"):
        instance.fetch(role_name="worker")
    assert instance.asked() == ["MetadataToken", "MetadataCredentials"]


class Hands(Clock):
    """A clock whose time since boot is set by hand."""

    at_s = 1000.0

    def boottime(self) -> float:
        return self.at_s


def test_a_token_is_given_up_before_it_dies(instance: Instance) -> None:
    """Up to a minute before its six hours are over a token is used; suspend counts, as the clock is boottime."""
    clock = Hands()
    metadata = Metadata(Transport(proxies=False), instance.server.url, hardened=True, clock=clock)
    for passed_s, tokens in ((0.0, 1), (21539.0, 1), (21541.0, 2)):
        clock.at_s = 1000.0 + passed_s
        assert metadata.get(ROLE_PATH, time.monotonic() + 10).status == 200
        assert instance.asked().count("MetadataToken") == tokens


def test_the_old_mode_asks_for_no_token(instance: Instance) -> None:
    """`imds_v1 = true` sends no PUT at all; a server in hardened mode then refuses, and the remedy says so."""
    with pytest.raises(NotPermittedError, match=r"credentials\.worker: .*403") as caught:
        instance.fetch(imds_v1=True)
    assert "imds_v1" in caught.value.remedy
    instance.cloud.imds_v1 = True
    instance.fetch(imds_v1=True)
    assert "MetadataToken" not in instance.asked()


@pytest.mark.parametrize("status", [400, 403, 404, 405])
def test_there_is_no_fallback_to_the_old_mode(instance: Instance, status: int) -> None:
    """A server that answers without tokens is not asked without one, even where it refuses to give tokens."""
    instance.cloud.imds_v1 = True
    instance.cloud.fail_next(status, action="MetadataToken")
    with pytest.raises(KeyturnError, match=f"asked for a token.*{status}") as caught:
        instance.fetch()
    assert not caught.value.retryable
    assert "imds_v1 = true" in caught.value.remedy
    assert instance.asked() == ["MetadataToken"]


def test_another_role_is_found(instance: Instance) -> None:
    """The role may be replaced while keyturn runs."""
    provider = instance.provider()
    provider.fetch(datetime.now(UTC))
    instance.cloud.add_role("other", trusted=["ecs"])
    instance.cloud.set_instance_role("other")
    found = provider.fetch(datetime.now(UTC))
    assert found.access_key_id == instance.cloud.instance_session().access_key_id


def test_an_instance_without_a_role(instance: Instance) -> None:
    """404 means that no role is attached, and the remedy is to attach one."""
    instance.cloud.set_instance_role(None)
    with pytest.raises(SourceRefusedError, match=r"credentials\.worker: no RAM role is attached") as caught:
        instance.fetch()
    assert "attach" in caught.value.remedy


def test_a_role_that_the_instance_does_not_carry(instance: Instance) -> None:
    """A wrong `role_name` is named."""
    with pytest.raises(SourceRefusedError, match=r"no role elsewhere for this instance") as caught:
        instance.fetch(role_name="elsewhere")
    assert "role_name" in caught.value.remedy


@pytest.mark.parametrize(
    "answer", [b"../../user-data", b"..", b"a\nb", b"a b", b"x" * 65, b"r\xc3\xb6le", b"a/b", b"a?b"]
)
def test_a_role_name_that_would_be_another_path_is_refused(instance: Instance, answer: bytes) -> None:
    """What the server calls a role goes into a URL: anything but a role's name ends there."""
    instance.cloud.inject(Fault.WRONG_SHAPE, body=answer, action="MetadataRoleName")
    with pytest.raises(BadAnswerError, match="no role's name"):
        instance.fetch()
    assert "MetadataCredentials" not in instance.asked()


def test_an_empty_list_of_roles(instance: Instance) -> None:
    """An empty answer means no role too."""
    instance.cloud.inject(Fault.EMPTY, action="MetadataRoleName")
    with pytest.raises(SourceRefusedError, match="no RAM role"):
        instance.fetch()


SESSION = {
    "AccessKeyId": '"STS.x"', "AccessKeySecret": '"CanarySecret"', "SecurityToken": '"CanaryToken"',
    "Expiration": '"2099-01-01T00:00:00Z"', "Code": '"Success"',
}  # fmt: skip


def session(**changes: str | None) -> bytes:
    return ("{" + ",".join(f'"{k}":{v}' for k, v in {**SESSION, **changes}.items() if v is not None) + "}").encode()


BAD_ANSWERS = {
    "no id": (session(AccessKeyId=None), BadAnswerError, "no AccessKeyId"),
    "an empty secret": (session(AccessKeySecret='""'), BadAnswerError, "no AccessKeySecret"),
    "a secret that is a number": (session(AccessKeySecret="42"), BadAnswerError, "AccessKeySecret that is not a text"),
    "no token": (session(SecurityToken=None), BadAnswerError, "no SecurityToken"),
    "no end": (session(Expiration=None), BadAnswerError, "no Expiration"),
    "an end that is no time": (session(Expiration='"tomorrow"'), BadAnswerError, "Expiration that is not a time"),
    "an end without a zone": (session(Expiration='"2099-01-01T00:00:00"'), BadAnswerError, "Expiration that is not"),
    "an end beyond time": (session(Expiration='"9999-12-31T23:59:59-23:59"'), BadAnswerError, "Expiration that is not"),
    "an end that is over": (session(Expiration='"2001-01-01T00:00:00Z"'), BadAnswerError, "already expired"),
    "no code": (session(Code=None), BadAnswerError, "no Code"),
    "a code that is a sentence": (session(Code='"CanaryToken is bad"'), BadAnswerError, "no Code"),
    "another code": (session(Code='"Failed"'), SourceRefusedError, "refuses: Failed"),
    "a list": (b'["CanarySecret"]', BadAnswerError, "not a JSON object"),
    "no JSON": (b"CanarySecret", BadAnswerError, "not a JSON object"),
    "deep JSON": (b"[" * 100_000, BadAnswerError, "not a JSON object"),
    "nothing": (b"", BadAnswerError, "not a JSON object"),
    "a token with a line break": (session(SecurityToken='"Canary\\nToken"'), BadAnswerError, "control character"),
}


@pytest.mark.parametrize("story", BAD_ANSWERS)
def test_an_answer_that_is_no_session_is_refused(
    instance: Instance, story: str, shown: Callable[[BaseException], str]
) -> None:
    """What is wrong is named; nothing of what was answered is shown."""
    body, kind, words = BAD_ANSWERS[story]
    instance.cloud.inject(Fault.WRONG_SHAPE, body=body, action="MetadataCredentials")
    with pytest.raises(kind, match=words) as caught:
        instance.fetch()
    assert "Canary" not in shown(caught.value)
    assert str(caught.value).startswith("credentials.worker: ")


TROUBLE = {
    "hang": (Fault.HANG, Unavailable),
    "reset": (Fault.RESET, Unavailable),
    "lost": (Fault.LOSE_REPLY, Unavailable),
    "dripping": (Fault.DRIP, Unavailable),
    "oversized": (Fault.OVERSIZED, BadAnswerError),
    "redirect": (Fault.REDIRECT, BadAnswerError),
    "rubbish": (Fault.RUBBISH, BadAnswerError),
}


@pytest.mark.parametrize("action", ["MetadataToken", "MetadataRoleName", "MetadataCredentials"])
@pytest.mark.parametrize("story", TROUBLE)
def test_whatever_goes_wrong_ends_in_time(
    instance: Instance, story: str, action: str, shown: Callable[[BaseException], str]
) -> None:
    """Each fault of each call ends within the fetch's time, as an error that is tried again."""
    fault, kind = TROUBLE[story]
    instance.cloud.inject(fault, times=3, action=action)
    began = time.monotonic()
    with pytest.raises(kind) as caught:
        instance.fetch(timeout_s=1.0 if fault in (Fault.HANG, Fault.DRIP) else 20.0)
    assert time.monotonic() - began < 15.0
    assert caught.value.retryable
    assert "STS." not in shown(caught.value)


def test_a_busy_server_is_tried_again(instance: Instance) -> None:
    """5xx and 429 are temporary."""
    for status in (429, 500, 503):
        instance.cloud.fail_next(status, action="MetadataCredentials")
        with pytest.raises(Unavailable, match=str(status)):
            instance.fetch()


def test_a_machine_that_is_no_instance(instance: Instance) -> None:
    """Nobody answers: temporary, since a booting instance looks alike, and the remedy speaks of ECS."""
    with pytest.raises(Unavailable, match=r"credentials\.worker: the metadata server: 127\.0\.0\.1:9") as caught:
        instance.fetch(metadata_endpoint="http://127.0.0.1:9")
    assert "ECS" in caught.value.remedy


def test_no_proxy_ever(instance: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxies of the environment are not for the metadata server."""
    for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "")
    instance.fetch()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("role_name", ""), ("role_name", ".."), ("role_name", "a/b"), ("role_name", "a\n"), ("role_name", "x" * 65),
        ("metadata_endpoint", "http://metadata.example"), ("metadata_endpoint", "http://10.0.0.1"),
        ("metadata_endpoint", "100.100.100.200"), ("metadata_endpoint", "http://100.100.100.200/latest"),
        ("metadata_endpoint", "http://u:p@100.100.100.200"), ("metadata_endpoint", "http://100.100.100.200?x=y"),
        ("metadata_endpoint", "ftp://100.100.100.200"), ("metadata_endpoint", "http://100.100.100.200:99999"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be(key: str, value: str) -> None:
    """What is no role's name or no address of this machine is a problem of the config, under its key."""
    settings = EcsRamRoleSettings(**{"type": "ecs_ram_role", key: value})  # type: ignore[arg-type]
    assert [found for found, _ in settings.problems()] == [key]


@pytest.mark.parametrize("endpoint", ["http://100.100.100.200", "http://127.0.0.1:80/", "https://imds.example"])
def test_endpoints_that_can_be(endpoint: str) -> None:
    """The default, a loopback address, and https anywhere."""
    assert list(EcsRamRoleSettings(type="ecs_ram_role", metadata_endpoint=endpoint).problems()) == []


def test_check_says_where_it_asks_and_what_contradicts(instance: Instance) -> None:
    """`check --offline` names the server, and warns where the environment switches metadata off for the SDKs."""
    assert [finding.level for finding in instance.provider().inspect()] == ["ok"]
    findings = list(instance.provider({"ALIBABA_CLOUD_ECS_METADATA_DISABLED": "true"}).inspect())
    assert [finding.level for finding in findings] == ["ok", "warning"]
    assert instance.asked() == []
