"""`ini`: chosen keys of one section of any INI file, under the names that its reader wants.

Presets are the names that two of Alibaba's tools use:

* `ossutil`: `[Credentials]` with `accessKeyID`, `accessKeySecret`, `stsToken` (ossutil 1.7 `lib/config.go`). ossutil 1
  knows several spellings of each (`lib/config_helper.go`) and takes one at random where two are there, so the other
  spellings go. ossutil 2 reads the same file, with its keys in `[default]` or `[profile NAME]` in any of those spellings
  (Alibaba: "Configure ossutil 2.0"): name that section. Its names are compared without regard to case, and `[NAME]` is short
  for `[profile NAME]`, so whichever spelling the file has is rewritten.
* `oss_config`: `alibaba_cloud_access_key_id`, `alibaba_cloud_access_key_secret` and, for a session,
  `alibaba_cloud_security_token`, read with configparser from a file of the application's own, under a section of its own.

Readers disagree about indented lines: for configparser they go on with the value above, for ossutil 1
(alyu/configparser) and the OSS SDK for Java (`IniEditor`) each line stands alone. What one of them would read
differently is refused rather than half updated.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from agent.core.credential import Credential
from agent.core.errors import SinkError
from agent.core.settings import FileSinkSettings
from agent.sinks.formats import ini_editor
from agent.sinks.formats.text import Part, chosen_part, value_of, without_token
from agent.sinks.interface import FileSink

PresetName = Literal["oss_config", "ossutil"]


@dataclass(frozen=True)
class Preset:
    """The keys that a known reader looks for.

    Attributes:
        keys: key -> the part that it holds.
        section: the section that the reader uses; None where that is the application's choice.
        spellings: other names by which the reader knows the same keys, in lower case: they are removed.
    """

    keys: Mapping[str, Part]
    section: str | None = None
    spellings: frozenset[str] = frozenset()


CREDENTIALS = "Credentials"
"""The section of ossutil 1, which compares letters as they are and skips blanks (alyu/configparser)."""

PRESETS: Mapping[PresetName, Preset] = {
    "oss_config": Preset(
        {
            "alibaba_cloud_access_key_id": "access_key_id",
            "alibaba_cloud_access_key_secret": "access_key_secret",
            "alibaba_cloud_security_token": "security_token",
        }
    ),
    "ossutil": Preset(
        {"accessKeyID": "access_key_id", "accessKeySecret": "access_key_secret", "stsToken": "security_token"},
        CREDENTIALS,
        frozenset(
            {"access_key_id", "access-key-id", "access_id", "access-id", "accessid"}
            | {"access_key_secret", "access-key-secret", "access_key", "access-key", "accesskey"}
            | {"sts_token", "sts-token"}
        ),
    ),
}

_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_MODES = {"ak": False, "ststoken": True}
"""ossutil's `mode` -> whether it then uses the token. Every other mode does not use these keys at all."""


@dataclass(frozen=True, kw_only=True)
class IniSettings(FileSinkSettings):
    """The settings of `type = "ini"`."""

    keys: PresetName | Mapping[str, Part]
    section: str | None = None  # None: the preset's

    @property
    def preset(self) -> Preset:
        """The chosen keys, with everything that is known of their reader."""
        return PRESETS[self.keys] if isinstance(self.keys, str) else Preset(self.keys)

    @property
    def section_name(self) -> str:
        """The section that is written; empty where none is named, which `problems` refuses."""
        return self.section if self.section is not None else self.preset.section or ""

    def target_keys(self) -> Iterator[str]:
        """Yield the keys of the section, which no other sink may write."""
        section = _ossutil_name(self.section_name) if self.keys == "ossutil" else self.section_name
        return (f"{self.path} [{section}] {key.lower()}" for key in self.preset.keys)

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (key, sentence) for what the types cannot rule out."""
        if not self.section_name and self.section is None:
            yield "section", "required here; name the section that the reader looks into"
        elif fault := ini_editor.section_fault(self.section_name):
            yield "section", fault
        if not self.keys:
            yield "keys", 'name at least one key, such as { accessKeyID = "access_key_id" }, or a preset'
        seen: set[str] = set()
        for key in self.preset.keys:
            if not _KEY.fullmatch(key):
                yield "keys", f"{key!r} is not the name of a key: want letters, digits, dots, dashes and underscores"
            elif key.lower() in seen:
                yield "keys", f"{key!r} differs from another key by upper and lower case only"
            seen.add(key.lower())


def _ossutil_name(section: str) -> str:
    """Return what the spellings of one section of ossutil's have in common; `Credentials` is one of ossutil 1, as it stands."""
    name = section.strip()
    return name if name == CREDENTIALS else name.lower().removeprefix("profile ").strip()


