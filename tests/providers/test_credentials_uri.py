"""The credentials URI, over plain http on loopback and over TLS: what is accepted, refused, and never shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from agent.cloud.transport import UntrustedServerError
from agent.core.credential import Credential, Kind
from agent.core.errors import BadAnswerError, NotPermittedError, SourceRefusedError, SourceUnavailableError
from agent.core.provider import POLL_INTERVAL_S, ProviderContext
from agent.core.secret import Secret
from agent.core.settings import CloudSettings, FilePath
from providers.credentials_uri import CredentialsUri, CredentialsUriSettings
from providers.emulator import Cloud, EmulatorServer, Fault, MetadataServer

CAPABILITY = "let-me-in-42"


class Addresses:
    """One cloud that hands out what `cloud.uri_credential` says, at an http and at an https address."""

    def __init__(self, directory: Path) -> None:
        self.cloud = Cloud()
        self.cloud.add_role("worker")
        self.http = MetadataServer(self.cloud)
        self.https = EmulatorServer(self.cloud, directory)
        self.session = self.cloud.assume_role(self.cloud.role_arn("worker"), "test", 3600)
        self.cloud.uri_credential = self.session

    def provider(self, uri: str = "", **cloud: Any) -> CredentialsUri:
        settings = CredentialsUriSettings(type="credentials_uri", credentials_uri=uri or self.http.credentials_uri)
        assert list(settings.problems()) == []
        return CredentialsUri(settings, ProviderContext("uploader", CloudSettings(**cloud)))

    def fetch(self, uri: str = "", timeout_s: float = 10.0, **cloud: Any) -> Credential:
        return self.provider(uri, **cloud).fetch(datetime.now(UTC), timeout_s)


@pytest.fixture
def addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Addresses]:
    """Both servers, running."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    made = Addresses(tmp_path)
    with made.http, made.https:
        yield made


def text(secret: Secret | None) -> str:
    assert secret is not None
    return secret.reveal()


def test_a_session(addresses: Addresses) -> None:
    """Id, secret, token and end are those that the server hands out."""
    found, handed_out = addresses.fetch(), addresses.session
    assert (found.access_key_id, text(found.access_key_secret), text(found.security_token)) == (
        handed_out.access_key_id, handed_out.access_key_secret, handed_out.security_token
    )  # fmt: skip
    assert found.expiration == datetime.fromtimestamp(int(handed_out.expires_at), UTC)


def test_an_access_key_has_no_end(addresses: Addresses) -> None:
    """With an empty SecurityToken it is an AccessKey, which is polled: Expiration says when to ask again, not a death."""
    addresses.cloud.add_user("uploader")
    addresses.cloud.uri_credential = addresses.cloud.add_access_key("uploader")
    found = addresses.fetch()
    assert (found.kind, found.expiration) == (Kind.ACCESS_KEY, None)
    assert addresses.provider().poll_interval_s == POLL_INTERVAL_S
    assert found == addresses.fetch()


def test_over_tls(addresses: Addresses) -> None:
    """https works with the CA that the config names, and with nothing less."""
    ca_file = FilePath(addresses.https.ca_file)
    assert addresses.fetch(addresses.https.credentials_uri, ca_file=ca_file).kind is Kind.STS
    with pytest.raises(UntrustedServerError, match=r"credentials\.uploader: 127\.0\.0\.1:\d+: its TLS certificate"):
        addresses.fetch(addresses.https.credentials_uri)


def test_path_and_query_are_sent_as_they_are(addresses: Addresses) -> None:
    """A capability in the query reaches the server."""
    addresses.fetch(addresses.http.credentials_uri + "?cap=a%2Fb&x=1")
    assert addresses.cloud.uri_queries[-1] == "cap=a%2Fb&x=1"


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, NotPermittedError), (403, NotPermittedError), (404, SourceRefusedError), (400, SourceRefusedError),
     (429, SourceUnavailableError), (500, SourceUnavailableError), (503, SourceUnavailableError)],
)  # fmt: skip
def test_error_statuses(addresses: Addresses, status: int, kind: type[Exception]) -> None:
    """A refusal stays one, trouble is tried again; the server is named by host and port."""
    addresses.cloud.fail_next(status, action="CredentialsUri")
    with pytest.raises(kind, match=rf"the credentials URI at {addresses.http.endpoint} answers with HTTP {status}"):
        addresses.fetch()


