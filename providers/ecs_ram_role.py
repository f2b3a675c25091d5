"""`ecs_ram_role`: the session of the RAM role that this ECS instance carries, from the instance's metadata server.

Paths and headers: ECS documentation, "Instance metadata"; alibabacloud-credentials 1.0.12, `provider/ecs_ram_role.py`.
That class serves as a link of the `default` chain but not here: it has a fixed address, starts a scheduler thread for
each client, and falls back to the mode without tokens whenever anything fails.

Decisions:

* Hardened mode (a token by PUT, then GETs that carry it) is the only mode unless `imds_v1 = true`, which asks for no
  token at all. There is no fallback in either direction: whoever can make a PUT fail could otherwise have the agent
  speak the mode that a forged request of a web application can speak too.
* A token is used until a minute before its end, and thrown away when it is refused. So a restored snapshot, or a
  restarted metadata service, costs one more call.
* The role's name is asked at each fetch, if the config does not give it: another role is then found without a restart.
* Plain http reaches nothing but this machine's own addresses, and never goes through a proxy.
* ALIBABA_CLOUD_ECS_METADATA_DISABLED is meant for the SDKs' default chain. A config that names this provider overrides
  it; `check` warns of the contradiction.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import urlsplit

from agent.cloud.transport import Reply, Transport, url_fault
from agent.core.credential import Credential
from agent.core.errors import SourceRefusedError, SourceUnavailableError
from agent.core.finding import Finding
from agent.core.provider import Provider, ProviderContext
from agent.core.secret import Secret
from agent.core.settings import ProviderSettings
from agent.system.clock import Clock
from providers.session_json import (
    ANSWER_LIMIT_BYTES,
    CLOUD,
    bad_answer,
    cloud_object,
    credential_of,
    require_session,
    status_error,
)
from providers.static_parts import told_as

TOKEN_PATH = "/latest/api/token"
ROLE_PATH = "/latest/meta-data/ram/security-credentials/"

TOKEN_TTL_S = 21600
"""Six hours: the longest life that the metadata server allows, and the one that the SDK asks for."""

TOKEN_SPARE_S = 60.0

CONNECT_S = 1.0
"""The SDK's connect timeout. The server is in the hypervisor, so one that needs longer is not there."""

READ_S = 2.0

_ROLE_NAME = re.compile(r"(?!\.+\Z)[A-Za-z0-9_.-]{1,64}")  # dots alone would be another path
_TOKEN = re.compile(r"[!-~]{1,1024}")

_NOT_ON_ECS = (
    "this provider works on ECS instances only; there, let http to the metadata server pass and start its service"
)
_ATTACH = "attach a RAM role to this instance (ECS console, or aliyun ecs AttachInstanceRamRole)"


@dataclass(frozen=True, kw_only=True)
class EcsRamRoleSettings(ProviderSettings):
    """The settings of `type = "ecs_ram_role"`."""

    role_name: str | None = None  # None: the metadata server says which
    imds_v1: bool = False
    metadata_endpoint: str = "http://100.100.100.200"

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (key, sentence) for what the types cannot rule out."""
        if self.role_name is not None and not _ROLE_NAME.fullmatch(self.role_name):
            yield "role_name", "want the name of a RAM role: letters, digits, '.', '_' and '-', at most 64"
        fault = url_fault(self.metadata_endpoint)
        if not fault and re.search(r"[/?]", self.metadata_endpoint.partition("://")[2].removesuffix("/")):
            fault = 'want a URL without a path, such as "http://100.100.100.200"'
        if fault:
            yield "metadata_endpoint", fault


class Metadata:
    """A client of the metadata server, in hardened mode or without tokens. It keeps a token from one fetch to the next."""

    def __init__(self, transport: Transport, endpoint: str, *, hardened: bool, clock: Clock | None = None) -> None:
        self._transport, self._endpoint, self._hardened = transport, endpoint.removesuffix("/"), hardened
        self._clock = clock or Clock()
        self._token: tuple[Secret, float] | None = None

    @property
    def name(self) -> str:
        """The server's name in messages."""
        return f"the metadata server {urlsplit(self._endpoint).netloc}"

    def get(self, path: str, ends: float) -> Reply:
        """Ask for a path, with a new token where the kept one is refused.

        Args:
            path: the path, beginning with `/`.
            ends: the instant of the monotonic clock at which the caller gives up.

        Raises:
            KeyturnError: no reply, or no token.
        """
        if not self._hardened:
            return self._send("GET", path, {}, ends)
        kept = self._living_token()
        reply = self._get_with(kept or self._new_token(ends), path, ends)
        if kept and reply.status in (401, 403):
            self._token = None
            reply = self._get_with(self._new_token(ends), path, ends)
        return reply

    def _get_with(self, token: Secret, path: str, ends: float) -> Reply:
        return self._send("GET", path, {"X-aliyun-ecs-metadata-token": token.reveal()}, ends)

    def _living_token(self) -> Secret | None:
        token, dies = self._token or (None, 0.0)
        return token if self._clock.boottime() < dies - TOKEN_SPARE_S else None

    def _new_token(self, ends: float) -> Secret:
        asked = self._clock.boottime()
        reply = self._send("PUT", TOKEN_PATH, {"X-aliyun-ecs-metadata-token-ttl-seconds": str(TOKEN_TTL_S)}, ends)
        if reply.status != 200:
            remedy = "set imds_v1 = true if this metadata server knows no tokens (hardened mode)"
            raise status_error(reply.status, f"{self.name}, asked for a token,", remedy)
        text = _line(reply.body)
        if not _TOKEN.fullmatch(text):
            raise bad_answer(self.name, "has no token in it")
        token = Secret(text)
        self._token = (token, asked + TOKEN_TTL_S)
        return token

    def _send(self, method: str, path: str, headers: Mapping[str, str], ends: float) -> Reply:
        try:
            return self._transport.request(
                method,
                self._endpoint + path,
                headers=headers,
                timeout_s=max(0.1, ends - time.monotonic()),
                connect_s=CONNECT_S,
                read_s=READ_S,
                limit_bytes=ANSWER_LIMIT_BYTES,
                plain=True,
            )
        except SourceUnavailableError as error:
            raise SourceUnavailableError(f"the metadata server: {error.problem}", _NOT_ON_ECS) from None


