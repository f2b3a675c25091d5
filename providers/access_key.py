"""`access_key`: a static AccessKey from files or environment variables: published, watched for change, never invented.

Also the usual authority of an emergency (`[credentials.NAME.emergency]`). Files are read anew at each look,
so a replaced key is found; variables are those that keyturn was started with.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from agent.core.credential import Credential
from agent.core.errors import KeyturnError
from agent.core.provider import Finding, Provider
from agent.core.secret import Secret
from agent.core.settings import FilePath, ProviderSettings
from providers.parts import Part


@dataclass(frozen=True, kw_only=True)
class AccessKeySettings(ProviderSettings):
    """`type = "access_key"`."""

    access_key_id_from_file_path: FilePath | None = None
    access_key_id_from_env_variable: str | None = None
    access_key_secret_from_file_path: FilePath | None = None
    access_key_secret_from_env_variable: str | None = None

    @property
    def parts(self) -> tuple[Part, Part]:
        """The id and the secret."""
        return (
            Part(
                "access_key_id", self.access_key_id_from_file_path, self.access_key_id_from_env_variable, private=False
            ),
            Part("access_key_secret", self.access_key_secret_from_file_path, self.access_key_secret_from_env_variable),
        )

    def problems(self) -> Iterator[tuple[str, str]]:
        """Say what is wrong with these settings, as (key, sentence)."""
        for part in self.parts:
            yield from part.problems()


class AccessKey(Provider):
    """The provider."""

    type_name: ClassVar[str] = "access_key"
    Settings: ClassVar[type[ProviderSettings]] = AccessKeySettings
    settings: AccessKeySettings

    def _fetch(self, timeout_s: float) -> Credential:
        access_key_id, secret = (self._read(part) for part in self.settings.parts)
        return Credential(access_key_id=access_key_id, access_key_secret=Secret(secret))

    def _read(self, part: Part) -> str:
        try:
            return part.read(self.context.environ)
        except KeyturnError as error:
            problem = f"credentials.{self.context.credential}: {part.name}: {error.problem}"
            raise type(error)(problem, error.remedy, code=error.code) from None

    def inspect(self) -> Iterator[Finding]:
        """Say for each part whether it is there and private."""
        for part in self.settings.parts:
            place = f"credentials.{self.context.credential}.provider.{part.name}"
            try:
                part.read(self.context.environ)
            except KeyturnError as error:
                yield Finding("error", place, error.problem, error.remedy)
            else:
                yield Finding("ok", place, f"read from {part.file or 'the variable ' + str(part.variable)}")
