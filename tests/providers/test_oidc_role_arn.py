"""Sessions of a role for an OIDC token in a file, against the emulated STS; test_sts_judge.py compares with the SDK."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest

from agent.cloud.transport import UntrustedServerError
from agent.core.credential import Credential, Kind
from agent.core.errors import BadAnswerError, CredentialFileError, KeyturnError, NotPermittedError, SourceRefusedError
from agent.core.settings import Duration, FilePath
from providers.oidc_role_arn import OidcRoleArn, OidcRoleArnSettings
from tests.support.sts import (
    StsWorld,
    complaints,
    gives_no_session,
    lives_for,
    no_trust,
    record_posts,
)


class World(StsWorld):
    """With an OIDC provider that role `app` trusts, a token of it on disk, and the provider under test."""

    def __init__(self, directory: Path, certificate: Any = "good") -> None:
        super().__init__(directory, certificate)
        self.provider_arn = self.cloud.add_oidc_provider("ack")
        self.cloud.add_role("app", trusted=("oidc:ack",))
        self.token_file = directory / "token"
        self.token_file.touch(mode=0o600)
        self.renew()

    def renew(self, token: str | None = None) -> str:
        token = self.cloud.oidc_token("ack") if token is None else token
        self.token_file.write_text(token)
        return token

    def settings(self, **changes: Any) -> OidcRoleArnSettings:
        given = {
            "type": "oidc_role_arn",
            "role_arn": self.role_arn,
            "oidc_provider_arn": self.provider_arn,
            "oidc_token_file_path": FilePath(self.token_file),
        }
        return OidcRoleArnSettings(**{**given, **changes})

    def provider(self, **changes: Any) -> OidcRoleArn:
        return OidcRoleArn(self.settings(**changes), self.context())

    def get(self, timeout_s: float = 10.0, **changes: Any) -> Credential:
        return self.fetch(self.provider(**changes), timeout_s)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A running emulator, reached directly."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    made = World(tmp_path)
    with made.server:
        yield made


def test_a_session_is_fetched_for_the_token_by_one_call(world: World) -> None:
    """No key is needed; the session ends when asked."""
    value = world.get(role_session_expiration=Duration(1800))
    assert value.kind is Kind.STS
    assert lives_for(value, 1800)
    assert [(call.action, call.access_key_id) for call in world.cloud.calls] == [("AssumeRoleWithOIDC", "")]


def test_the_token_is_read_for_each_fetch(world: World) -> None:
    """A renewed token is used at once, also where the file is a link that was turned, as Kubernetes does it."""
    first, second = world.directory / "..1", world.directory / "..2"
    first.write_text(world.cloud.oidc_token("ack", life_s=-1))
    second.write_text(world.cloud.oidc_token("ack") + "\n")
    for each in (first, second):
        each.chmod(0o644)
    link, turned = world.directory / "..data", world.directory / "..data_tmp"
    link.symlink_to(first)
    provider = world.provider(oidc_token_file_path=FilePath(link))
    with pytest.raises(SourceRefusedError, match="has expired") as caught:
        world.fetch(provider)
    assert caught.value.code == "AuthenticationFail.OIDCToken.Expired"
    turned.symlink_to(second)
    os.replace(turned, link)
    assert world.fetch(provider).security_token


def test_the_variables_serve_for_what_is_not_configured(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pod of ACK needs no settings at all; what is configured goes before the variable."""
    world.environ |= {
        "ALIBABA_CLOUD_ROLE_ARN": world.role_arn,
        "ALIBABA_CLOUD_OIDC_PROVIDER_ARN": world.provider_arn,
        "ALIBABA_CLOUD_OIDC_TOKEN_FILE": str(world.token_file),
        "ALIBABA_CLOUD_ROLE_SESSION_NAME": "from-the-pod",
    }
    bare = {"role_arn": None, "oidc_provider_arn": None, "oidc_token_file_path": None}
    sent = record_posts(monkeypatch)
    assert world.get(**bare).security_token
    assert world.get(**bare, role_session_name="configured").security_token
    assert [dict(parse_qsl(body))["RoleSessionName"] for _, _, body in sent] == ["from-the-pod", "configured"]
    with pytest.raises(SourceRefusedError, match="no such role"):
        world.get(role_arn=world.cloud.role_arn("nobody"))


MISSING = {
    "role_arn": "ALIBABA_CLOUD_ROLE_ARN",
    "oidc_provider_arn": "ALIBABA_CLOUD_OIDC_PROVIDER_ARN",
    "oidc_token_file_path": "ALIBABA_CLOUD_OIDC_TOKEN_FILE",
}


