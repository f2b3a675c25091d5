"""The gateway of a dedicated KMS instance: the official client's bytes, the properties that name it, and its failures."""

from __future__ import annotations

import base64
import json
import logging
import socket
import time
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from agent.cloud.transport import UntrustedServerError
from agent.core.credential import Kind
from agent.core.errors import (
    BadAnswerError,
    CredentialFileError,
    KeyturnError,
    NotPermittedError,
    SourceRefusedError,
    SourceUnavailableError,
)
from agent.core.secret import Secret
from agent.core.settings import FilePath
from providers.emulator import Cloud, EmulatorServer, Fault
from providers.emulator.pki import client_key_file
from providers.kms.client_key import open_client_key
from providers.kms.dedicated_gateway import signed_headers
from providers.kms.dedicated_wire import get_secret_value_request

ACTION = "dkms:GetSecretValue"
PASSWORD = "Pass~word#1"
AT = datetime(2026, 11, 22, 1, 30, 16, tzinfo=UTC)


TAKEN: list[socket.socket] = []


def free_port() -> str:
    """Where nobody listens, and nobody else will: the port stays bound."""
    TAKEN.append(socket.socket())
    TAKEN[-1].bind(("127.0.0.1", 0))
    return f"127.0.0.1:{TAKEN[-1].getsockname()[1]}"


def instance(kms: Any, **changes: object) -> dict[str, object]:
    """An object of `cache_client_dkms_config_info`; None takes a key away."""
    given = {
        "regionId": "cn-hangzhou",
        "endpoint": kms.endpoint,
        "clientKeyFile": str(kms.key_file),
        "passwordFromFilePath": str(kms.password_file),
        "caFilePath": str(kms.server.ca_file),
        **changes,
    }
    return {key: value for key, value in given.items() if value is not None}


def dedicated(kms: Any, *entries: dict[str, object], **lines: str | None) -> FilePath:
    """A properties file that names instances only, unless `lines` adds more."""
    nothing = dict.fromkeys(
        [
            "credentials_type",
            "client_key_private_key_path",
            "client_key_password_from_file_path",
            "cache_client_region_id",
        ]
    )
    info = json.dumps(list(entries or [instance(kms)]))
    path: FilePath = kms.properties(**{**nothing, "cache_client_dkms_config_info": info, **lines})
    return path


def fetch(kms: Any, *entries: dict[str, object], timeout_s: float = 10.0, **lines: str | None) -> Any:
    return kms.fetch(timeout_s, properties_file=dedicated(kms, *entries, **lines))


class OfficialClient:
    """The official client with its sending replaced by a record of what it would have sent."""

    def __init__(self, key_id: str, key: rsa.RSAPrivateKey, monkeypatch: pytest.MonkeyPatch) -> None:
        from openapi.models import Config
        from sdk.client import Client
        from Tea.core import TeaCore

        self.sent: list[Any] = []
        monkeypatch.setattr(TeaCore, "do_action", staticmethod(self._record))
        monkeypatch.setattr(
            "alibabacloud_tea_util.client.Client.get_date_utcstring",
            staticmethod(lambda: "Sun, 22 Nov 2026 01:30:16 GMT"),
        )
        pkcs1 = key.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption())
        self._client = Client(
            Config(endpoint="kst", access_key_id=key_id, private_key=base64.b64encode(pkcs1).decode())
        )

    def _record(self, request: Any, runtime: Any) -> Any:
        self.sent.append(request)
        return SimpleNamespace(status_code=200, body=b"", headers={})

    def ask(self, secret_name: str, stage: str) -> tuple[dict[str, str], bytes]:
        from openapi_util.models import RuntimeOptions
        from sdk.models import GetSecretValueRequest

        request = GetSecretValueRequest(secret_name=secret_name, version_stage=stage, fetch_extended_config=True)
        request.request_headers = {}
        self._client.get_secret_value_with_options(request, RuntimeOptions())
        (sent,) = self.sent
        return sent.headers, sent.body


