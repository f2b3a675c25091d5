"""`access_key`: a static AccessKey from files or environment variables, published and watched for changes.

It is also the usual authority of an emergency (`[credentials.NAME.emergency]`). providers/static_parts.py says how its
parts are read, and what happens while an id and its secret are replaced one after the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from agent.core.credential import Credential
from agent.core.secret import Secret
from agent.core.settings import FilePath, ProviderSettings
from providers.static_parts import StaticProvider, StaticSettings


@dataclass(frozen=True, kw_only=True)
class AccessKeySettings(StaticSettings):
    """The settings of `type = "access_key"`."""

    PARTS: ClassVar[tuple[str, ...]] = ("access_key_id", "access_key_secret")

    access_key_id_from_file_path: FilePath | None = None
    access_key_id_from_env_variable: str | None = None
    access_key_secret_from_file_path: FilePath | None = None
    access_key_secret_from_env_variable: str | None = None


class AccessKey(StaticProvider):
    """The provider of `type = "access_key"`."""

    type_name: ClassVar[str] = "access_key"
    Settings: ClassVar[type[ProviderSettings]] = AccessKeySettings
    settings: AccessKeySettings

    def _made_of(self, values: Mapping[str, str]) -> Credential:
        return Credential(access_key_id=values["access_key_id"], access_key_secret=Secret(values["access_key_secret"]))
