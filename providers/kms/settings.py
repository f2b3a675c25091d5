"""The settings of `kms_secret`: the access, inline or by the official client's `secretsmanager.properties`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from agent.core.settings import Duration, FilePath, ProviderSettings
from providers.kms import properties
from providers.kms.access import Access, ByClientKey, Region, access_of
from providers.kms.password import PasswordSource
from providers.kms.secret_data import FIELD_NAMES

__all__ = ["KmsSecretSettings", "Region"]

_SECRET_NAME = re.compile(r"[A-Za-z0-9_/+=.@:-]{1,512}")  # a name (KMS: 1 to 192 characters) or an ARN


@dataclass(frozen=True, kw_only=True)
class KmsSecretSettings(ProviderSettings):
    """The settings of `type = "kms_secret"`."""

    secret_name: str
    poll_interval: Duration = field(default=Duration(60))
    version_stage: str = "ACSCurrent"
    properties_file: FilePath | None = None
    client_key_private_key_path: FilePath | None = None
    client_key_password_from_file_path: FilePath | None = None
    client_key_password_from_env_variable: str | None = None
    regions: tuple[Region, ...] = ()
    ca_file: FilePath | None = None
    fields: Mapping[str, str] = field(default_factory=dict)

    def own_secrets(self) -> Iterator[str]:
        """Yield the secret's name: another credential may ask for the same."""
        yield self.secret_name

    def access(self, environ: Mapping[str, str]) -> Access:
        """Return the access, from the properties file as it is now or from these settings.

        Args:
            environ: where `$CREDENTIALS_DIRECTORY` is looked up.

        Raises:
            CredentialFileError: the properties file is missing, malformed, contradicts itself, or holds a secret
                that others can read.
            NotPermittedError: the agent's user may not read it.
        """
        if self.properties_file:
            return access_of(properties.read(self.properties_file, environ), environ)
        password = PasswordSource(self.client_key_password_from_env_variable, self.client_key_password_from_file_path)
        return Access(ByClientKey(str(self.client_key_private_key_path), password), self.regions)

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (key, sentence) for what the types cannot rule out."""
        if not _SECRET_NAME.fullmatch(self.secret_name):
            yield "secret_name", "want the name or the ARN of a secret"
        if not self.version_stage:
            yield "version_stage", 'want a stage such as "ACSCurrent"'
        yield from self._problems_of_properties() if self.properties_file else self._problems_inline()
        yield from self._problems_of_fields()

    def _problems_of_properties(self) -> Iterator[tuple[str, str]]:
        for key in _INLINE_KEYS:
            if getattr(self, key):
                yield key, "stands in the properties file already; want either properties_file or the inline keys"

    def _problems_inline(self) -> Iterator[tuple[str, str]]:
        if not self.client_key_private_key_path:
            yield "properties_file", "missing; want either properties_file or client_key_private_key_path"
            return
        if not (self.client_key_password_from_file_path or self.client_key_password_from_env_variable):
            yield "client_key_password_from_file_path", "missing; say where the ClientKey's password is"
        if not self.regions:
            yield "regions", 'missing; want for example [{ region_id = "cn-hangzhou" }]'
        for index, region in enumerate(self.regions):
            if problem := region.problem():
                yield f"regions[{index}]", problem

    def _problems_of_fields(self) -> Iterator[tuple[str, str]]:
        for name in self.fields:
            if name not in FIELD_NAMES:
                yield f"fields.{name}", f"unknown; want one of {', '.join(FIELD_NAMES)}"
        for name in ("access_key_id", "access_key_secret"):
            if self.fields and not self.fields.get(name):
                yield f"fields.{name}", "missing; say which key of the secret's JSON it is"


_INLINE_KEYS = (
    "client_key_private_key_path",
    "client_key_password_from_file_path",
    "client_key_password_from_env_variable",
    "regions",
)