@pytest.mark.parametrize("key", MISSING)
def test_what_is_said_nowhere_is_named_with_its_variable(world: World, key: str) -> None:
    """The fetch and `check` name the key and the variable; STS is not asked."""
    with pytest.raises(CredentialFileError, match=rf"^credentials\.app: {key} is not set.*{MISSING[key]}") as caught:
        world.get(**{key: None})
    assert MISSING[key] in caught.value.remedy
    findings = {finding.place: finding.level for finding in world.provider(**{key: None}).inspect()}
    assert findings[f"credentials.app.provider.{key}"] == "error"
    assert sorted(findings.values()) == ["error", "ok", "ok"]
    assert world.cloud.calls == []


@pytest.mark.parametrize(
    ("variable", "value", "key"),
    [
        ("ALIBABA_CLOUD_ROLE_ARN", "app", "role_arn"),
        ("ALIBABA_CLOUD_OIDC_PROVIDER_ARN", "ack", "oidc_provider_arn"),
        ("ALIBABA_CLOUD_OIDC_TOKEN_FILE", "token", "oidc_token_file_path"),
        ("ALIBABA_CLOUD_ROLE_SESSION_NAME", "a b", "role_session_name"),
    ],
)
def test_a_variable_with_rubbish_is_named(world: World, variable: str, value: str, key: str) -> None:
    """What the config would refuse is refused of a variable too, by the variable's name."""
    world.environ[variable] = value
    with pytest.raises(CredentialFileError, match=rf"^credentials\.app: the environment variable {variable}: want "):
        world.get(**{key: None})
    findings = list(world.provider(**{key: None}).inspect())
    assert [finding.place for finding in findings if finding.level == "error"] == [f"credentials.app.provider.{key}"]


FILES: dict[str, tuple[Callable[[Path], object], type[KeyturnError], str]] = {
    "missing": (Path.unlink, CredentialFileError, "missing"),
    "empty": (lambda path: path.write_text("\n"), CredentialFileError, "empty"),
    "too short": (lambda path: path.write_text("abc"), CredentialFileError, "holds no OIDC token"),
    "too long": (lambda path: path.write_text("Canary" * 4000), CredentialFileError, "holds no OIDC token"),
    "far too long": (lambda path: path.write_text("Canary" * 40_000), CredentialFileError, "larger than"),
    "two lines": (lambda path: path.write_text("Canary\nCanary"), CredentialFileError, "holds no OIDC token"),
    "a blank": (lambda path: path.write_text("Canary x"), CredentialFileError, "holds no OIDC token"),
    "an accent": (lambda path: path.write_text("Canaryé"), CredentialFileError, "holds no OIDC token"),
    "binary": (lambda path: path.write_bytes(b"Canary\xff"), CredentialFileError, "not UTF-8"),
    "a directory": (lambda path: (path.unlink(), path.mkdir()), CredentialFileError, "not a regular file"),
    "a group may write it": (lambda path: path.chmod(0o660), CredentialFileError, "0660"),
    "all may write it": (lambda path: path.chmod(0o606), CredentialFileError, "0606"),
}


@pytest.mark.parametrize("story", FILES)
def test_a_token_file_that_cannot_be_used_is_named(
    world: World, story: str, shown: Callable[[BaseException], str]
) -> None:
    """It says who we are: others must not write it. The error names it and shows nothing of it; STS is not asked."""
    spoil, kind, words = FILES[story]
    spoil(world.token_file)
    with pytest.raises(kind, match=rf"^credentials\.app: {world.token_file}.*{words}") as caught:
        world.get()
    assert caught.value.remedy
    assert "Canary" not in shown(caught.value)
    (finding,) = [each for each in world.provider().inspect() if each.level == "error"]
    assert words in finding.text
    assert "Canary" not in finding.text + finding.remedy
    assert world.cloud.calls == []


@pytest.mark.parametrize(("mode", "level"), [(0o600, "ok"), (0o640, "warning"), (0o644, "warning"), (0o604, "warning")])
def test_a_token_that_others_can_read_is_warned_of(world: World, mode: int, level: str) -> None:
    """Kubernetes projects tokens readable by all, so it is used; but `check` says so."""
    world.token_file.chmod(mode)
    assert [finding.level for finding in world.provider().inspect()] == ["ok", "ok", level]
    assert world.get().security_token


