"""`env_file`: `KEY=value` lines for systemd's EnvironmentFile=, docker --env-file, a shell, or dotenv.

Values are written unquoted, because docker keeps quotes: all that Alibaba issues means itself in all four dialects. A value
with another character, which a shell would expand, stands in single quotes for all but docker; no value has such a quote
(`is_plain`). `:` means itself (an expiration has it): a shell expands only `~` after it. Lines end in a line feed even in a
file with CRLF: a shell would take the CR for part of the value.

`export KEY=…` of a chosen variable stays exported for the readers that know the word, and loses it for systemd and
docker, which do not.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from agent.core.credential import Credential
from agent.core.errors import SinkError
from agent.core.settings import FileSinkSettings
from agent.sinks.formats.env_lines import Dialect, Entry, UnclosedError, entries, unreadable
from agent.sinks.formats.text import Part, chosen_part, is_plain, split_mark, terminate, value_of, without_token
from agent.sinks.interface import FileSink

Preset = Literal["alibaba_cloud", "oss"]

PRESETS: Mapping[Preset, Mapping[str, Part]] = {
    "alibaba_cloud": {
        "ALIBABA_CLOUD_ACCESS_KEY_ID": "access_key_id",
        "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "access_key_secret",
        "ALIBABA_CLOUD_SECURITY_TOKEN": "security_token",
    },
    "oss": {
        "OSS_ACCESS_KEY_ID": "access_key_id",
        "OSS_ACCESS_KEY_SECRET": "access_key_secret",
        "OSS_SESSION_TOKEN": "security_token",
    },
}
"""The variables that alibabacloud_credentials 1.0 and oss2's EnvironmentVariableCredentialsProvider read."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MEANS_ITSELF = re.compile(r"[A-Za-z0-9+/=._:-]+")


