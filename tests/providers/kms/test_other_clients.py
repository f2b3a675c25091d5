"""One properties file, many readers: what Alibaba documents for the V2 clients, the JDBC client and the plug-ins.

Sources: README_config.md and README_environment.md of alibabacloud-secretsmanager-client-go-v2 and -java-v2,
aliyun-secretsmanager-client-go, aliyun-secretsmanager-jdbc and the managed-credentials plug-ins.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from agent.cloud.transport import UntrustedServerError
from agent.core.credential import Credential
from agent.core.errors import CredentialFileError
from agent.core.finding import Finding
from providers.kms.properties import WITHOUT_EFFECT, parse
from tests.providers.conftest import PASSWORD, write_private

NOT_NEEDED = ("client_key_private_key_path", "client_key_password_from_file_path")


def fetch(kms: Any, **lines: str | None) -> Credential:
    value: Credential = kms.fetch(properties_file=kms.properties(**lines))
    return value


def inspect(kms: Any, **lines: str | None) -> list[Finding]:
    return list(kms.provider(properties_file=kms.properties(**lines)).inspect())


def region(kms: Any, **more: object) -> str:
    return json.dumps([{"regionId": "cn-hangzhou", "endpoint": kms.endpoint, **more}])


# credentials_type=oidc_role_arn


@pytest.fixture
def oidc(kms: Any) -> dict[str, str | None]:
    """The documented lines; the role may read the secret, and trusts the token."""
    kms.cloud.add_role("app", "kms:GetSecretValue", trusted=("oidc:ack",))
    return {
        **dict.fromkeys(NOT_NEEDED),
        "credentials_type": "oidc_role_arn",
        "credentials_role_arn": kms.cloud.role_arn("app"),
        "credentials_oidc_provider_arn": kms.cloud.add_oidc_provider("ack"),
        "credentials_oidc_token_file_path": str(write_private(kms.directory / "token", kms.cloud.oidc_token("ack"))),
    }


def test_an_oidc_role_asks_for_the_secret(kms: Any, oidc: dict[str, str | None]) -> None:
    """The token's session signs the call to KMS, under the name and for the time that the file gives."""
    more = {
        "credentials_role_session_name": "pod-7",
        "credentials_duration_seconds": "1800",
        "credentials_policy": None,
    }
    assert fetch(kms, **oidc, **more).access_key_id == kms.cloud.current_key("uploader-ak").access_key_id
    assumed, asked = kms.cloud.calls
    assert (assumed.action, asked.action) == ("AssumeRoleWithOIDC", "GetSecretValue")
    assert {finding.level for finding in inspect(kms, **oidc, **more)} == {"ok"}


def test_what_the_file_leaves_out_comes_from_the_variables(kms: Any, oidc: dict[str, str | None]) -> None:
    """The three keys are optional: ACK sets their variables in the pod."""
    kms.environ["ALIBABA_CLOUD_ROLE_ARN"] = oidc["credentials_role_arn"]
    kms.environ["ALIBABA_CLOUD_OIDC_PROVIDER_ARN"] = oidc["credentials_oidc_provider_arn"]
    kms.environ["ALIBABA_CLOUD_OIDC_TOKEN_FILE"] = oidc["credentials_oidc_token_file_path"]
    nothing = dict.fromkeys(key for key in oidc if key != "credentials_type")
    assert fetch(kms, **{**oidc, **nothing}).version_id


IMPOSSIBLE = {
    "credentials_role_arn": "app",
    "credentials_oidc_provider_arn": "ack",
    "credentials_oidc_token_file_path": "token",
    "credentials_role_session_name": "a b",
    "credentials_duration_seconds": "1h",
    "credentials_policy": "allow",
    "credentials_sts_endpoint": "https://sts",
    "credentials_sts_region_id": "../x",
}


@pytest.mark.parametrize("key", IMPOSSIBLE)
def test_an_impossible_line_is_named_by_its_own_key(key: str, kms: Any, oidc: dict[str, str | None]) -> None:
    """File and key of the properties file, not those of the provider that keyturn makes of it."""
    with pytest.raises(CredentialFileError) as caught:
        fetch(kms, **{**oidc, key: IMPOSSIBLE[key]})
    named = "credentials_sts_endpoint" if key == "credentials_sts_region_id" else key
    assert f"secretsmanager.properties: {named}: " in caught.value.problem
    assert kms.cloud.calls == []


