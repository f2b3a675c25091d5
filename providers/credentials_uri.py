"""`credentials_uri`: an AccessKey or session from a URL that speaks the JSON protocol of Alibaba's SDKs.

Protocol: alibabacloud-credentials 1.0.12, `provider/uri.py`: GET, HTTP 200, `{"Code": "Success", "AccessKeyId": …,
"AccessKeySecret": …, "SecurityToken": …, "Expiration": …}`; no header says who asks. An empty or missing SecurityToken
means an AccessKey, which is polled (providers/session_json.py says why its Expiration does not count).

Decisions: https anywhere, with TLS verified; plain http only where it does not leave this machine, since the reply holds
the key. The URL's path or query may hold a token that lets the caller in, so messages name only its host and port.
Redirects are not followed, and a proxy sees nothing but the host of an https address.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar
from urllib.parse import urlsplit

from agent.cloud.transport import Transport, url_fault
from agent.core.credential import Credential
from agent.core.finding import Finding
from agent.core.provider import Provider, ProviderContext
from agent.core.settings import ProviderSettings
from providers.session_json import (
    ANSWER_LIMIT_BYTES,
    CLOUD,
    cloud_object,
    credential_of,
    require_session,
    status_error,
)
from providers.static_parts import told_as

CONNECT_S = 5.0
READ_S = 10.0
"""The SDK's read timeout."""


@dataclass(frozen=True, kw_only=True)
class CredentialsUriSettings(ProviderSettings):
    """The settings of `type = "credentials_uri"`."""

    credentials_uri: str = field(repr=False)

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (key, sentence) for what the types cannot rule out."""
        fault = url_fault(self.credentials_uri)
        if fault:
            yield "credentials_uri", fault


class CredentialsUri(Provider):
    """The provider of `type = "credentials_uri"`."""

    type_name: ClassVar[str] = "credentials_uri"
    Settings: ClassVar[type[ProviderSettings]] = CredentialsUriSettings
    settings: CredentialsUriSettings

    def __init__(self, settings: Any, context: ProviderContext) -> None:
        super().__init__(settings, context)
        self._transport = Transport(context.cloud.ca_file)

    @property
    def _server(self) -> str:
        return f"the credentials URI at {urlsplit(self.settings.credentials_uri).netloc}"

    def _fetch(self, timeout_s: float) -> Credential:
        with told_as(f"credentials.{self.context.credential}"):
            reply = self._transport.request(
                "GET",
                self.settings.credentials_uri,
                headers={"Accept": "application/json"},
                timeout_s=timeout_s,
                connect_s=CONNECT_S,
                read_s=READ_S,
                limit_bytes=ANSWER_LIMIT_BYTES,
                plain=True,
            )
            if reply.status != 200:
                raise status_error(reply.status, self._server, "check credentials_uri, and what its server lets in")
            found = credential_of(cloud_object(reply.body, self._server), CLOUD, self._server)
            require_session(found, CLOUD, self._server)
            return found

    def inspect(self) -> Iterator[Finding]:
        """Yield which server is asked. Uses no network."""
        yield Finding("ok", f"credentials.{self.context.credential}.provider", f"asks {self._server}")
