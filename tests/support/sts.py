"""An emulated account with a role to assume, and what every provider of sessions has to stand."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agent.cloud.transport import Transport
from agent.core.credential import Credential
from agent.core.errors import (
    BadAnswerError,
    KeyturnError,
    NotPermittedError,
    SourceRefusedError,
    SourceUnavailableError,
)
from agent.core.finding import Finding
from agent.core.provider import Provider, ProviderContext
from agent.core.secret import Secret
from agent.core.settings import CloudSettings, FilePath, ProviderSettings
from providers.emulator import Cloud, EmulatorServer, Fault

Fetch = Callable[..., Credential]


class FixedBase:
    """A base that gives a value, or fails."""

    def __init__(self, value: Credential | KeyturnError) -> None:
        self.value = value
        self.closed = False
        self.delay_s = 0.0

    def newest(self, timeout_s: float) -> Credential:
        time.sleep(self.delay_s)
        if isinstance(self.value, KeyturnError):
            raise self.value
        return self.value

    def inspect(self) -> Iterator[Finding]:
        yield Finding("ok", "the base", "is there")

    def close(self) -> None:
        self.closed = True


class StsWorld:
    """The account: user `admin` with a key that may assume roles, role `app`, an emulator that is running."""

    def __init__(self, directory: Path, certificate: Any = "good") -> None:
        self.directory = directory
        self.cloud = Cloud()
        self.cloud.add_user("admin", "sts:AssumeRole")
        self.cloud.add_role("app")
        self.key = self.cloud.add_access_key("admin")
        self.base = FixedBase(
            Credential(access_key_id=self.key.access_key_id, access_key_secret=Secret(self.key.access_key_secret))
        )
        self.server = EmulatorServer(self.cloud, directory / "emulator", certificate=certificate)
        self.ca_file: FilePath | None = FilePath(self.server.ca_file)
        self.environ: dict[str, str] = {}
        self.hostname = "vm1"

    @property
    def role_arn(self) -> str:
        return self.cloud.role_arn("app")

    def context(self, name: str = "app") -> ProviderContext:
        cloud = CloudSettings(ca_file=self.ca_file, sts_endpoint=self.server.endpoint)
        return ProviderContext(name, cloud, self.hostname, self.environ, lambda settings: self.base)

    def fetch(self, provider: Provider, timeout_s: float = 10.0) -> Credential:
        return provider.fetch(datetime.now(UTC), timeout_s)


def lives_for(value: Credential, seconds: float) -> bool:
    """Whether a value ends about so long from now."""
    assert value.expiration is not None
    return abs(value.expiration - datetime.now(UTC) - timedelta(seconds=seconds)) < timedelta(seconds=60)


REFUSALS: dict[str, tuple[int, type[KeyturnError], int]] = {
    "Throttling.User": (429, SourceUnavailableError, 75),
    "InternalError": (500, SourceUnavailableError, 75),
    "ServiceUnavailable": (503, SourceUnavailableError, 75),
    "NoPermission": (403, NotPermittedError, 77),
    "EntityNotExist.Role": (404, SourceRefusedError, 1),
    "InvalidParameter": (400, SourceRefusedError, 1),
    "InvalidParameter.RoleArn": (400, SourceRefusedError, 1),
    "InvalidParameter.RoleSessionName": (400, SourceRefusedError, 1),
    "InvalidParameter.DurationSeconds": (400, SourceRefusedError, 1),
    "InvalidParameter.PolicyGrammar": (400, SourceRefusedError, 1),
    "InvalidParameter.PolicySize": (400, SourceRefusedError, 1),
    "InvalidParameter.ExternalId": (400, SourceRefusedError, 1),
    "InvalidAccessKeyId.NotFound": (404, SourceRefusedError, 1),
    "InvalidAccessKeyId.Inactive": (403, SourceRefusedError, 1),
    "SignatureDoesNotMatch": (400, SourceRefusedError, 1),
    "InvalidSecurityToken.Expired": (400, SourceRefusedError, 1),
    "InvalidSecurityToken.Malformed": (400, SourceRefusedError, 1),
    "InvalidSecurityToken.MismatchWithAccessKey": (400, SourceRefusedError, 1),
    "MissingSecurityToken": (400, SourceRefusedError, 1),
    "AuthenticationFail.NoPermission": (401, NotPermittedError, 77),
    "AuthenticationFail.OIDCToken.Expired": (401, SourceRefusedError, 1),
    "AuthenticationFail.OIDCToken.Invalid": (401, SourceRefusedError, 1),
}
"""Code -> status, leaf, exit code (FACTS: STS error codes)."""


def gives_no_session(world: StsWorld, fetch: Fetch, body: str, words: str) -> None:
    """A reply of the wrong shape: named, retried, never quoted."""
    world.cloud.inject(Fault.WRONG_SHAPE, body=body)
    with pytest.raises(BadAnswerError, match=r"credentials\.app: ") as caught:
        fetch()
    assert words in caught.value.problem
    assert "Canary" not in f"{caught.value!r}{caught.value}"


@contextmanager
def no_trust(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Transports forget the CAs that they were told of."""
    with monkeypatch.context() as patch:
        patch.setattr("agent.cloud.transport.context_for", lambda ca_files: _context_for(()))
        yield


def _context_for(ca_files: tuple[str, ...]) -> Any:
    from agent.cloud.tls import context_for

    return context_for(ca_files)


def record_posts(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, str], str]]:
    """Let requests through and keep (query, headers, body) of each."""
    sent: list[tuple[str, dict[str, str], str]] = []
    inner = Transport.post

    def post(self: Transport, endpoint: str, query: str, **given: Any) -> Any:
        sent.append((query, dict(given["headers"]), given.get("body", b"").decode()))
        return inner(self, endpoint, query, **given)

    monkeypatch.setattr(Transport, "post", post)
    return sent


def complaints(settings: ProviderSettings) -> list[str]:
    """The keys that `problems()` names; each complaint must say something."""
    found = list(settings.problems())
    assert all(sentence for _, sentence in found)
    return [key for key, _ in found]