UNSUPPORTED = (
    {"credentials_type": "ecs_instance_identity", "aap_arn": "acs:kms:cn:1:aap/x"},
    {"credentials_type": "ack_oidc_jwt", "aap_arn": "acs:kms:cn:1:aap/x", "token_path": "/var/run/token"},
    {"credentials_type": "aws_ec2_pkcs7", "aap_arn": "acs:kms:cn:1:aap/x", "idaas_config_path": "/etc/c.json"},
)


@pytest.mark.parametrize("lines", UNSUPPORTED, ids=lambda lines: lines["credentials_type"])
def test_a_documented_type_that_keyturn_does_not_speak_is_named(lines: dict[str, str], kms: Any) -> None:
    """It is not called unknown, and no other key is advised for its keys."""
    findings = inspect(kms, **dict.fromkeys(NOT_NEEDED), **lines)
    *warnings, error = findings
    assert error.level == "error" and "keyturn does not support it" in error.text
    assert f"credentials_type={lines['credentials_type']}" in error.text
    assert {finding.level for finding in warnings} <= {"warning"} and not [w for w in warnings if "write" in w.remedy]


@pytest.mark.parametrize("pasted", ["CanaryCanaryCanaryCanary012345", "Canary value", "canary" * 9])
def test_a_secret_pasted_as_a_type_is_not_repeated(pasted: str, kms: Any) -> None:
    """The key is named; what stands there is shown only where it is a word."""
    with pytest.raises(CredentialFileError, match="credentials_type=…") as caught:
        fetch(kms, credentials_type=pasted)
    assert "anary" not in str(caught.value)


# cache_client_region_id


