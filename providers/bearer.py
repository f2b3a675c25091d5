"""`bearer`: a bearer token from a file or an environment variable, published and watched for changes.

It has no AccessKey and signs nothing, so it is never verified by GetCallerIdentity.
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
class BearerSettings(StaticSettings):
    """The settings of `type = "bearer"`."""

    PARTS: ClassVar[tuple[str, ...]] = ("bearer_token",)

    bearer_token_from_file_path: FilePath | None = None
    bearer_token_from_env_variable: str | None = None


class Bearer(StaticProvider):
    """The provider of `type = "bearer"`."""

    type_name: ClassVar[str] = "bearer"
    Settings: ClassVar[type[ProviderSettings]] = BearerSettings
    settings: BearerSettings

    def _made_of(self, values: Mapping[str, str]) -> Credential:
        return Credential(bearer_token=Secret(values["bearer_token"]))