def test_the_request_is_the_official_clients(rsa_key: rsa.RSAPrivateKey, monkeypatch: pytest.MonkeyPatch) -> None:
    """Body, headers and the signature over them are what alibabacloud-dkms-gcs sends for the same question and second."""
    content = client_key_file(Cloud().add_client_key(key_id="KAAP.1", private_key=rsa_key), PASSWORD)
    key = open_client_key(content.encode(), Secret(PASSWORD), "k")
    theirs, body = OfficialClient("KAAP.1", rsa_key, monkeypatch).ask("acs/ram/user/app", "ACSCurrent")
    ours = get_secret_value_request("acs/ram/user/app", "ACSCurrent")
    assert ours == body
    of_the_transport = {"host", "user-agent", "content-length"}
    assert signed_headers(key, ours, AT) == {k: v for k, v in theirs.items() if k not in of_the_transport}


def test_an_instance_alone_is_enough(kms: Any) -> None:
    """No credentials_type, no region: id, secret, version and RAM user come from the instance's gateway."""
    value, key = fetch(kms), kms.cloud.current_key("uploader-ak")
    assert value.kind is Kind.ACCESS_KEY
    assert (value.access_key_id, value.access_key_secret.reveal()) == (key.access_key_id, key.access_key_secret)
    assert value.version_id == kms.cloud.secret("uploader-ak").current.version_id
    assert value.ram_user_name == "uploader"
    assert [call.action for call in kms.cloud.calls] == [ACTION]


def test_the_key_before_and_another_stage(kms: Any) -> None:
    """The emergency gets the replaced key from there too, and `version_stage` is asked for as configured."""
    old = kms.cloud.current_key("uploader-ak").access_key_id
    new = kms.cloud.rotate("uploader-ak").access_key_id
    provider = kms.provider(properties_file=dedicated(kms))
    assert provider.fetch_previous().access_key_id == old
    assert provider.fetch(datetime.now(UTC)).access_key_id == new
    assert kms.fetch(properties_file=dedicated(kms), version_stage="ACSPrevious").access_key_id == old
    assert provider.secret_name == "uploader-ak"


def test_another_json_secret_is_read_through_fields(kms: Any) -> None:
    """`fields` works as with the shared gateway, umlauts and all."""
    kms.cloud.add_generic_secret("session", json.dumps({"äk": "STS.a", "sk": "b", "t": "c"}, ensure_ascii=False))
    fields = {"access_key_id": "äk", "access_key_secret": "sk", "security_token": "t"}
    value = kms.fetch(properties_file=dedicated(kms), secret_name="session", fields=fields)
    assert (value.kind, value.access_key_id, value.security_token.reveal()) == (Kind.STS, "STS.a", "c")


PASSWORDS: dict[str, tuple[dict[str, object], dict[str, str | None], dict[str, str]]] = {
    "by file": ({"passwordFromFilePath": "FILE"}, {}, {}),
    "by variable": ({"passwordFromEnvVariable": "OF_INSTANCE"}, {}, {"OF_INSTANCE": PASSWORD}),
    "by a property that names a variable": (
        {"passwordFromEnvVariable": "a_property"}, {"a_property": "OF_INSTANCE"},
        {"OF_INSTANCE": PASSWORD, "a_property": "wrong"},
    ),
    "by a property that names a file": ({"passwordFromFilePathName": "a_property"}, {"a_property": "FILE"}, {}),
    "the file before everything": (
        {"passwordFromFilePath": "FILE", "passwordFromEnvVariable": "OF_INSTANCE"}, {}, {"OF_INSTANCE": "wrong"},
    ),
    "the named file before the variable itself": (
        {"passwordFromFilePathName": "a_property", "passwordFromEnvVariable": "OF_INSTANCE"}, {"a_property": "FILE"},
        {"OF_INSTANCE": "wrong"},
    ),
    "by the general variable": ({}, {}, {"client_key_password": PASSWORD}),
    "by the properties file's own ClientKey": ({}, {"client_key_password_from_file_path": "FILE"}, {}),
    "its own before the properties file's": (
        {"passwordFromEnvVariable": "OF_INSTANCE"}, {"client_key_password_from_env_variable": "OTHER"},
        {"OF_INSTANCE": PASSWORD, "OTHER": "wrong"},
    ),
    "its own before the environment's general name": (
        {"passwordFromEnvVariable": "OF_INSTANCE"}, {},
        {"OF_INSTANCE": PASSWORD, "client_key_password_from_env_variable": "OTHER", "OTHER": "wrong"},
    ),
    "by the environment's general name": (
        {}, {}, {"client_key_password_from_env_variable": "OTHER", "OTHER": PASSWORD},
    ),
}  # fmt: skip