class EcsRamRole(Provider):
    """The provider of `type = "ecs_ram_role"`."""

    type_name: ClassVar[str] = "ecs_ram_role"
    Settings: ClassVar[type[ProviderSettings]] = EcsRamRoleSettings
    settings: EcsRamRoleSettings

    def __init__(self, settings: Any, context: ProviderContext) -> None:
        super().__init__(settings, context)
        transport = Transport(context.cloud.ca_file, proxies=False)
        self._metadata = Metadata(transport, self.settings.metadata_endpoint, hardened=not self.settings.imds_v1)

    def _fetch(self, timeout_s: float) -> Credential:
        ends = time.monotonic() + timeout_s
        with told_as(f"credentials.{self.context.credential}"):
            role = self.settings.role_name or self._role_of_instance(ends)
            reply = self._metadata.get(ROLE_PATH + role, ends)
            if reply.status == 404:
                raise SourceRefusedError(
                    f"{self._metadata.name} has no role {role} for this instance", f"correct role_name, or {_ATTACH}"
                )
            self._require_ok(reply)
            return self._session(reply.body)

    def _role_of_instance(self, ends: float) -> str:
        reply = self._metadata.get(ROLE_PATH, ends)
        role = _line(reply.body) if reply.status == 200 else ""
        if reply.status == 404 or (reply.status == 200 and not role):
            raise SourceRefusedError("no RAM role is attached to this instance", _ATTACH)
        self._require_ok(reply)
        if not _ROLE_NAME.fullmatch(role):
            raise bad_answer(self._metadata.name, "has no role's name in it")
        return role

    def _require_ok(self, reply: Reply) -> None:
        if reply.status != 200:
            remedy = "look at this instance's metadata options"
            if reply.status in (401, 403) and self.settings.imds_v1:
                remedy = "leave imds_v1 out: this instance answers in hardened mode only"
            raise status_error(reply.status, self._metadata.name, remedy)

    def _session(self, body: bytes) -> Credential:
        name = self._metadata.name
        found = credential_of(cloud_object(body, name), CLOUD, name)
        if found.security_token is None:
            raise bad_answer(name, "has no SecurityToken")
        require_session(found, CLOUD, name)
        return found

    def inspect(self) -> Iterator[Finding]:
        """Yield the metadata server's address, and a variable that contradicts the config. Uses no network."""
        place = f"credentials.{self.context.credential}.provider"
        yield Finding("ok", place, f"asks {self._metadata.name}{' without tokens' if self.settings.imds_v1 else ''}")
        if self.context.environ.get("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "").lower() == "true":
            yield Finding(
                "warning",
                place,
                "ALIBABA_CLOUD_ECS_METADATA_DISABLED is set, which this provider does not heed",
                "unset it, or take another provider",
            )


def _line(body: bytes) -> str:
    """Return the text of a short answer; the caller checks its characters by a pattern."""
    return body.decode("latin-1").strip()