ANSWERS = {
    "an empty token and no end": ('"SecurityToken":"","Expiration":""', Kind.ACCESS_KEY),
    "no token and no end": ("", Kind.ACCESS_KEY),
    "null for both": ('"SecurityToken":null,"Expiration":null', Kind.ACCESS_KEY),
    "an old re-poll time": ('"SecurityToken":"","Expiration":"2001-01-01T00:00:00Z"', Kind.ACCESS_KEY),
    "a session with an offset": ('"SecurityToken":"t","Expiration":"2099-01-01T08:00:00+08:00"', Kind.STS),
}


@pytest.mark.parametrize("story", ANSWERS)
def test_what_is_accepted(addresses: Addresses, story: str) -> None:
    """A token makes a session; without one the end does not count."""
    more, kind = ANSWERS[story]
    body = '{"Code":"Success","AccessKeyId":"a","AccessKeySecret":"s"' + ("," if more else "") + more + "}"
    addresses.cloud.inject(Fault.WRONG_SHAPE, body=body, action="CredentialsUri")
    found = addresses.fetch()
    assert found.kind is kind
    assert (found.expiration is not None) == (kind is Kind.STS)
    assert found.expiration is None or found.expiration == datetime(2099, 1, 1, tzinfo=UTC)


def test_a_key_that_dies_without_a_token(addresses: Addresses) -> None:
    """The key of an RSA key pair's session has no token and dies all the same."""
    body = '{"Code":"Success","AccessKeyId":"TMPSK.a","AccessKeySecret":"s","Expiration":"2099-01-01T00:00:00Z"}'
    addresses.cloud.inject(Fault.WRONG_SHAPE, body=body, action="CredentialsUri")
    assert addresses.fetch().expiration == datetime(2099, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ('{"Code":"Success","AccessKeyId":"a","AccessKeySecret":"Canary","SecurityToken":"t"}', "no Expiration"),
        ('{"AccessKeyId":"a","AccessKeySecret":"Canary"}', "no Code"),
        ('{"Code":"Success","AccessKeySecret":"Canary"}', "no AccessKeyId"),
        ('{"Code":"Success","AccessKeyId":["Canary"],"AccessKeySecret":"Canary"}', "not a text"),
        ('{"Code":"Success","AccessKeyId":"a","AccessKeySecret":" Canary"}', "blank"),
    ],
)
def test_what_is_refused(addresses: Addresses, body: str, words: str, shown: Callable[[BaseException], str]) -> None:
    """What is missing is named, what is there is not shown."""
    addresses.cloud.inject(Fault.WRONG_SHAPE, body=body, action="CredentialsUri")
    with pytest.raises(BadAnswerError, match=words) as caught:
        addresses.fetch()
    assert "Canary" not in shown(caught.value)


@pytest.mark.parametrize(
    "uri", ["http://keys.example/Canary", "http://10.1.2.3/", "https://u:Canary@keys.example/", "Canary", "http:///x"]
)
def test_addresses_that_cannot_be(uri: str) -> None:
    """Plain http to another machine, a password in the URL and what is no URL are problems that do not repeat it."""
    settings = CredentialsUriSettings(type="credentials_uri", credentials_uri=uri)
    [(key, said)] = settings.problems()
    assert key == "credentials_uri"
    assert "Canary" not in said


def test_the_address_is_not_shown(addresses: Addresses) -> None:
    """Neither the settings' repr nor `check` show more of it than the server."""
    provider = addresses.provider(addresses.http.credentials_uri + "?cap=Canary")
    [finding] = provider.inspect()
    assert finding.text.endswith(addresses.http.endpoint)
    assert "Canary" not in f"{finding}{provider.settings!r}"