@dataclass(frozen=True, kw_only=True)
class EnvFileSettings(FileSinkSettings):
    """The settings of `type = "env_file"`."""

    variables: tuple[Preset, ...] | Mapping[str, Part] = ("alibaba_cloud",)
    dialect: Dialect = "systemd"

    @property
    def names(self) -> dict[str, Part]:
        """Variable -> the part that it holds."""
        if isinstance(self.variables, Mapping):
            return dict(self.variables)
        return {name: held for preset in self.variables for name, held in PRESETS[preset].items()}

    def target_keys(self) -> Iterator[str]:
        """Yield the variables, which no other sink may write."""
        return (f"{self.path} {name}" for name in self.names)

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (key, sentence) for what the types cannot rule out."""
        if not self.variables:
            yield "variables", 'name at least one variable or preset, such as ["alibaba_cloud"]'
        for name in self.variables:
            if not _NAME.fullmatch(name):
                yield "variables", f"{name!r} is not the name of a variable: want letters, digits and underscores"


class EnvFile(FileSink):
    """A sink for the lines of the chosen variables. All others stay byte for byte."""

    type_name = "env_file"
    Settings: ClassVar[type[FileSinkSettings]] = EnvFileSettings

    def render(self, present: bytes | None, credential: Credential, generation: int) -> bytes:
        """Set the chosen variables; see `FileSink.render`."""
        names = self.settings.names
        return self._with(present, {name: self._value(credential, held) for name, held in names.items()})

    def _with(self, present: bytes | None, values: Mapping[str, str | None]) -> bytes:
        """Return the file with these variables; a line whose value is None goes."""
        mark, content = split_mark(present or b"")
        found = list(self._entries(content))
        self._refuse_what_does_more(found, values.keys())
        exported = _exported(found, values.keys())
        lines: list[bytes] = []
        missing, place = dict(values), None  # where a new variable goes: beside the others, else to the end
        before = Entry(b"")
        for entry in found:
            if entry.key not in values:
                lines.append(entry.raw)
                before = entry
            elif (value := missing.pop(entry.key, None)) is not None:  # a second assignment would win, so it is dropped
                self._refuse_swallowed(before)
                lines.append(self._line(entry.key, value, entry.key in exported))
                before, place = entry, len(lines)
        added = [self._line(name, value, bool(exported)) for name, value in missing.items() if value is not None]
        if added and place is None:
            self._refuse_swallowed(before)
            terminate(lines)
            place = len(lines)
        lines[place:place] = added
        # Behind a byte order mark most readers would not know our variable.
        after = b"".join(lines)
        after = after if not found or found[0].key in values else mark + after
        self._refuse_unreadable(after)
        return after

    def read_back(self, content: bytes) -> Credential | None:
        """Read the chosen variables where they stand as they are written here; see `Sink.read_back`."""
        names = self.settings.names
        try:
            found = {names[one.key]: _plain_value(one.raw) for one in self._entries(content) if one.key in names}
        except SinkError:
            return None
        return value_of(found.get)

    def warnings_for(self, credential: Credential) -> tuple[str, ...]:
        """Warn when a session would lack its token; see `FileSink.warnings_for`."""
        return without_token(self, credential, self.settings.names.values(), "variables")

    def _entries(self, content: bytes) -> Iterator[Entry]:
        try:
            yield from entries(content, self.settings.dialect)
        except UnclosedError as error:
            raise self.refuse(
                f"line {error.args[0]} opens a quote or a command, or ends in a backslash, and the file ends before it is closed",
                "mend that line, or correct `dialect`",
            ) from None

    def _value(self, credential: Credential, held: str) -> str | None:
        return chosen_part(self, credential, held)

    def _line(self, name: str, value: str, exported: bool) -> bytes:
        word = "export " if exported and self.settings.dialect in ("shell", "dotenv") else ""
        quote = "" if self.settings.dialect == "docker" or _MEANS_ITSELF.fullmatch(value) else "'"
        return f"{word}{name}={quote}{value}{quote}\n".encode()

    def _refuse_what_does_more(self, found: Sequence[Entry], ours: Collection[str]) -> None:
        """Refuse lines that could not be kept if our variables are set, and one behind which nothing of ours is read."""
        last = max((number for number, entry in enumerate(found) if entry.key in ours), default=len(found))
        line = 1
        for number, entry in enumerate(found):
            if touched := sorted(entry.touches.intersection(ours)):
                raise self.refuse(
                    f"line {line} does more than give {touched[0]} a value, and the rest of it would be lost",
                    f"give {touched[0]} a line of its own: `export {touched[0]}=...`",
                )
            if entry.leaves and number < last:
                raise self.refuse(f"line {line} ends the file for the shell, above our lines", "remove that line")
            line += entry.raw.count(b"\n")

    def _refuse_unreadable(self, content: bytes) -> None:
        """Refuse a file of which its reader takes nothing at all, whatever our lines are."""
        if fault := unreadable(content, self.settings.dialect):
            line, why = fault
            raise self.refuse(f"line {line} {why}, so {self.settings.dialect} refuses the whole file", "mend that line")

    def _refuse_swallowed(self, before: Entry) -> None:
        if before.swallows:
            raise self.refuse(
                "a comment above our line ends in a backslash, and systemd before 254 takes our line for a part of it",
                "remove that backslash",
            )


def _plain_value(raw: bytes) -> str | None:
    """Return the value of an assignment that all dialects read alike; None for another one."""
    value = raw.partition(b"=")[2].strip().decode("utf-8", "replace")
    inner = value[1:-1] if len(value) > 1 and value[0] == value[-1] == "'" else value
    return inner if is_plain(inner) else None


def _exported(found: Iterable[Entry], ours: Collection[str]) -> set[str]:
    """Return the variables of ours that the file exports, wherever it says so."""
    assigned = {entry.key for entry in found if entry.exported and entry.key in ours}
    return assigned.union(*(entry.exports.intersection(ours) for entry in found))
