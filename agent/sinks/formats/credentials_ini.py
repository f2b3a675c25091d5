"""`credentials_ini`: one profile of the file that `alibabacloud_credentials` and its siblings read.

Facts about the reader, measured with alibabacloud_credentials 1.0.12 (`provider/profile.py`): `#` cuts a value,
`%` breaks interpolation, quotes are kept, a byte order mark or a section that occurs twice makes the file
unreadable, `enable` is ignored, and `type = sts` is refused, though Alibaba documents it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from agent.core.credential import Credential, Kind
from agent.core.settings import FileSinkSettings
from agent.sinks.formats import ini_editor
from agent.sinks.formats.text import required_part, unsafe
from agent.sinks.interface import FileSink

_TOKEN = "security_token"
_KEYS = ("enable", "type", "access_key_id", "access_key_secret", _TOKEN)


@dataclass(frozen=True, kw_only=True)
class CredentialsIniSettings(FileSinkSettings):
    """The settings of `type = "credentials_ini"`."""

    profile: str = "default"

    def target_keys(self) -> Iterator[str]:
        """Yield the profile, which no other sink may write, and its keys, which no `ini` sink may write."""
        yield f"{self.path} [{self.profile}]"
        yield from (f"{self.path} [{self.profile}] {key}" for key in _KEYS)

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (key, sentence) for what the types cannot rule out."""
        if fault := ini_editor.section_fault(self.profile):
            yield "profile", fault


class CredentialsIni(FileSink):
    """A sink for one profile. Every other line of the file stays byte for byte."""

    type_name = "credentials_ini"
    Settings = CredentialsIniSettings

    @property
    def target(self) -> str:
        """The file and the profile."""
        return f"{self.path} [{self.settings.profile}]"

    def render(self, present: bytes | None, credential: Credential, generation: int) -> bytes:
        """Set the profile's keys; see `FileSink.render`."""
        values = self._values(credential)
        drop = frozenset({_TOKEN}) - values.keys()
        try:
            return ini_editor.edit(present or b"", self.settings.profile, values, drop)
        except ini_editor.DuplicateSectionError:
            raise self.refuse(
                f"the section [{self.settings.profile}] occurs more than once, and the SDKs refuse such a file",
                "join the two sections into one",
            ) from None

    def warnings_for(self, credential: Credential) -> tuple[str, ...]:
        """Warn of readers that cannot use a session from this file; see `FileSink.warnings_for`."""
        if credential.kind is not Kind.STS:
            return ()
        return (
            f"{self.target}: alibabacloud_credentials for Python refuses `type = sts` in this file; "
            "use a sink of type aliyun_cli or env_file, or one of type json and let the application serve that file as "
            "its credentials_uri",
        )

    def _values(self, credential: Credential) -> dict[str, str]:
        names = ["access_key_id", "access_key_secret"]
        if credential.kind is Kind.STS:
            names.append(_TOKEN)
        values = {"enable": "true", "type": str(credential.kind)}
        for name in names:
            values[name] = self._part(credential, name)
        return values

    def _part(self, credential: Credential, name: str) -> str:
        value = required_part(self, credential, name)
        if not ini_editor.is_plain(value):
            raise unsafe(self, name)
        return value
