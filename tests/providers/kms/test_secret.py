"""The ClientKey provider against the emulated KMS: the wire, the regions, every failure, and what is never said."""

from __future__ import annotations

import base64
import json
import logging
import socket
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from agent.cloud.transport import Reply, Transport, UntrustedServerError
from agent.core.credential import Kind
from agent.core.errors import (
    BadAnswerError,
    CredentialFileError,
    KeyturnError,
    NotPermittedError,
    SourceRefusedError,
    SourceUnavailableError,
)
from agent.core.settings import Duration, FilePath
from agent.core.timestamps import moment_of
from providers.emulator import Fault
from providers.kms.official_sdk import sha_hmac256
from providers.kms.secret_data import credential_of
from providers.kms.settings import Region

STOCK_QUERY = [
    ("SecretName", "uploader-ak"),
    ("VersionStage", "ACSCurrent"),
    ("FetchExtendedConfig", "True"),
    ("Version", "2016-01-20"),
    ("Action", "GetSecretValue"),
    ("Format", "JSON"),
    ("RegionId", "cn-hangzhou"),
    ("Timestamp", "2026-11-22T01:30:16Z"),
    ("SignatureMethod", "SHA256withRSA"),
    ("SignatureType", "PRIVATEKEY"),
    ("SignatureVersion", "1.0"),
    ("SignatureNonce", "0123456789abcdef0123456789abcdef"),
]
"""What aliyun-secret-manager-client 0.1.5 (core 2.16.1, kms 2.16.5) sends, recorded by sending through its AcsClient
with clock and nonce fixed; AccessKeyId and Signature follow."""

STOCK_HEADERS = {
    "x-acs-action": "GetSecretValue",
    "x-acs-version": "2016-01-20",
    "x-sdk-invoke-type": "normal",
    "x-sdk-client": "python/2.0.0",
    "Accept": "*/*",
}


TAKEN: list[socket.socket] = []


def free_port() -> str:
    """Where nobody listens, and nobody else will: the port stays bound."""
    TAKEN.append(socket.socket())
    TAKEN[-1].bind(("127.0.0.1", 0))
    return f"127.0.0.1:{TAKEN[-1].getsockname()[1]}"


def regions(*endpoints: str) -> tuple[Region, ...]:
    return tuple(Region(region_id=f"cn-{index}", endpoint=endpoint) for index, endpoint in enumerate(endpoints, 1))


def test_the_key_before_is_fetched_while_kms_has_it(kms: Any) -> None:
    """The emergency needs the replaced key once more: with its secret, and whether or not it has expired."""
    old, provider = kms.cloud.current_key("uploader-ak"), kms.provider()
    kms.cloud.rotate("uploader-ak")
    previous = provider.fetch_previous()
    assert (previous.access_key_id, previous.access_key_secret.reveal()) == (old.access_key_id, old.access_key_secret)
    kms.cloud.add_generic_secret("session", '{"id": "a", "key": "b", "until": "2020-01-01T00:00:00Z"}')
    kms.cloud.put_secret_value("session", '{"id": "c", "key": "d", "until": "2020-01-01T00:00:00Z"}')
    fields = {"access_key_id": "id", "access_key_secret": "key", "expiration": "until"}
    assert kms.provider(secret_name="session", fields=fields).fetch_previous().access_key_id == "a"


def test_a_key_before_that_kms_dropped_is_said_to_be_gone(kms: Any) -> None:
    """A secret that never rotated, or whose old key KMS has deleted, has no version before: an error, not a guess."""
    provider, old = kms.provider(), kms.cloud.current_key("uploader-ak")
    with pytest.raises(SourceRefusedError, match=r"credentials\.uploader"):
        provider.fetch_previous()
    kms.cloud.rotate("uploader-ak")
    kms.cloud.delete_access_key(old.access_key_id)
    with pytest.raises(SourceRefusedError, match=r"credentials\.uploader"):
        provider.fetch_previous()


def test_the_key_of_the_secret_is_fetched(kms: Any) -> None:
    """Id, secret, version and RAM user are those of the managed secret."""
    value = kms.fetch()
    key = kms.cloud.current_key("uploader-ak")
    assert value.kind is Kind.ACCESS_KEY
    assert (value.access_key_id, value.access_key_secret.reveal()) == (key.access_key_id, key.access_key_secret)
    assert value.version_id == kms.cloud.secret("uploader-ak").current.version_id
    assert value.ram_user_name == "uploader"
    assert value.created_at == datetime.fromtimestamp(int(key.created_at), UTC)
    assert value.request_id