REFUSED: dict[str, tuple[Callable[[World], object], type[KeyturnError], str]] = {
    "expired": (
        lambda world: world.renew(world.cloud.oidc_token("ack", life_s=-1)),
        SourceRefusedError,
        "AuthenticationFail.OIDCToken.Expired",
    ),
    "forged": (
        lambda world: world.renew(world.token_file.read_text()[:-6] + "AAAAAA"),
        SourceRefusedError,
        "AuthenticationFail.OIDCToken.InvalidSignature",
    ),
    "no JWT": (lambda world: world.renew("abcdef"), SourceRefusedError, "AuthenticationFail.OIDCToken.Invalid"),
    "of another provider": (
        lambda world: (world.cloud.add_oidc_provider("x"), world.renew(world.cloud.oidc_token("x"))),
        SourceRefusedError,
        "AuthenticationFail.OIDCToken.Invalid",
    ),
    "not trusted": (lambda world: world.cloud.add_role("app", trusted=("ecs",)), NotPermittedError, "NoPermission"),
}


@pytest.mark.parametrize("story", REFUSED)
def test_a_token_that_sts_refuses_has_its_code_and_remedy(world: World, story: str) -> None:
    """Each reason is told apart, with what to do about it."""
    spoil, kind, code = REFUSED[story]
    spoil(world)
    with pytest.raises(kind, match=r"^credentials\.app: AssumeRoleWithOIDC: ") as caught:
        world.get()
    assert caught.value.code == code
    assert caught.value.remedy


def test_a_provider_that_is_not_registered_is_told(world: World) -> None:
    """STS answers with a missing permission; the remedy says what is meant."""
    with pytest.raises(NotPermittedError, match=r"AuthenticationFail\.NoPermission") as caught:
        world.get(oidc_provider_arn=f"acs:ram::{world.cloud.account_id}:oidc-provider/other")
    assert "register the OIDC provider" in caught.value.remedy


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("{}", "has no Credentials"),
        ('{"Credentials": "Canary"}', "has no Credentials"),
        ('{"Credentials": {"AccessKeyId": "Canary", "AccessKeySecret": "Canary"}}', "has no SecurityToken"),
    ],
)
def test_a_reply_without_a_whole_session_is_refused(world: World, body: str, words: str) -> None:
    """What is missing or of another type is named and never quoted."""
    gives_no_session(world, world.get, body, words)


def test_a_session_that_is_over_is_refused(world: World) -> None:
    """An answer that died before it came is no value."""
    world.cloud.session_life_s = -5
    with pytest.raises(BadAnswerError, match=r"credentials\.app: .*already expired"):
        world.get()


def test_a_wrong_clock_is_told_with_its_skew(world: World) -> None:
    """A refused timestamp comes with the distance to the service's clock."""
    world.cloud.fail_next(400, "InvalidTimeStamp.Expired")
    with pytest.raises(SourceRefusedError, match=r"^credentials\.app: .*this machine's clock is \d+ s"):
        world.get()


def test_a_server_that_is_not_trusted_gets_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the CA nothing is sent; with `cloud.ca_file` a third party's CA is trusted (all other tests)."""
    with no_trust(monkeypatch), pytest.raises(UntrustedServerError, match="not from an authority"):
        world.get()
    assert world.cloud.calls == []


PROBLEMS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "nothing is set": ({}, []),
    "all is well": (
        {
            "role_arn": "acs:ram::1:role/a",
            "oidc_provider_arn": "acs:ram::1:oidc-provider/ack-rrsa-c1",
            "oidc_token_file_path": FilePath("/var/run/secrets/tokens/oidc-token"),
        },
        [],
    ),
    "no ARN": ({"role_arn": "a"}, ["role_arn"]),
    "a role for a provider": ({"oidc_provider_arn": "acs:ram::1:role/a"}, ["oidc_provider_arn"]),
    "a provider for a role": ({"role_arn": "acs:ram::1:oidc-provider/a"}, ["role_arn"]),
    "a bad name": ({"role_session_name": "a/b"}, ["role_session_name"]),
    "a bad policy": ({"policy": "x"}, ["policy"]),
    "a short session": ({"role_session_expiration": Duration(60)}, ["role_session_expiration"]),
    "an URL for an endpoint": ({"sts_endpoint": "https://x"}, ["sts_endpoint"]),
}


@pytest.mark.parametrize("story", PROBLEMS)
def test_settings_that_cannot_work_are_told_by_key(story: str) -> None:
    """`check` says of each key what STS would refuse; what is not set may come from the environment."""
    changes, keys = PROBLEMS[story]
    assert complaints(OidcRoleArnSettings(type="oidc_role_arn", **changes)) == keys
