"""`credentials_ini`: one profile of the file that `alibabacloud_credentials` and its siblings read.

Facts about the reader, measured with alibabacloud_credentials 1.0.12 (`provider/profile.py`): `#` cuts a value,
`%` breaks interpolation, quotes are kept, a byte order mark or a section that occurs twice makes the file
unreadable, `enable` is ignored, and `type = sts` is refused, though Alibaba documents it. It reads all sections before it
looks for its own, so a fault anywhere is one of ours: a file that it could not read afterwards is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from agent.core.credential import Credential, Kind
from agent.core.settings import FileSinkSettings
from agent.sinks.formats import ini_editor
from agent.sinks.formats.text import required_part, value_of
from agent.sinks.interface import FileSink

_TOKEN = "security_token"
_TYPES = frozenset(map(str, (Kind.ACCESS_KEY, Kind.STS)))
_TYPE = re.compile(r"[a-z_]{1,32}")
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
            self._refuse_another_type(present or b"")
            content = ini_editor.edit(present or b"", self.settings.profile, values, drop)
        except ini_editor.DuplicateSectionError:
            raise self.refuse(
                f"the section [{self.settings.profile}] occurs more than once, and the SDKs refuse such a file",
                "join the two sections into one",
            ) from None
        except ini_editor.ByteOrderMarkError as error:
            raise self.refuse(*error.args) from None
        if fault := ini_editor.unreadable(content, with_interpolation=True):
            # The line is that of the file as people see it, where it was at fault before.
            fault = ini_editor.unreadable(present or b"", with_interpolation=True) or fault
            raise self.refuse(f"{fault}, so the SDKs cannot read this file", "mend it, or name another `path`")
        return content

    def read_back(self, content: bytes) -> Credential | None:
        """Read the profile as Alibaba's SDK for Python does; see `Sink.read_back`."""
        try:
            found = ini_editor.values(content, self.settings.profile)
        except ini_editor.DuplicateSectionError:
            return None
        if found.get("type", "") not in _TYPES:
            return None
        return value_of(found.get)

    def _refuse_another_type(self, present: bytes) -> None:
        """Refuse a profile that gets its value otherwise, as `aliyun_cli` does: somebody may rely on it."""
        found = ini_editor.values(present, self.settings.profile).get("type", "")
        if found and found not in _TYPES:
            shown = f"type {found}" if _TYPE.fullmatch(found) else "another type than access_key and sts"
            raise self.refuse(
                f"the profile [{self.settings.profile}] is of {shown}, and whoever relies on it would lose it",
                "name another `profile`, or take that one away",
            )

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
            values[name] = required_part(self, credential, name)
        return values