@pytest.mark.parametrize("kind", ["client_key", "oidc_role_arn"])
def test_a_regions_own_authority_is_trusted_for_it(
    kind: str, kms: Any, oidc: dict[str, str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """caFilePath proves the region, for every identity; without it the same server is a stranger."""
    lines = oidc if kind == "oidc_role_arn" else {}
    own = str(kms.server.ca_file)
    base = kms.base_of
    monkeypatch.setattr(kms, "base_of", lambda settings: _with_authority(kms, base, settings, own))
    monkeypatch.setattr(kms.server, "ca_file", "")
    assert fetch(kms, **lines, cache_client_region_id=region(kms, caFilePath=own)).version_id
    with pytest.raises(UntrustedServerError):
        fetch(kms, **lines, cache_client_region_id=region(kms))


def _with_authority(kms: Any, base_of: Any, settings: Any, ca_file: str) -> Any:
    """Make a base whose own calls (STS) are trusted: a region's authority is for the region alone."""
    kept, kms.server.ca_file = kms.server.ca_file, ca_file
    try:
        return base_of(settings)
    finally:
        kms.server.ca_file = kept


def test_a_regions_authority_is_looked_at_by_check(kms: Any, tmp_path: Path) -> None:
    """One that is no certificate is an error, and so is a relative path; a misspelt key gets its nearest."""
    (tmp_path / "none.pem").write_text("no certificate")
    broken = inspect(kms, cache_client_region_id=region(kms, caFilePath=str(tmp_path / "none.pem")))
    assert [f.level for f in broken] == ["ok", "error"] and "none.pem" in broken[1].text
    with pytest.raises(CredentialFileError, match="caFilePath"):
        fetch(kms, cache_client_region_id=region(kms, caFilePath="ca.pem"))
    first, *_ = inspect(kms, cache_client_region_id=region(kms, caFilPath="/x", vpcc=True))
    assert (first.level, "caFilPath" in first.text, "caFilePath" in first.remedy) == ("warning", True, True)


# cache_client_dkms_config_info


def dedicated(kms: Any, **entry: object) -> dict[str, str | None]:
    given = {"regionId": "cn-hangzhou", "endpoint": kms.endpoint, "clientKeyFile": str(kms.key_file), **entry}
    lines = {"cache_client_dkms_config_info": json.dumps([given])}
    return {**dict.fromkeys((*NOT_NEEDED, "credentials_type", "cache_client_region_id")), **lines}


BY_VARIABLE = {
    "Go, Java: the variable that a variable names": (
        {"passwordFromEnvVariable": "client_key_password_from_env_variable"},
        {"client_key_password_from_env_variable": "MYPW", "MYPW": PASSWORD},
    ),
    "a variable of another name that names one": (
        {"passwordFromEnvVariable": "xxx"}, {"xxx": "MYPW", "MYPW": PASSWORD},
    ),
    "Python: the variable itself": ({"passwordFromEnvVariable": "xxx"}, {"xxx": PASSWORD}),
    "Go, Java: the file that a variable names": (
        {"passwordFromFilePathName": "client_key_password_from_file_path"},
        {"client_key_password_from_file_path": "FILE"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("way", BY_VARIABLE)
def test_the_password_of_an_instance_by_the_variables_that_are_documented(way: str, kms: Any) -> None:
    """What the file names is looked up in the environment, where the plug-ins have it put."""
    entry, environ = BY_VARIABLE[way]
    kms.environ.update({name: str(kms.password_file) if held == "FILE" else held for name, held in environ.items()})
    assert fetch(kms, **dedicated(kms, **entry)).version_id


def test_a_name_is_never_tried_as_the_password(kms: Any) -> None:
    """The variable that is named and not set is the error, not "does not open this ClientKey"."""
    kms.environ["client_key_password_from_env_variable"] = "MYPW"
    for entry in ({"passwordFromEnvVariable": "client_key_password_from_env_variable"}, {}):
        with pytest.raises(CredentialFileError) as caught:
            fetch(kms, **dedicated(kms, **entry))
        assert "does not open" not in caught.value.problem
    with pytest.raises(CredentialFileError, match="the environment's client_key_password_from_env_variable names"):
        fetch(kms, **dedicated(kms, passwordFromEnvVariable="client_key_password_from_env_variable"))


def test_a_path_variable_that_holds_something_else_is_not_repeated(kms: Any) -> None:
    """It may hold the password itself."""
    kms.environ["client_key_password_from_file_path"] = "Canary~1"
    with pytest.raises(CredentialFileError, match="client_key_password_from_file_path") as caught:
        fetch(kms, **dedicated(kms, passwordFromFilePathName="client_key_password_from_file_path"))
    assert "Canary" not in str(caught.value)


def test_cacert_is_read_where_it_is_a_path(kms: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Go plug-in documents `caCert`, a path or the certificate itself; the latter is refused by name."""
    own = str(kms.server.ca_file)
    pem = Path(own).read_text()
    monkeypatch.setattr(kms.server, "ca_file", "")
    password = {"passwordFromFilePath": str(kms.password_file)}
    assert fetch(kms, **dedicated(kms, caCert=own, ignoreSslCerts=False, **password)).version_id
    for key in ("caCert", "ca"):
        with pytest.raises(CredentialFileError, match=f": {key} holds") as caught:
            fetch(kms, **dedicated(kms, **{key: pem}, **password))
        assert "caFilePath" in caught.value.remedy and "BEGIN" not in str(caught.value)
        assert fetch(kms, **dedicated(kms, **{key: pem}, caFilePath=own, **password)).version_id


# the keys of the file


def test_a_documented_key_is_known_and_never_to_be_removed(kms: Any) -> None:
    """Another reader of the file needs it; what keyturn does not use is said to be without effect."""
    lines = {key: "1" for key in WITHOUT_EFFECT}
    more = {"credentials_policy": "{}", "credentials_sts_endpoint": "sts.example"}
    findings = [f for f in inspect(kms, **lines, **more) if f.level != "ok"]
    assert [f.level for f in findings] == ["warning"] * (len(lines) + len(more))
    assert not [f for f in findings if "remove" in f.remedy or "write" in f.remedy or "not a key" in f.text]
    assert {key for key in lines for f in findings if f"{key} is ignored: it is without effect" in f.text} == set(lines)


def test_the_password_itself_makes_the_file_one_that_holds_a_secret(kms: Any) -> None:
    """A mode that lets others read it is an error at `properties_file`; as 0600 it opens the ClientKey."""
    lines = {"client_key_password_from_file_path": None, "client_key_password": PASSWORD}
    assert fetch(kms, **lines).version_id
    assert {f.level for f in inspect(kms, **lines)} == {"ok"}
    (kms.directory / "secretsmanager.properties").chmod(0o644)
    told, error = kms.provider(properties_file=kms.properties(**lines, aap_arn="x")).inspect()
    assert (told.level, error.level) == ("warning", "error"), "what else is to be said is said all the same"
    assert told.place == error.place == "credentials.uploader.provider.properties_file"
    assert error.remedy.startswith("chmod 600 ") and PASSWORD not in error.text


def test_the_password_in_the_file_comes_after_the_places_that_are_named(kms: Any) -> None:
    """A stale one beside `client_key_password_from_file_path` does no harm."""
    assert fetch(kms, client_key_password="hunter2").version_id


@pytest.mark.parametrize("line", ["Canary0123456789Canary0123456789==", "Canary+/x=y", "Canary é=1"])
def test_a_secret_pasted_as_a_line_is_not_repeated(line: str, kms: Any) -> None:
    """`check` says that there is a key that is none, and does not show it."""
    path = kms.properties()
    path_on_disk = Path(path)
    path_on_disk.write_text(path_on_disk.read_text() + line + "\n")
    told = list(kms.provider(properties_file=path).inspect())
    assert {f.level for f in told} & {"warning", "error"}
    assert "Canary" not in "".join(f.text + f.remedy for f in told)


@pytest.mark.parametrize("key", ["client_key_password_from_file_path", "client_key_password_from_env_variable"])
@pytest.mark.parametrize("password", ["Canary0-word", "Canary0word"])
def test_a_password_written_where_its_path_or_variable_belongs_is_not_repeated(
    key: str, password: str, kms: Any
) -> None:
    """The key is named, by a fetch and by `check`; in the file and for an instance alike."""
    lines = {"client_key_password_from_file_path": None, key: password}
    told = [str(f.text) + f.remedy for f in inspect(kms, **lines)]
    with pytest.raises(CredentialFileError, match=key) as caught:
        fetch(kms, **lines)
    assert "Canary" not in "".join(told) + str(caught.value)


# the format: java.util.Properties

JAVA = {
    "key: value": ("a: b\nc : d\ne:f=g\n", {"a": "b", "c": "d", "e": "f=g"}),
    "escaped separators": (r"a=x\:y\=z" + "\n", {"a": "x:y=z"}),
    "an escaped separator in a key": (r"a\:b=c" + "\n" + r"d\=e:f" + "\n", {"a:b": "c", "d=e": "f"}),
    "an escaped comment": (r"a=\#b\!c" + "\n", {"a": "#b!c"}),
    "escaped quotes": (r"a=[{\"r\":\"x\"}]" + "\n", {"a": '[{"r":"x"}]'}),
    "a code unit": (r"a=/etc/\u6587" + "\n", {"a": "/etc/文"}),
    "two code units of one character": (r"a=\uD83D\uDE00" + "\n", {"a": "😀"}),
    "a backslash": (r"a=b\\c" + "\n", {"a": "b\\c"}),
    "controls": (r"a=b\tc\nd" + "\n", {"a": "b\tc\nd"}),
    "a backslash before a blank at the end is no continuation": ("a=b\\ \nc=d\n", {"a": "b", "c": "d"}),
    "any other character": (r"a=\q" + "\n", {"a": "q"}),
}


@pytest.mark.parametrize("story", JAVA)
def test_what_java_writes_is_read(story: str) -> None:
    """`Properties.store` puts a backslash before `:`, `=`, `#` and `!`, and writes what is not ASCII as code units."""
    text, expected = JAVA[story]
    assert parse(text.encode(), "p").values == expected


@pytest.mark.parametrize("escape", ["\\u12", "\\uXYZW", "\\u0000", "\\u"])
def test_a_malformed_escape_is_told_with_its_line(escape: str) -> None:
    """File, line and the escape are named, the value is not."""
    with pytest.raises(CredentialFileError, match=r"^p: line 2 has a backslash before u") as caught:
        parse(f"a=b\nc=Canary{escape}\n".encode(), "p")
    assert "Canary" not in str(caught.value)


def test_a_stored_file_works(kms: Any) -> None:
    """As java.util.Properties writes it, comment and all."""
    path = kms.properties()
    lines = Path(path).read_text().splitlines()
    stored = [f"{key}={value.replace(':', chr(92) + ':')}" for key, _, value in (line.partition("=") for line in lines)]
    Path(path).write_text("#Mon Nov 30 09:00:00 CST 2026\n" + "\n".join(stored) + "\n")
    assert kms.fetch(properties_file=path).version_id
    assert kms.provider(properties_file=path).fetch(datetime.now(UTC)).version_id
