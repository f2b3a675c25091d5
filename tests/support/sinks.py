"""What the tests of the sinks share: values, sinks, and the hand that pulls the plug."""

from __future__ import annotations

import ctypes
import errno
import functools
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from agent.core.credential import Credential
from agent.core.secret import Secret
from agent.core.settings import FilePath
from agent.sinks.formats.credentials_ini import CredentialsIni, CredentialsIniSettings
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


_CLONE_NEWNS, _MS_PRIVATE, _MS_REC, _MS_BIND = 0x20000, 0x40000, 0x4000, 0x1000  # linux/sched.h, linux/mount.h
_LIBC = ctypes.CDLL(None, use_errno=True)


def _mount(source: Path | str, path: Path | str, flags: int) -> bool:
    return _LIBC.mount(os.fsencode(source), os.fsencode(path), None, ctypes.c_ulong(flags), None) == 0


def with_mounts(test: Callable[..., None]) -> Callable[..., None]:
    """Run a test in a thread with a mount namespace of its own, which takes its mounts with it whatever happens."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        def alone() -> None:
            if _LIBC.unshare(_CLONE_NEWNS) or not _mount("none", "/", _MS_REC | _MS_PRIVATE):
                pytest.skip("this process may not mount: it needs root, and more than most containers give it")
            test(*args, **kwargs)

        with ThreadPoolExecutor(1) as thread:
            thread.submit(alone).result()

    return run


def bind_mount(path: Path, source: Path) -> None:
    """Mount a file or directory over another; for a test `with_mounts`."""
    assert _mount(source, path, _MS_BIND), os.strerror(ctypes.get_errno())


def unmount(path: Path) -> None:
    """Take a mount away again."""
    assert _LIBC.umount(os.fsencode(path)) == 0, os.strerror(ctypes.get_errno())


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
def plugged(at: int, act: Callable[[str], None]) -> Iterator[Plug]:
    """Replace the real calls for the length of a block: the one place where a kernel is imitated."""
    plug = Plug(at, act)
    with pytest.MonkeyPatch.context() as patch:
        for name in CALLS:
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
