"""The built-in providers by their names in the config, and how to write one.

A provider is one class behind `agent.core.provider.Provider`, which is the contract; this is a whole one::

    from dataclasses import dataclass

    from agent.core.credential import Credential
    from agent.core.errors import SourceUnavailableError
    from agent.core.provider import Provider
    from agent.core.secret import Secret
    from agent.core.settings import ProviderSettings
    from my_vault import Vault, VaultDown

    @dataclass(frozen=True, kw_only=True)
    class Settings(ProviderSettings):
        entry: str                                  # a key of [credentials.NAME.provider]

    class VaultProvider(Provider):
        type_name, Settings = "my_vault", Settings

        def _fetch(self, timeout_s):                # callers use fetch(), which refuses unusable answers
            try:
                found = Vault(timeout=timeout_s).read(self.settings.entry)
            except VaultDown:
                raise SourceUnavailableError(f"credentials.{self.context.credential}: the vault is down") from None
            return Credential(access_key_id=found.id, access_key_secret=Secret(found.secret))

Its package names it in the entry-point group `keyturn.providers` (`my_vault = "my_package:VaultProvider"`), and
`type = "my_vault"` works in the config like a built-in type. Optional: `Settings.problems()`, which yields (key,
sentence) pairs for `check`, and `inspect()`, `close()`, `poll_interval_s` of the contract.

A module here is imported only when a credential uses it: what is imported decides the daemon's size.
"""

from __future__ import annotations

from importlib import import_module

from agent.core.errors import ConfigError
from agent.core.provider import Provider

ENTRY_POINTS = "keyturn.providers"

BUILT_IN = {
    "access_key": "providers.access_key:AccessKey",
    "bearer": "providers.bearer:Bearer",
    "credentials_uri": "providers.credentials_uri:CredentialsUri",
    "default": "providers.default_chain:DefaultChain",
    "ecs_ram_role": "providers.ecs_ram_role:EcsRamRole",
    "kms_secret": "providers.kms_secret:KmsSecret",
    "oidc_role_arn": "providers.oidc_role_arn:OidcRoleArn",
    "process": "providers.process:Process",
    "ram_role_arn": "providers.ram_role_arn:RamRoleArn",
    "rsa_key_pair": "providers.rsa_key_pair:RsaKeyPair",
    "sts": "providers.sts:Sts",
}
"""Type in the config -> "module:Class". A third party cannot take one of these names."""


def names() -> tuple[str, ...]:
    """Every type that can be loaded here, third parties' included, sorted."""
    return tuple(sorted({*BUILT_IN, *(name for name, _ in _installed())}))


def load(type_name: str) -> type[Provider]:
    """Import the class of a type.

    Raises:
        KeyError: there is no such type; `names()` has those that there are.
        ConfigError: a third party's provider cannot be imported or is none.
    """
    target = BUILT_IN.get(type_name) or dict(_installed())[type_name]
    module, _, attribute = target.partition(":")
    try:
        found = getattr(import_module(module), attribute)
    except Exception as error:
        raise ConfigError([f"provider {type_name} ({target}) cannot be imported: {type(error).__name__}"]) from error
    if not (isinstance(found, type) and issubclass(found, Provider)):
        raise ConfigError([f"provider {type_name} ({target}) is not a subclass of agent.core.provider.Provider"])
    return found


def _installed() -> tuple[tuple[str, str], ...]:
    from importlib.metadata import entry_points  # about 1 MB; only for types that are not built in

    return tuple((each.name, each.value) for each in entry_points(group=ENTRY_POINTS))
