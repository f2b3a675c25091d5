"""What the tests of the sinks share: values, sinks, and the hand that pulls the plug."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from agent.core.credential import Credential
from agent.core.secret import Secret
from agent.core.settings import FilePath
from agent.sinks.formats.credentials_ini import CredentialsIni, CredentialsIniSettings
from agent.sinks.formats.directory import DirectorySettings, DirectorySink, MemberSettings, member_of
from agent.sinks.formats.env_file import EnvFile, EnvFileSettings
from agent.sinks.formats.json_file import JsonFile, JsonSettings
from agent.sinks.interface import FileSink
from agent.sinks.transaction import transaction

EXPIRATION = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)


def key(number: int = 1) -> Credential:
    """A long-term AccessKey; its secret belongs to its id, so that a mixture shows."""
    return Credential(access_key_id=f"LTAI5tKey{number:06}", access_key_secret=Secret(f"secretOf{number:06}"))


def session(number: int = 1) -> Credential:
    """An STS session."""
    return Credential(
        access_key_id=f"STS.Key{number:06}",
        access_key_secret=Secret(f"secretOf{number:06}"),
        security_token=Secret(f"CAISt0ken/of+{number:06}=="),
        expiration=EXPIRATION,
    )


def bearer() -> Credential:
    """A bearer token."""
    return Credential(bearer_token=Secret("eyJhbGciOi.J9.sig-nature_"))


def ini(path: Path, **more: Any) -> CredentialsIni:
    """A credentials_ini sink."""
    return CredentialsIni(CredentialsIniSettings(type="credentials_ini", path=FilePath(path), **more))


def env(path: Path, **more: Any) -> EnvFile:
    """An env_file sink."""
    return EnvFile(EnvFileSettings(type="env_file", path=FilePath(path), **more))


def json_file(path: Path, **more: Any) -> JsonFile:
    """A json sink."""
    return JsonFile(JsonSettings(type="json", path=FilePath(path), **more))


def publish(sinks: Sequence[FileSink], value: Credential, generation: int = 1) -> transaction.Survey:
    """Survey, stage and commit, without a state."""
    found = transaction.survey(sinks, value, generation)
    with found.stage() as staged:
        staged.commit()
    return found


def leftovers(directory: Path) -> list[str]:
    """Temporary files of ours below a directory."""
    return [str(path) for path in directory.rglob(".*.keyturn-*")]


CALLS = ("open", "fchmod", "fchown", "pwrite", "fsync", "rename", "unlink", "ftruncate", "utime")
"""The calls by which a publish changes anything."""


class Plug:
    """Counts the calls that change something, and does `act` in place of the one with the given number."""

    def __init__(self, at: int, act: Callable[[str], None]) -> None:
        self.at, self.act, self.count = at, act, 0

    def wrap(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if name != "open" or args[1] & os.O_CREAT:
                self.count += 1
                if self.count == self.at:
                    self.act(name)
            return real(*args, **kwargs)

        return call


@contextmanager
def plugged(at: int, act: Callable[[str], None], calls: Sequence[str] = CALLS) -> Iterator[Plug]:
    """Replace the real calls for the length of a block: the one place where a kernel is imitated."""
    plug = Plug(at, act)
    with pytest.MonkeyPatch.context() as patch:
        for name in calls:
            patch.setattr(os, name, plug.wrap(name, getattr(os, name)))
        yield plug


def disk_full(name: str) -> None:
    """Fail the way a full disk does."""
    raise OSError(errno.ENOSPC, f"injected into {name}")


def save_journal(path: Path, journal: list[dict[str, Any]]) -> None:
    """What the state does at the point of no return."""
    path.write_text(json.dumps(journal))


def load_journal(path: Path) -> list[dict[str, Any]]:
    """The journal on disk; empty when the point of no return was not reached."""
    loaded: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []
    return loaded


# -- directory sinks ------------------------------------------------------------------------------

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
    with plugged(at, act, (*CALLS, "symlink", "mkdir", "rmdir")) as plug:
        yield plug


def modes(sink: DirectorySink) -> set[tuple[str, str]]:
    """Kind and mode of everything below the store."""
    found = [path.lstat() for path in store_of(sink).rglob("*")]
    kinds = {stat.S_IFDIR: "directory", stat.S_IFREG: "file", stat.S_IFLNK: "link"}
    return {(kinds.get(stat.S_IFMT(each.st_mode), "other"), f"{stat.S_IMODE(each.st_mode):04o}") for each in found}