@pytest.mark.parametrize(
    ("told", "found"),
    [
        ({}, "2026-02-02T00:00:00Z"),
        ({"VersionStages": {"VersionStage": ["ACSPrevious"]}}, None),
        ({"LastRotationDate": None}, None),
        (
            {"SecretData": '{"id": "LTAI1", "secret": "s", "GenerateTimestamp": "2026-01-01T00:00:00Z"}'},
            "2026-01-01T00:00:00Z",
        ),
        ({"SecretData": '{"id": "LTAI1", "secret": "s", "GenerateTimestamp": "soon"}'}, None),
    ],
)
def test_the_age_of_a_key_is_what_its_secret_or_the_last_rotation_says(told: Any, found: str | None) -> None:
    """The last rotation dates only the current version, and the secret's own CreateTime none; rubbish is no time."""
    reply = {
        "SecretData": '{"id": "LTAI1", "secret": "s"}',
        "VersionId": "v1",
        "VersionStages": {"VersionStage": ["ACSCurrent"]},
        "LastRotationDate": "2026-02-02T00:00:00Z",
        "CreateTime": "2020-01-01T00:00:00Z",
    }
    value = credential_of({**reply, **told}, "plain", {"access_key_id": "id", "access_key_secret": "secret"})
    assert value.created_at == (moment_of(found) if found else None)


def test_a_rotation_is_seen_and_the_old_stage_can_be_asked_for(kms: Any) -> None:
    """The next fetch has the new key; ACSPrevious still has the old one."""
    old = kms.fetch()
    new_key = kms.cloud.rotate("uploader-ak")
    assert kms.fetch().access_key_id == new_key.access_key_id
    assert kms.fetch(version_stage="ACSPrevious").access_key_id == old.access_key_id


