"""`sts`: a session that somebody else renews, from files or environment variables, published and watched for changes.

keyturn cannot renew it. `expiration` (RFC 3339, such as 2026-01-01T00:00:00Z) is optional: with it keyturn knows when
the session dies, reads again in time, and raises the alarm; without it the parts are only polled. Write the expiration
last, or all files into one directory that is switched as a whole (providers/static_parts.py says why).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

from agent.core.credential import Credential
from agent.core.errors import CredentialFileError
from agent.core.secret import Secret
from agent.core.settings import FilePath, ProviderSettings
from agent.core.timestamps import moment_of
from providers.static_parts import StaticProvider, StaticSettings


@dataclass(frozen=True, kw_only=True)
class StsSettings(StaticSettings):
    """The settings of `type = "sts"`."""

    PARTS: ClassVar[tuple[str, ...]] = ("access_key_id", "access_key_secret", "security_token", "expiration")

    access_key_id_from_file_path: FilePath | None = None
    access_key_id_from_env_variable: str | None = None
    access_key_secret_from_file_path: FilePath | None = None
    access_key_secret_from_env_variable: str | None = None
    security_token_from_file_path: FilePath | None = None
    security_token_from_env_variable: str | None = None
    expiration_from_file_path: FilePath | None = None
    expiration_from_env_variable: str | None = None


class Sts(StaticProvider):
    """The provider of `type = "sts"`."""

    type_name: ClassVar[str] = "sts"
    Settings: ClassVar[type[ProviderSettings]] = StsSettings
    settings: StsSettings

    def _made_of(self, values: Mapping[str, str]) -> Credential:
        return Credential(
            access_key_id=values["access_key_id"],
            access_key_secret=Secret(values["access_key_secret"]),
            security_token=Secret(values["security_token"]),
            expiration=_moment(values["expiration"]) if "expiration" in values else None,
        )


def _moment(text: str) -> datetime:
    moment = moment_of(text)
    if moment is None:
        raise CredentialFileError("expiration: not a time", "write it like 2026-01-01T00:00:00Z")
    return moment
