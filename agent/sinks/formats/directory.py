"""`directory`: several files that a reader always finds in the same generation.

A reader of several files can open one before and one after a switch, however carefully each file is switched: with a
rename per file, a busy reader saw half of its pairs mixed at the instant of the switch. So here every generation is a
directory of its own, written whole before anybody can see it, and one symbolic link is switched:

    [[credentials.uploader.sinks]]
    type  = "directory"
    path  = "/run/uploader/credentials"    # a link, keyturn's own: -> .credentials.keyturn/000007-5f0c2a9e8b1d4c37
    owner = "uploader"
    mode  = "0640"                         # of the files; a directory lets in who may read them: here 0750
    keep  = 2                              # generations kept besides the newest, 1 to 10
    files = [
      { type = "env_file", name = "aliyun.env", dialect = "shell" },
      { type = "credentials_ini", name = "credentials.ini" },
    ]

The reader's part: open the directory once, and read all files relative to it (docs/sinks_directory.md).

Decisions:
* `files` takes the type of every other file sink with its own keys; `name` takes the place of `path`, and owner, group
  and mode are the directory's, for a set is useless to a reader who cannot open one of its files. Two entries may share a
  name if they could share a file.
* Every file is written from scratch: the directory is keyturn's, so no foreign line is kept, and one counts as drift.
* `keep` generations stay besides the newest, so that a reader who is in an old directory goes on reading. Each holds an
  older value; the price of a larger `keep` is that these stay on the disk for longer. The minimum is one: a reader may
  have opened the generation before the newest a moment ago.
* A link that leads elsewhere, a file or a directory at `path` is refused, never replaced: it belongs to somebody else.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import Field, dataclass, field, fields, make_dataclass
from functools import cache
from typing import Any, ClassVar, get_type_hints

from agent.core.credential import Credential
from agent.core.settings import FilePath, FileSinkSettings, Problems, SinkSettings
from agent.sinks.interface import NO_CONTEXT, FileSink, Sink, SinkContext
from agent.system.files import MAX_NAME_BYTES
from agent.system.trusted_directory import split

MAX_KEEP = 10
MAX_FILES = 64


@dataclass(frozen=True, kw_only=True)
class MemberSettings(SinkSettings):
    """One file of a `directory` sink. The class for a type is made from that sink's own settings: `member_of`."""

    name: str
    sink: ClassVar[type[FileSink]]

    def placed(self, directory: FileSinkSettings) -> FileSinkSettings:
        """Make the settings of an ordinary sink of this type, whose path leads through the link."""
        common = {key: getattr(directory, key) for key in ("owner", "group", "mode")}
        path = FilePath(f"{str(directory.path).rstrip('/')}/{self.name}")
        return self.sink.Settings(type=self.type, path=path, **common, **self._own())

    def _own(self) -> dict[str, Any]:
        return {each.name: getattr(self, each.name) for each in fields(self) if each.name not in ("type", "name")}

    def problems(self) -> Problems:
        """Yield a name that cannot be one, and the problems of the type itself."""
        if not self.name or "/" in self.name or self.name in (".", "..") or not self.name.isprintable():
            yield "name", 'want the name of a file in the directory, without "/", such as "aliyun.env"'
        elif len(os.fsencode(self.name)) > MAX_NAME_BYTES:
            yield "name", f"is longer than {MAX_NAME_BYTES} bytes"
        else:
            placed = self.placed(FileSinkSettings(type="directory", path=FilePath("/")))
            for cls in type(placed).__mro__:
                if "problems" in vars(cls):
                    yield from vars(cls)["problems"](placed)


@cache
def member_of(sink: type[FileSink]) -> type[MemberSettings]:
    """Return the settings class of a sink's type inside of a directory: its own keys and `name`."""
    common = {each.name for each in fields(FileSinkSettings)}
    hints = get_type_hints(sink.Settings, include_extras=True)
    own = [(each.name, hints[each.name], _again(each)) for each in fields(sink.Settings) if each.name not in common]
    inside = {"sink": sink, "__module__": sink.__module__, "__doc__": sink.Settings.__doc__}
    name = f"{sink.__name__}Member"
    return make_dataclass(name, own, bases=(MemberSettings,), namespace=inside, frozen=True, kw_only=True)


def _again(each: Field[Any]) -> Any:
    """Declare a field again: one `Field` cannot belong to two classes."""
    if each.default_factory is not field().default_factory:
        return field(default_factory=each.default_factory, repr=each.repr)
    return field(default=each.default, repr=each.repr)


@dataclass(frozen=True, kw_only=True)
class DirectorySettings(FileSinkSettings):
    """The settings of `type = "directory"`; `path` is that of the link, and `mode` that of the files."""

    files: tuple[MemberSettings, ...]
    keep: int = 2

    def problems(self) -> Problems:
        """Yield (key, sentence) for what the types cannot rule out."""
        if self.write != "replace":
            yield "write", "a directory is switched by its link and cannot be written in place; leave `write` out"
        if not 1 <= self.keep <= MAX_KEEP:
            yield "keep", f"want 1 to {MAX_KEEP} generations besides the newest"
        if not 1 <= len(self.files) <= MAX_FILES:
            yield "files", f'want 1 to {MAX_FILES} files, such as {{ type = "json", name = "credential.json" }}'
        if len(os.fsencode(split(self.path)[1])) > MAX_NAME_BYTES - len("..keyturn"):
            yield "path", "ends in a name that is too long: `.NAME.keyturn` has to fit beside it"
        yield from self._clashes()

    def _clashes(self) -> Problems:
        """Yield files with the same name that cannot share one file."""
        taken: dict[str, set[str]] = {}
        for number, member in enumerate(self.files):
            placed = member.placed(self)
            parts = {key.removeprefix(placed.path).strip() for key in placed.target_keys()}
            others = taken.setdefault(member.name, set())
            if others & parts or (others and "" in parts | others):
                yield f"files[{number}].name", "another file of this directory has this name; give it another one"
            others |= parts


class DirectorySink(Sink):
    """A sink for a directory of files, switched as one."""

    type_name = "directory"
    Settings = DirectorySettings

    def __init__(self, settings: DirectorySettings, context: SinkContext = NO_CONTEXT) -> None:
        """Make the sinks of its files; no I/O."""
        super().__init__(settings, context)
        self.files = tuple((member.name, member.sink(member.placed(settings), context)) for member in settings.files)

    @property
    def formats(self) -> tuple[str, ...]:
        """The types of its files."""
        return tuple(dict.fromkeys(sink.type_name for _, sink in self.files))

    @property
    def files_read(self) -> tuple[Sink, ...]:
        """Its files, behind the link."""
        return tuple(sink for _name, sink in self.files)

    def render(self, credential: Credential, generation: int) -> dict[str, bytes]:
        """Return name -> content of every file.

        Raises:
            SinkError: the value does not fit the format of one.
        """
        contents: dict[str, bytes] = {}
        for name, sink in self.files:
            contents[name] = sink.render(contents.get(name), credential, generation)
        return contents

    def inspect(self) -> tuple[str, ...]:
        """Return the warnings of `check` about the known readers of its files."""
        return tuple(self._said(lambda sink: sink.inspect()))

    def warnings_for(self, credential: Credential) -> tuple[str, ...]:
        """Return the warnings of `check` when the kind of value that will be written is known."""
        return tuple(self._said(lambda sink: sink.warnings_for(credential)))

    def _said(self, ask: Any) -> Iterator[str]:
        for name, sink in self.files:
            yield from (f"{name}: {text}" for text in ask(sink))