def test_the_wire_is_the_stock_clients(kms: Any, rsa_key: rsa.RSAPrivateKey, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parameters, their order, the headers and the signature are what the official client sends for this request."""
    sent: list[tuple[str, str, dict[str, str]]] = []

    def record(self: Transport, endpoint: str, query: str, *, headers: dict[str, str], **options: Any) -> Reply:
        sent.append((endpoint, query, headers))
        return Reply(503, {}, b"{}")

    monkeypatch.setattr(Transport, "post", record)
    monkeypatch.setattr("aliyunsdkcore.utils.parameter_helper.get_uuid", lambda: "0123456789abcdef" * 2)
    monkeypatch.setattr("aliyunsdkcore.utils.parameter_helper.get_iso_8061_date", lambda: "2026-11-22T01:30:16Z")
    with pytest.raises(SourceUnavailableError):
        kms.fetch()
    ((endpoint, query, headers),) = sent
    *params, (last, signature) = parse_qsl(query)
    assert endpoint == kms.endpoint
    assert params == [*STOCK_QUERY, ("AccessKeyId", kms.client_key.key_id)]
    assert headers == STOCK_HEADERS
    canonical = "&".join(f"{quote(name, safe='~')}={quote(value, safe='~')}" for name, value in sorted(params))
    signed = f"POST&%2F&{quote(canonical, safe='~')}".encode()
    assert last == "Signature"
    rsa_key.public_key().verify(base64.b64decode(signature), signed, padding.PKCS1v15(), hashes.SHA256())
    der = rsa_key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    assert signature == sha_hmac256.get_sign_string(signed.decode(), base64.b64encode(der).decode())


def test_the_clientkey_is_opened_once(kms: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three polls pay for one key derivation."""
    opened: list[str] = []
    inner = __import__("providers.kms.client_key", fromlist=["x"]).open_client_key
    monkeypatch.setattr(
        "providers.kms.client_key.open_client_key", lambda *args: opened.append(args[2]) or inner(*args)
    )
    provider = kms.provider()
    for _ in range(3):
        provider.fetch(datetime.now(UTC))
    assert opened == [str(kms.key_file)]


def test_a_properties_file_says_it_all(kms: Any) -> None:
    """The official client's file works as it is, and a change in it is followed without a restart."""
    provider = kms.provider(properties_file=kms.properties())
    assert provider.fetch(datetime.now(UTC)).access_key_id == kms.cloud.current_key("uploader-ak").access_key_id
    kms.properties(cache_client_region_id=f'[{{"regionId":"cn-x","endpoint":"{free_port()}"}}]')
    with pytest.raises(SourceUnavailableError, match="refused"):
        provider.fetch(datetime.now(UTC))


PROPERTIES: dict[str, tuple[dict[str, str | None], str]] = {
    "no type": ({"credentials_type": None}, "credentials_type is missing"),
    "an unknown type": ({"credentials_type": "ecs"}, "credentials_type=ecs: none of those"),
    "no key": ({"client_key_private_key_path": None}, "client_key_private_key_path is missing"),
    "a relative key": ({"client_key_private_key_path": "clientKey.json"}, "client_key_private_key_path"),
    "no region": ({"cache_client_region_id": ""}, "cache_client_region_id is missing"),
    "an impossible endpoint": (
        {"cache_client_region_id": '[{"regionId":"cn-x","endpoint":"https://kms"}]'},
        "without a scheme",
    ),
    "an impossible region": ({"cache_client_region_id": '[{"regionId":"CN_x"}]'}, "region_id"),
}


@pytest.mark.parametrize("story", PROPERTIES)
def test_a_properties_file_that_cannot_work(story: str, kms: Any) -> None:
    """What is missing or not supported is told by file and key, and by `check` without the network too."""
    changes, words = PROPERTIES[story]
    provider = kms.provider(properties_file=kms.properties(**changes))
    with pytest.raises(CredentialFileError) as caught:
        provider.fetch(datetime.now(UTC))
    assert "credentials.uploader" in caught.value.problem
    assert "secretsmanager.properties" in caught.value.problem
    assert words in caught.value.problem
    assert caught.value.remedy
    assert [finding.level for finding in provider.inspect()] == ["error"]
    assert kms.cloud.calls == []


def test_an_unreachable_region_is_passed_over(kms: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The next region answers for one that is down, and the log says that one was."""
    caplog.set_level(logging.WARNING)
    down = free_port()
    assert kms.fetch(regions=regions(down, kms.endpoint)).version_id
    assert f"{down}: connection refused" in caplog.text


def test_a_busy_region_is_passed_over(kms: Any) -> None:
    """Throttling and 5xx of one region send the request to the next, signed anew for it."""
    kms.cloud.fail_next(429, "Rejected.Throttling")
    assert kms.fetch(regions=regions(kms.endpoint, kms.endpoint)).version_id
    assert [call.status for call in kms.cloud.calls] == [429, 200]


def test_a_hanging_region_does_not_eat_the_time_of_the_next(kms: Any) -> None:
    """Each region gets its share of the total, so the second is still asked."""
    kms.cloud.inject(Fault.HANG)
    assert kms.fetch(timeout_s=4.0, regions=regions(kms.endpoint, kms.endpoint)).version_id


def test_a_refusal_ends_the_fetch(kms: Any) -> None:
    """A region that says no is not outvoted by another: its answer could be an older value."""
    kms.cloud.fail_next(404, "Forbidden.ResourceNotFound")
    with pytest.raises(SourceRefusedError):
        kms.fetch(regions=regions(kms.endpoint, kms.endpoint))
    assert len(kms.cloud.calls) == 1


def test_when_no_region_answers_all_are_named(kms: Any) -> None:
    """The error tells of each region what was wrong with it."""
    first, second = free_port(), free_port()
    with pytest.raises(SourceUnavailableError, match="no region answered") as caught:
        kms.fetch(regions=regions(first, second))
    assert first in caught.value.problem
    assert second in caught.value.problem


def test_a_server_that_is_not_trusted_gets_nothing(kms: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the CA the fetch is refused; the official client would have gone on with TLS verification off."""
    monkeypatch.setattr(kms.server, "ca_file", "")
    with pytest.raises(UntrustedServerError, match="not from an authority"):
        kms.fetch()
    assert kms.cloud.calls == []


def test_the_providers_own_ca_file_counts(kms: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """`ca_file` of the provider is trusted besides `cloud.ca_file`."""
    ca_file = FilePath(kms.server.ca_file)
    monkeypatch.setattr(kms.server, "ca_file", "")
    assert kms.fetch(ca_file=ca_file).version_id


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (429, "Rejected.Throttling", SourceUnavailableError),
        (503, "ServiceUnavailableTemporary", SourceUnavailableError),
        (403, "Forbidden.NoPermission", NotPermittedError),
        (404, "Forbidden.ResourceNotFound", SourceRefusedError),
        (404, "InvalidAccessKeyId.NotFound", SourceRefusedError),
    ],
)
def test_a_refusal_keeps_its_code(kms: Any, status: int, code: str, kind: type[KeyturnError]) -> None:
    """The service's code reaches the operator, with credential and host."""
    kms.cloud.fail_next(status, code)
    with pytest.raises(kind, match=rf"credentials\.uploader: {kms.endpoint}.*{code}") as caught:
        kms.fetch()
    assert caught.value.code == code


ANSWERS: dict[str, tuple[object, str]] = {
    "no data": ({"VersionId": "v"}, "the reply of KMS has no SecretData"),
    "data that is no text": ({"SecretData": {"AccessKeyId": "Canary"}, "VersionId": "v"}, "has no SecretData"),
    "binary": ({"SecretData": "Q2FuYXJ5", "SecretDataType": "binary", "VersionId": "v"}, "its value is binary"),
    "data that is no JSON": ({"SecretData": "Canary", "VersionId": "v"}, "its value is not a JSON object"),
    "data that is a list": ({"SecretData": '["Canary"]', "VersionId": "v"}, "its value is not a JSON object"),
    "no id": ({"SecretData": '{"AccessKeySecret":"Canary"}', "VersionId": "v"}, "its value has no AccessKeyId"),
    "no secret": ({"SecretData": '{"AccessKeyId":"Canary"}', "VersionId": "v"}, "its value has no AccessKeySecret"),
    "an empty secret": (
        {"SecretData": '{"AccessKeyId":"Canary","AccessKeySecret":""}', "VersionId": "v"},
        "its AccessKeySecret is empty",
    ),
    "a secret that is a number": (
        {"SecretData": '{"AccessKeyId":"Canary","AccessKeySecret":77}', "VersionId": "v"},
        "its AccessKeySecret is empty or not a text",
    ),
    "a blank in the secret": (
        {"SecretData": '{"AccessKeyId":"Id","AccessKeySecret":"Canary b"}', "VersionId": "v"},
        "with a blank",
    ),
    "no version": ({"SecretData": '{"AccessKeyId":"Canary","AccessKeySecret":"Canary"}'}, "has no VersionId"),
    "a version that is no text": (
        {"SecretData": '{"AccessKeyId":"Canary","AccessKeySecret":"Canary"}', "VersionId": 1},
        "has no VersionId",
    ),
    "nothing": ([], "the reply of KMS is not a JSON object"),
}


@pytest.mark.parametrize("story", ANSWERS)
def test_each_wrongness_of_a_secret_has_its_sentence(
    story: str, kms: Any, shown: Callable[[BaseException], str]
) -> None:
    """The sentence says what is wrong with the secret and never quotes it."""
    answer, words = ANSWERS[story]
    kms.cloud.inject(Fault.WRONG_SHAPE, body=json.dumps(answer))
    with pytest.raises(BadAnswerError) as caught:
        kms.fetch()
    assert words in caught.value.problem
    assert "credentials.uploader" in caught.value.problem
    assert "Canary" not in shown(caught.value)


def test_another_json_secret_is_read_through_fields(kms: Any) -> None:
    """`fields` says which key is which part; a session's token and end are taken too."""
    kms.cloud.add_generic_secret(
        "session", json.dumps({"ak": "STS.a", "sk": "b", "token": "c", "until": "2126-01-01T00:00:00Z", "more": 1})
    )
    fields = {"access_key_id": "ak", "access_key_secret": "sk", "security_token": "token", "expiration": "until"}
    value = kms.fetch(secret_name="session", fields=fields)
    assert value.kind is Kind.STS
    assert (value.access_key_id, value.security_token.reveal()) == ("STS.a", "c")
    assert value.expiration == datetime(2126, 1, 1, tzinfo=UTC)
    assert value.version_id == "v1"


@pytest.mark.parametrize("until", ["soon", "2126-01-01T00:00:00", "7"])
def test_an_end_that_is_no_time_is_refused(kms: Any, until: str) -> None:
    """A local time or a word is not guessed at."""
    kms.cloud.add_generic_secret("session", json.dumps({"ak": "a", "sk": "b", "until": until}))
    with pytest.raises(BadAnswerError, match="its expiration is not a time"):
        kms.fetch(
            secret_name="session", fields={"access_key_id": "ak", "access_key_secret": "sk", "expiration": "until"}
        )


def test_a_ready_machine_has_nothing_to_complain_of(kms: Any) -> None:
    """`check --offline` opens the ClientKey and says until when it is valid."""
    findings = list(kms.provider().inspect())
    assert [finding.level for finding in findings] == ["ok"]
    assert kms.client_key.key_id in findings[0].text
    assert kms.cloud.calls == []


def test_a_file_that_others_can_read_is_found(kms: Any) -> None:
    """`check --offline` names a key that is not private, and the remedy; a fetch refuses it too."""
    kms.key_file.chmod(0o640)
    (finding,) = kms.provider().inspect()
    assert (finding.level, "chmod 600" in finding.remedy) == ("error", True)
    with pytest.raises(CredentialFileError, match=str(kms.key_file)):
        kms.fetch()


def test_odd_keys_in_the_properties_file_are_warned_of(kms: Any) -> None:
    """A misspelt key gets its nearest, and the switch that turns TLS off is said to do nothing."""
    path = kms.properties(credential_type="ak", ignoreSSLCerts="true")
    findings = list(kms.provider(properties_file=path).inspect())
    assert [finding.level for finding in findings] == ["warning", "warning", "ok"]
    assert "credentials_type" in findings[0].remedy
    assert "TLS is always verified" in findings[1].text


GOOD: dict[str, Any] = {"secret_name": "acs/ram/user/app", "poll_interval": Duration(60)}
PROBLEMS: dict[str, tuple[dict[str, Any], str]] = {
    "an impossible name": ({"secret_name": "a b"}, "secret_name"),
    "no stage": ({"version_stage": ""}, "version_stage"),
    "no key": ({"client_key_private_key_path": None}, "properties_file"),
    "no password": ({"client_key_password_from_file_path": None}, "client_key_password_from_file_path"),
    "no region": ({"regions": ()}, "regions"),
    "an impossible region": ({"regions": (Region(region_id="../x"),)}, "regions[0]"),
    "an impossible endpoint": ({"regions": (Region(region_id="cn-x", endpoint="https://x"),)}, "regions[0]"),
    "an unknown field": ({"fields": {"access_key_id": "a", "access_key_secret": "b", "id": "c"}}, "fields.id"),
    "half of the fields": ({"fields": {"access_key_id": "a"}}, "fields.access_key_secret"),
}


@pytest.mark.parametrize("story", PROBLEMS)
def test_impossible_settings_are_named_by_their_key(story: str, kms: Any) -> None:
    """Each problem is found when the config is read, under the key that is to blame."""
    changes, key = PROBLEMS[story]
    assert [place for place, _ in kms.settings(**{**GOOD, **changes}).problems()] == [key]


def test_good_settings_have_no_problem(kms: Any) -> None:
    """Inline or by file, and with an ARN for a secret of another account."""
    assert list(kms.settings(**GOOD).problems()) == []
    assert list(kms.settings(secret_name="acs:kms:cn-x:1:secret/app").problems()) == []
    assert list(kms.settings(properties_file=kms.properties()).problems()) == []


def test_inline_keys_beside_a_properties_file_are_refused(kms: Any) -> None:
    """One of the two says who asks, not both."""
    settings = kms.settings(properties_file=kms.properties(), **kms.inline())
    assert len(list(settings.problems())) == 3


@pytest.mark.parametrize(
    ("region", "host"),
    [
        (Region(region_id="cn-hangzhou"), "kms.cn-hangzhou.aliyuncs.com"),
        (Region(region_id="cn-hangzhou", vpc=True), "kms-vpc.cn-hangzhou.aliyuncs.com"),
        (Region(region_id="cn-hangzhou", vpc=True, endpoint="kms.example:1"), "kms.example:1"),
    ],
)
def test_the_host_follows_the_official_rule(region: Region, host: str) -> None:
    """An endpoint wins over vpc, vpc over the public gateway."""
    assert region.host == host


UNWANTED = (
    "aiohttp",
    "apscheduler",
    "alibabacloud_dkms",
    "openapi_util",
    "protobuf",
    "cache_client",
    "default_secret_",
)
LOADS = {
    "a ClientKey": ("shared_gateway", "aliyunsdkkms.request.v20160120.GetSecretValueRequest", UNWANTED),
    "a RAM identity": (
        "ram_gateway",
        "agent.cloud.openapi",
        (*UNWANTED, "aliyunsdk", "cryptography", "secretsmanager"),
    ),
    "an instance": ("dedicated_gateway", "cryptography", (*UNWANTED, "aliyunsdk", "secretsmanager")),
}


@pytest.mark.parametrize("kind", LOADS)
def test_only_what_is_needed_is_imported(kind: str) -> None:
    """The provider stays without the client's default builder, cache, scheduler and protobuf; each kind has its own."""
    module, wanted, unwanted = LOADS[kind]
    script = f"import sys, providers; providers.load('kms_secret'); import providers.kms.{module}; print(*sys.modules)"
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True)
    assert [name for name in done.stdout.split() if any(part in name for part in unwanted)] == []
    assert wanted in done.stdout.split()
