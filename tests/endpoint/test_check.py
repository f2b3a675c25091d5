"""What `check` says of the endpoint: the address, who is let in, and whether the kernel speaks."""

from __future__ import annotations

import errno
import socket

import pytest

from agent.core.settings import (
    AgentSettings,
    CredentialSettings,
    EndpointSettings,
    FilePath,
    ProviderSettings,
    ServeSettings,
    Settings,
)
from agent.endpoint import check
from agent.sinks.formats.credentials_uri import CredentialsUriSettings
from tests.support.scraper import free_port


def settings(port: int | None, serve: ServeSettings | None = None) -> Settings:
    """A config with one URI."""
    sink = CredentialsUriSettings(type="credentials_uri", path=FilePath("/run/app/uri.env"))
    credential = CredentialSettings(provider=ProviderSettings(type="access_key"), sinks=(sink,), serve=serve)
    endpoint = EndpointSettings(listen=f"127.0.0.1:{port}") if port else None
    return Settings(credentials={"app": credential}, agent=AgentSettings(endpoint=endpoint))


def found(config: Settings) -> list[tuple[str, str]]:
    return [(one.level, one.place) for one in check.findings(config)]


def test_nothing_is_said_without_an_endpoint() -> None:
    """The config says it already where a sink wants one."""
    assert found(settings(None)) == []


def test_a_token_that_opens_by_itself_is_warned_of() -> None:
    """Unless `serve` says who may ask."""
    port = free_port()
    assert found(settings(port)) == [("ok", "agent.endpoint.listen"), ("warning", "credentials.app.serve")]
    assert found(settings(port, ServeSettings(users=("app",)))) == [("ok", "agent.endpoint.listen")]


def test_an_address_in_use_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else's: the SDKs would send their tokens there."""
    monkeypatch.setattr("agent.http.check.ASK_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert found(settings(taken.getsockname()[1], ServeSettings(users=("app",)))) == [
            ("error", "agent.endpoint.listen")
        ]


def test_a_kernel_that_does_not_say_who_asks_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a sandbox without AF_NETLINK."""

    def refuse(_channel: socket.socket) -> None:
        raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")

    monkeypatch.setattr(check, "tcp_peer", refuse)
    assert ("warning", "agent.endpoint") in found(settings(free_port()))