class Ini(FileSink):
    """A sink for the chosen keys. Every other line of the file stays byte for byte."""

    type_name = "ini"
    Settings = IniSettings
    settings: IniSettings

    @property
    def target(self) -> str:
        """The file and the section."""
        return f"{self.path} [{self.settings.section_name}]"

    def render(self, present: bytes | None, credential: Credential, generation: int) -> bytes:
        """Set the chosen keys; see `FileSink.render`."""
        keys = self.settings.preset.keys
        wanted = {key: chosen_part(self, credential, held) for key, held in keys.items()}
        values = {key: value for key, value in wanted.items() if value is not None}
        drop = self.settings.preset.spellings | (keys.keys() - values.keys())
        section = self._section(present or b"")
        try:
            content = ini_editor.edit(present or b"", section, values, drop)
        except ini_editor.DuplicateSectionError:
            raise self._twice() from None
        except ini_editor.ByteOrderMarkError as error:
            raise self.refuse(*error.args) from None
        self._refuse_what_is_read_otherwise(content, section, wanted)
        if self.settings.keys == "oss_config" and (fault := ini_editor.unreadable(content)):
            fault = ini_editor.unreadable(present or b"") or fault
            raise self.refuse(f"{fault}, so configparser cannot read this file", "mend that line")
        return content

    def read_back(self, content: bytes) -> Credential | None:
        """Read the chosen keys; see `Sink.read_back`."""
        try:
            read = ini_editor.read_lines(content, self._section(content))
        except (SinkError, ini_editor.DuplicateSectionError):
            return None
        found = {str(held): read.get(key.lower()) for key, held in self.settings.preset.keys.items()}
        return value_of(found.get)

    def warnings_for(self, credential: Credential) -> tuple[str, ...]:
        """Warn when a session would lack its token; see `FileSink.warnings_for`."""
        return without_token(self, credential, self.settings.preset.keys.values(), "keys")

    def _section(self, present: bytes) -> str:
        """Return the section's name as the file spells it; for ossutil several spellings are one section."""
        if self.settings.keys != "ossutil":
            return self.settings.section_name
        wanted = _ossutil_name(self.settings.section_name)
        found = [name for name in ini_editor.sections(present) if _ossutil_name(name) == wanted]
        if len(found) > 1:
            raise self._twice()
        return found[0] if found else self.settings.section_name

    def _twice(self) -> SinkError:
        return self.refuse(
            f"the section [{self.settings.section_name}] occurs more than once, and readers take different ones",
            "join the sections into one",
        )

    def _refuse_what_is_read_otherwise(self, content: bytes, section: str, wanted: Mapping[str, str | None]) -> None:
        """Read the section back line by line, and refuse it where a reader would find other values for our keys."""
        read = ini_editor.read_lines(content, section)
        for key, value in wanted.items():
            if read.get(key.lower()) != value:
                raise self.refuse(
                    f"an indented line of [{self.settings.section_name}] sets {key} too, and readers disagree about it",
                    "remove that line, or its indentation",
                )
        if any(name in read for name in self.settings.preset.spellings):
            raise self.refuse(
                f"an indented line of [{self.settings.section_name}] sets one of our keys under another spelling",
                "remove that line, or its indentation",
            )
        if self.settings.keys == "ossutil":
            self._refuse_mode(read.get("mode", "").lower(), wanted["stsToken"] is not None)

    def _refuse_mode(self, mode: str, session: bool) -> None:
        if mode and _MODES.get(mode) is not session:
            raise self.refuse(
                f"`mode = {mode}` in [{self.settings.section_name}] makes ossutil use something else than this value",
                "remove that line: without it ossutil uses what is there",
            )
