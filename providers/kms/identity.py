"""The RAM identities of a properties file (every `credentials_type` but `client_key`) as bases that can sign.

Sessions are not made here: that of an assumed role comes from the provider `ram_role_arn`, that of the instance's role
from `ecs_ram_role`, that of a token's role from `oidc_role_arn`. Each is imported only when it is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from agent.core.credential import Credential
from agent.core.errors import CredentialFileError
from agent.core.finding import Finding
from agent.core.provider import Base, Provider, ProviderContext
from agent.core.settings import Duration, FilePath, ProviderSettings
from agent.system.clock import Clock
from providers.kms.access import ByAccessKey, ByInstanceRole, ByOidcRole, ByRole

RamIdentity = ByAccessKey | ByRole | ByInstanceRole | ByOidcRole


def base_of(who: RamIdentity, context: ProviderContext) -> Base:
    """Make the base for an identity; no I/O.

    Raises:
        CredentialFileError: what the properties file says of it is impossible; the text names file and key.
    """
    if isinstance(who, ByAccessKey):
        return _InFile(who.file, who.key)
    if isinstance(who, ByRole):
        return _role(who, context)
    if isinstance(who, ByOidcRole):
        return _oidc_role(who, context)
    return _instance_role(who, context)


def _role(who: ByRole, context: ProviderContext) -> Base:
    from providers.ram_role_arn import RamRoleArn, RamRoleArnSettings

    settings = RamRoleArnSettings(
        type="ram_role_arn",
        role_arn=who.role_arn,
        role_session_name=who.session_name,
        policy=who.policy,
        base=f"the AccessKey in {who.file}",
    )
    _refuse_impossible(settings, who.file)
    # The AccessKey is no credential of the config and has no settings there: it is handed over as it is.
    key = _InFile(who.file, who.key)
    return _OfProvider(RamRoleArn(settings, replace(context, base_of=lambda _: key)))


def _instance_role(who: ByInstanceRole, context: ProviderContext) -> Base:
    from providers.ecs_ram_role import EcsRamRoleSettings

    settings = EcsRamRoleSettings(type="ecs_ram_role", role_name=who.role_name)
    _refuse_impossible(settings, who.file)
    return context.base_of(settings)


def _oidc_role(who: ByOidcRole, context: ProviderContext) -> Base:
    from providers.oidc_role_arn import OidcRoleArnSettings

    settings = OidcRoleArnSettings(
        type="oidc_role_arn",
        role_arn=who.role_arn,
        oidc_provider_arn=who.provider_arn,
        oidc_token_file_path=FilePath(who.token_file) if who.token_file else None,
        role_session_name=who.session_name,
        policy=who.policy,
        role_session_expiration=Duration(who.duration_s or 3600),
        sts_endpoint=who.sts_endpoint,
    )
    _refuse_impossible(settings, who.file)
    return context.base_of(settings)


_KEYS = {"role_session_expiration": "credentials_duration_seconds"}
"""A key of a provider's settings -> that of the properties file, where it is not the same after `credentials_`."""


def _refuse_impossible(settings: ProviderSettings, file: str) -> None:
    for key, sentence in settings.problems():
        raise CredentialFileError(f"{file}: {_KEYS.get(key, f'credentials_{key}')}: {sentence}", "correct that line")


@dataclass(frozen=True, slots=True)
class _InFile:
    """A base for an AccessKey in the properties file, which is read again for each fetch."""

    file: str
    key: Credential

    def newest(self, timeout_s: float) -> Credential:
        return self.key

    def inspect(self) -> Iterator[Finding]:
        yield Finding("ok", "", f"{self.file}: AccessKey {self.key.access_key_id} is read from it")

    def close(self) -> None:
        pass


@dataclass(frozen=True, slots=True)
class _OfProvider:
    """A provider as a base."""

    provider: Provider

    def newest(self, timeout_s: float) -> Credential:
        return self.provider.fetch(Clock().now(), timeout_s)

    def inspect(self) -> Iterator[Finding]:
        return self.provider.inspect()

    def close(self) -> None:
        self.provider.close()
