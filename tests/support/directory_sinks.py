"""What the tests of the `directory` sink share: sinks, and how a reader looks at one."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.core.settings import FilePath
from agent.sinks.formats.directory import DirectorySettings, DirectorySink, MemberSettings, member_of
from agent.sinks.formats.env_file import EnvFile
from agent.sinks.formats.json_file import JsonFile
from tests.support import sinks as sinkworld
from tests.support.sinks import Plug, key, plugged

NAMES = ["aliyun.env", "credential.json"]


def env_member(name: str = "aliyun.env", **more: Any) -> MemberSettings:
    """`{ type = "env_file", name = … }`."""
    return member_of(EnvFile)(type="env_file", name=name, **more)


def json_member(name: str = "credential.json") -> MemberSettings:
    """`{ type = "json", name = … }`."""
    return member_of(JsonFile)(type="json", name=name)


def directory(path: Path, *members: MemberSettings, **more: Any) -> DirectorySink:
    """A directory sink, by default of an env file and a JSON file."""
    files = members or (env_member(), json_member())
    return DirectorySink(DirectorySettings(type="directory", path=FilePath(path), files=files, **more))


def store_of(sink: DirectorySink) -> Path:
    """Where its generations are."""
    path = Path(sink.path)
    return path.with_name(f".{path.name}.keyturn")


def generations(sink: DirectorySink) -> list[str]:
    """The names in its store."""
    return sorted(os.listdir(store_of(sink))) if store_of(sink).exists() else []


def read(sink: DirectorySink) -> dict[str, bytes]:
    """What a careful reader sees: the directory is opened once."""
    fd = os.open(sink.path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return {name: _read(fd, name) for name in sorted(os.listdir(fd))}
    finally:
        os.close(fd)


def _read(dir_fd: int, name: str) -> bytes:
    fd = os.open(name, os.O_RDONLY, dir_fd=dir_fd)
    try:
        return os.read(fd, 1 << 16)
    finally:
        os.close(fd)


def expected(sink: DirectorySink, number: int) -> dict[str, bytes]:
    """What that reader shall see."""
    return dict(sorted(sink.render(key(number), number).items()))


def beside(sink: DirectorySink) -> list[str]:
    """Everything of ours beside the link but the store."""
    path = Path(sink.path)
    return [name for name in os.listdir(path.parent) if name not in (path.name, store_of(sink).name)]


@contextmanager
def pulled(at: int, act: Callable[[str], None]) -> Iterator[Plug]:
    """As `plugged`, with the calls that make and remove directories and links."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sinkworld, "CALLS", (*sinkworld.CALLS, "symlink", "mkdir", "rmdir"))
        with plugged(at, act) as plug:
            yield plug


def modes(sink: DirectorySink) -> set[tuple[str, str]]:
    """Kind and mode of everything below the store."""
    found = [path.lstat() for path in store_of(sink).rglob("*")]
    kinds = {stat.S_IFDIR: "directory", stat.S_IFREG: "file", stat.S_IFLNK: "link"}
    return {(kinds.get(stat.S_IFMT(each.st_mode), "other"), f"{stat.S_IMODE(each.st_mode):04o}") for each in found}
