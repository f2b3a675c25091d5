"""The built-in providers by their names in the config, and how to write one.

A provider is one class behind `agent.core.provider.Provider`, which is the contract; this is a whole one, and
docs/example_provider/ is its package::

    import json
    from dataclasses import dataclass

    from agent.core.credential import Credential
    from agent.core.errors import BadAnswerError
    from agent.core.provider import Provider
    from agent.core.secret import Secret
    from agent.core.settings import FilePath, ProviderSettings


    @dataclass(frozen=True, kw_only=True)
    class JsonFileSettings(ProviderSettings):  # the keys of [credentials.NAME.provider]
        path: FilePath


    class JsonFile(Provider):
        type_name, Settings = "json_file", JsonFileSettings

        def _fetch(self, timeout_s):  # callers use fetch(), which refuses unusable answers for every provider
            try:
                with open(self.settings.path, encoding="utf-8") as file:
                    found = json.load(file)
                return Credential(access_key_id=found["id"], access_key_secret=Secret(found["secret"]))
            except (OSError, ValueError, LookupError, TypeError) as error:
                why = f"{self.settings.path} gives no id and secret ({type(error).__name__})"
                # `from None`: a decoder's exception holds what it read.
                raise BadAnswerError(f"credentials.{self.context.credential}: {why}", "look at that file") from None

Its package names it in the entry-point group `keyturn.providers` (`json_file = "keyturn_json_file:JsonFile"`), and
`type = "json_file"` works in the config like a built-in type. What it may import, which errors it raises, what keyturn
does when it raises, hangs or answers rubbish, and the optional parts: docs/third_party.md.

A module here is imported only when a credential uses it, because imports decide how much memory the daemon takes.
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
    "function_compute": "providers.function_compute:FunctionCompute",
    "kms_secret": "providers.kms.secret:KmsSecret",
    "oidc_role_arn": "providers.oidc_role_arn:OidcRoleArn",
    "process": "providers.process:Process",
    "ram_role_arn": "providers.ram_role_arn:RamRoleArn",
    "ram_user": "providers.ram_user:RamUser",
    "rsa_key_pair": "providers.rsa_key_pair:RsaKeyPair",
    "sts": "providers.sts:Sts",
}
"""Type in the config -> "module:Class". A third party cannot take one of these names."""


def names() -> tuple[str, ...]:
    """Return every type that can be loaded here, third parties' included, sorted."""
    return tuple(sorted({*BUILT_IN, *(name for name, _ in _installed())}))


def known(type_name: str) -> bool:
    """Return whether `load` knows a type. Packages are looked through only for one that is not built in."""
    return type_name in BUILT_IN or type_name in dict(_installed())


def load(type_name: str) -> type[Provider]:
    """Import the class of a type.

    Raises:
        KeyError: there is no such type; `names()` has those that there are.
        ConfigError: a third party's provider cannot be imported or is none.
    """
    target = BUILT_IN.get(type_name) or dict(_installed())[type_name]
    module, _, attribute = target.partition(":")
    found, failure = _imported(module, attribute)
    if failure:
        raise ConfigError([f"provider {type_name} ({target}) cannot be imported: {failure}"])
    if not (isinstance(found, type) and issubclass(found, Provider)):
        raise ConfigError([f"provider {type_name} ({target}) is not a subclass of agent.core.provider.Provider"])
    if not isinstance(getattr(found, "type_name", None), str):
        raise ConfigError([f"provider {type_name} ({target}) has no type_name; report it to its author"])
    return found


def _imported(module: str, attribute: str) -> tuple[object, str]:
    """Return the object and "", or None and the type of the exception. Its text may hold anything, so it is not repeated."""
    try:
        return getattr(import_module(module), attribute), ""
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit too: a package does not end keyturn
        return None, type(error).__name__


def _installed() -> tuple[tuple[str, str], ...]:
    from importlib.metadata import entry_points  # reads every installed package's; only for types that are not built in

    return tuple((each.name, each.value) for each in entry_points(group=ENTRY_POINTS))
