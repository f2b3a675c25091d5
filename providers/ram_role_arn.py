"""`ram_role_arn`: a session of a RAM role, from AssumeRole, signed with the AccessKey or session of a base.

Each fetch asks the base for its newest value and STS for one new session.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from agent.cloud.failures import ServiceError
from agent.cloud.openapi import RoleSession, Sts
from agent.cloud.transport import Transport
from agent.core.client_keys import CLIENT_KEY
from agent.core.credential import Credential, Kind
from agent.core.errors import KeyturnError, NotPermittedError, SourceRefusedError, SourceUnavailableError
from agent.core.finding import Finding
from agent.core.provider import Provider, ProviderContext
from agent.core.settings import Problems, ProviderSettings
from agent.system.clock import Clock
from providers.static_parts import told_as
from providers.sts_sessions import RoleSettings, SessionReader, default_session_name, role_arn_fault

_EXTERNAL_ID = re.compile(r"[A-Za-z0-9_+=,.@:/-]{2,1224}")


@dataclass(frozen=True, kw_only=True)
class RamRoleArnSettings(RoleSettings):
    """The settings of `type = "ram_role_arn"`."""

    role_arn: str
    base: ProviderSettings | str  # whose key signs: another credential of this config, or a provider of its own
    external_id: str | None = None  # what the role's trust policy may ask for (sts:ExternalId)

    def problems(self) -> Problems:
        """Yield (key, sentence) for what the types cannot rule out."""
        yield from super().problems()
        if fault := role_arn_fault(self.role_arn):
            yield "role_arn", fault
        if self.external_id is not None and not _EXTERNAL_ID.fullmatch(self.external_id):
            yield "external_id", 'want 2 to 1224 letters, digits and "_", "+", "=", ",", ".", "@", ":", "/", "-"'


class RamRoleArn(Provider):
    """The provider of `type = "ram_role_arn"`."""

    type_name: ClassVar[str] = "ram_role_arn"
    Settings: ClassVar[type[ProviderSettings]] = RamRoleArnSettings
    settings: RamRoleArnSettings

    def __init__(self, settings: Any, context: ProviderContext) -> None:
        super().__init__(settings, context)
        self._base = context.base_of(settings.base)
        self._sts = Sts(Transport(context.cloud.ca_file), settings.sts_endpoint or context.cloud.sts)

    def _fetch(self, timeout_s: float) -> Credential:
        ends = time.monotonic() + timeout_s
        place = f"credentials.{self.context.credential}"
        try:
            found = self._base.newest(timeout_s)
        except KeyturnError as error:  # of ours names its place already, of a third party's may not
            raise error if error.place else error.at(place) from None
        with told_as(place):
            return self._assume(_able_to_sign(found), ends - time.monotonic())

    def _assume(self, identity: Credential, timeout_s: float) -> Credential:
        if timeout_s <= 0:
            raise SourceUnavailableError("its base took all the time there was", "it is tried again by itself")
        answer = self._sts.assume_role(
            self._wanted(),
            identity,
            external_id=self.settings.external_id,
            now=Clock().now(),
            timeout_s=timeout_s,
            judge=_not_permitted,
        )
        return SessionReader("AssumeRole", self._sts.endpoint).read_role_session(answer)

    def _wanted(self) -> RoleSession:
        return RoleSession(
            role_arn=self.settings.role_arn,
            session_name=self.settings.role_session_name or default_session_name(self.context),
            duration_s=int(self.settings.role_session_expiration),
            policy=self.settings.policy,
        )

    def inspect(self) -> Iterator[Finding]:
        """Yield the findings of the base; only STS knows the role itself."""
        yield from self._base.inspect()
        place = f"credentials.{self.context.credential}.provider.role_arn"
        yield Finding("ok", place, f"{self.settings.role_arn} is asked for at {self._sts.endpoint}")

    def close(self) -> None:
        """Close the base."""
        self._base.close()


def _able_to_sign(identity: Credential) -> Credential:
    """Return the identity, and refuse one that cannot sign AssumeRole before anything is sent."""
    remedy = "name a base that gives an AccessKey or a session of a RAM identity"
    if identity.kind is Kind.BEARER:
        raise SourceRefusedError("its base gives a bearer token, which cannot sign AssumeRole", remedy)
    if identity.access_key_id.startswith(CLIENT_KEY):
        raise SourceRefusedError("its base gives a ClientKey, which may read secrets and nothing else", remedy)
    return identity


def _not_permitted(failed: ServiceError) -> KeyturnError | None:
    """Return an error that names both possible reasons.

    AssumeRole gives the same answer where the caller has no permission for it and where the role's trust policy does not
    name the caller (RAM, "FAQ about RAM roles and STS tokens").
    """
    if not failed.code.startswith("NoPermission"):
        return None
    return NotPermittedError(
        f"{failed.host} does not let the base's identity assume the role: {failed.name}",
        "grant it sts:AssumeRole on the role, and let the role's trust policy name it, with this external_id if it asks for "
        "one: `keyturn policy` prints both; an account's own key cannot assume roles",
        code=failed.code,
    )