@pytest.mark.parametrize("way", PASSWORDS)
def test_each_documented_way_to_the_password(way: str, kms: Any) -> None:
    """The ways and their order are the official client's."""
    entry, lines, environ = PASSWORDS[way]
    kms.environ.update(environ)
    entry = {"passwordFromFilePath": None, **entry}
    named = {k: str(kms.password_file) if v == "FILE" else v for k, v in (*entry.items(), *lines.items())}
    ours = {key: named[key] for key in entry}
    assert fetch(kms, instance(kms, **ours), **{key: named[key] for key in lines}).version_id


def test_a_password_that_is_nowhere_is_told(kms: Any) -> None:
    """The key is named, never what stands there: it may be the password itself."""
    for named, words in (("CANARY_1", "passwordFromEnvVariable names, .* is not set"), ("Canary~1", "is no name")):
        with pytest.raises(CredentialFileError, match=words) as caught:
            fetch(kms, instance(kms, passwordFromFilePath=None, passwordFromEnvVariable=named))
        assert "Canary" not in str(caught.value)


def test_the_instances_authority_is_trusted_for_the_instance_only(kms: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its caFilePath proves the instance; the shared gateway behind the same authority stays a stranger."""
    own = str(kms.server.ca_file)
    entry = instance(kms, caFilePath=own)
    monkeypatch.setattr(kms.server, "ca_file", "")
    assert fetch(kms, entry).version_id
    with pytest.raises(UntrustedServerError, match="not from an authority"):
        fetch(kms, instance(kms, caFilePath=None))
    with pytest.raises(UntrustedServerError, match="not from an authority"):
        kms.fetch()
    with pytest.raises(SourceUnavailableError, match="not from an authority"):
        fetch(kms, {**entry, "endpoint": free_port()}, **shared(kms))
    assert len(kms.cloud.calls) == 1


def test_tls_is_verified_whatever_the_file_says(kms: Any, tmp_path: Path) -> None:
    """`ignoreSslCerts` changes nothing: a stranger is refused before anything is sent, and `check` says so."""
    with EmulatorServer(kms.cloud, tmp_path / "stranger", certificate="unknown_ca") as stranger:
        entry = instance(kms, endpoint=stranger.endpoint, ignoreSslCerts=True)
        with pytest.raises(UntrustedServerError):
            fetch(kms, entry)
        findings = list(kms.provider(properties_file=dedicated(kms, entry)).inspect())
    assert kms.cloud.calls == []
    assert [finding.level for finding in findings] == ["warning", "ok"]
    assert "ignoreSslCerts is ignored: TLS is always verified" in findings[0].text


def shared(kms: Any) -> dict[str, str | None]:
    return {
        "credentials_type": "client_key",
        "client_key_private_key_path": str(kms.key_file),
        "client_key_password_from_file_path": str(kms.password_file),
        "cache_client_region_id": json.dumps([{"regionId": "cn-hangzhou", "endpoint": kms.endpoint}]),
    }


def test_instances_come_before_regions(kms: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The instance is asked; a region only when no instance answers, with a warning for each."""
    caplog.set_level(logging.WARNING)
    assert fetch(kms, **shared(kms)).version_id
    assert [call.action for call in kms.cloud.calls] == [ACTION]
    down = free_port()
    assert fetch(kms, instance(kms, endpoint=down), instance(kms, endpoint=down), **shared(kms)).version_id
    assert [call.action for call in kms.cloud.calls] == [ACTION, "GetSecretValue"]
    assert caplog.text.count(f"instance {down} is passed over") == 2


def test_a_refusal_of_the_instance_ends_the_fetch(kms: Any) -> None:
    """As with regions: the shared gateway may have an older value."""
    kms.cloud.fail_next(404, "Forbidden.ResourceNotFound", action=ACTION)
    with pytest.raises(SourceRefusedError):
        fetch(kms, **shared(kms))
    assert len(kms.cloud.calls) == 1


CODES: dict[str, tuple[int, type[KeyturnError], str]] = {
    "Rejected.Throttling": (429, SourceUnavailableError, "too many calls"),
    "InternalFailure": (500, SourceUnavailableError, "internal error"),
    "ServiceUnavailableTemporary": (503, SourceUnavailableError, "unavailable"),
    "Unauthorized": (404, SourceRefusedError, "does not know the ClientKey"),
    "SignatureNotMatch": (401, SourceRefusedError, "refuses the signature"),
    "Forbidden.NoPermission": (403, NotPermittedError, "does not permit"),
    "Forbidden.ResourceNotFound": (404, SourceRefusedError, "has no such secret"),
    "Forbidden.KeyNotFound": (404, SourceRefusedError, "has lost the key"),
    "Rejected.Disabled": (409, SourceRefusedError, "present state"),
    "InvalidApiName": (400, SourceRefusedError, "does not know this call"),
    "InvalidApiVersion": (400, SourceRefusedError, "does not know this call"),
    "InvalidContentType": (415, SourceRefusedError, "does not take protobuf"),
    "UnsupportedOperation": (400, SourceRefusedError, "does not serve secrets"),
    "MissingParameter": (400, SourceRefusedError, "refuses the request"),
    "RequestTimeTooSkewed": (400, SourceRefusedError, "refuses the time of the request"),
}


@pytest.mark.parametrize("code", CODES)
def test_each_documented_code_has_its_sentence(code: str, kms: Any) -> None:
    """Kind, words, code and remedy; the message of the reply is not repeated."""
    status, kind, words = CODES[code]
    kms.cloud.fail_next(status, code, action=ACTION, message="server string to sign: Canary")
    with pytest.raises(kind, match=rf"credentials\.uploader: {kms.endpoint} .*{words}.*{code}") as caught:
        fetch(kms)
    assert caught.value.code == code
    assert caught.value.remedy
    assert "Canary" not in str(caught.value)


def test_an_unknown_clientkey_is_refused(kms: Any) -> None:
    """The real check of the emulator, not an ordered one: the remedy is a new ClientKey."""
    kms.key_file.write_text(client_key_file(Cloud().add_client_key(), PASSWORD))
    with pytest.raises(SourceRefusedError, match="does not know the ClientKey") as caught:
        fetch(kms)
    assert "new ClientKey" in caught.value.remedy


def test_a_clock_that_is_off_is_told_with_its_skew(kms: Any) -> None:
    """The instance refuses the time; the sentence says by how much, and which way."""
    kms.cloud.now = lambda: time.time() + 1200
    with pytest.raises(SourceRefusedError, match="20 min behind its") as caught:
        fetch(kms)
    assert "chrony" in caught.value.remedy


def test_a_page_for_people_is_no_answer(kms: Any) -> None:
    """What a proxy or another server says is refused without a word of it."""
    kms.cloud.inject(Fault.RUBBISH, action=ACTION, body="<html>Canary</html>")
    with pytest.raises(BadAnswerError, match="not the protobuf of GetSecretValue") as caught:
        fetch(kms)
    assert "Canary" not in str(caught.value)


BROKEN: dict[str, tuple[str | dict[str, object], str]] = {
    "no JSON": ("kst", "not a JSON list"),
    "too deep": ("[" * 20_000, "not a JSON list"),
    "one object": ('{"regionId":"x"}', "not a JSON list"),
    "an empty list": ("[]", "not a JSON list"),
    "a list of texts": ('["x"]', "an instance that is not an object"),
    "no region": ({"regionId": None}, "an instance without regionId"),
    "no endpoint": ({"endpoint": ""}, "an instance without endpoint"),
    "an endpoint with a scheme": ({"endpoint": "https://kst"}, "endpoint: want"),
    "an endpoint that is a number": ({"endpoint": 7}, "endpoint is not a text"),
    "no key": ({"clientKeyFile": None}, "an instance without clientKeyFile"),
    "a relative key": ({"clientKeyFile": "k.json"}, "clientKeyFile: the path is relative"),
    "a relative password": ({"passwordFromFilePath": "Canary~1"}, "passwordFromFilePath: the path is relative"),
    "a relative authority": ({"caFilePath": "ca.pem"}, "caFilePath: the path is relative"),
    "a property that is not there": (
        {"passwordFromFilePath": None, "passwordFromFilePathName": "nowhere"},
        "passwordFromFilePathName names nowhere",
    ),
}


@pytest.mark.parametrize("story", BROKEN)
def test_an_instance_that_cannot_be_is_told_by_file_and_key(story: str, kms: Any) -> None:
    """One sentence with the file, the key and the remedy, by `check --offline` as well; no value is quoted."""
    given, words = BROKEN[story]
    text = given if isinstance(given, str) else json.dumps([instance(kms, **given)])
    path = dedicated(kms, cache_client_dkms_config_info=text)
    with pytest.raises(CredentialFileError) as caught:
        kms.fetch(properties_file=path)
    assert f"credentials.uploader: {path}: cache_client_dkms_config_info: " in caught.value.problem
    assert words in caught.value.problem
    assert caught.value.remedy
    assert "Canary" not in str(caught.value)
    assert [finding.level for finding in kms.provider(properties_file=path).inspect()] == ["error"]


def test_check_names_what_has_no_effect(kms: Any) -> None:
    """A misspelt key gets its nearest; a credentials_type that nobody uses is told as well."""
    path = dedicated(kms, instance(kms, caFilPath="/x", protocol="http"), credentials_type="client_key")
    findings = list(kms.provider(properties_file=path).inspect())
    assert [finding.level for finding in findings] == ["warning", "warning", "warning", "ok"]
    assert "credentials_type is ignored: only dedicated instances are asked" in findings[0].text
    assert ("caFilPath" in findings[1].text, "caFilePath" in findings[1].remedy) == (True, True)
    assert ("protocol" in findings[2].text, "write" in findings[2].remedy) == (True, False)


def test_check_opens_each_key_and_each_authority(kms: Any, tmp_path: Path) -> None:
    """Each ClientKey once; one that others can read, and an authority that is no certificate, are errors."""
    (tmp_path / "ca.txt").write_text("no certificate")
    entries = [instance(kms), instance(kms, endpoint="kst:1"), instance(kms, caFilePath=str(tmp_path / "ca.txt"))]
    provider = kms.provider(properties_file=dedicated(kms, *entries, **shared(kms)))
    findings = list(provider.inspect())
    assert [finding.level for finding in findings] == ["ok", "error"]
    assert f"{tmp_path / 'ca.txt'}: holds no PEM certificate" in findings[1].text
    kms.key_file.chmod(0o644)
    (first, _) = provider.inspect()
    assert (first.level, first.remedy) == ("error", f"chmod 600 {kms.key_file}")
