"""Mounts that only the test sees: read-only and full file systems, and single files that a container has mounted."""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import eventually

_CLONE_NEWNS, _MS_PRIVATE, _MS_REC, _MS_BIND = 0x20000, 0x40000, 0x4000, 0x1000  # linux/sched.h, linux/mount.h
_MS_RDONLY, _MS_REMOUNT = 1, 32
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


class Place:
    """A tiny file system of its own at a directory; for a test `with_mounts`, which takes it away again."""

    def __init__(self, path: Path, options: str = "size=64k") -> None:
        self.path = path
        path.mkdir(exist_ok=True)
        self._mount(f"mode=0755,{options}", 0)

    def _mount(self, options: str, flags: int) -> None:
        done = _LIBC.mount(b"tmpfs", os.fsencode(self.path), b"tmpfs", ctypes.c_ulong(flags), options.encode())
        assert done == 0, os.strerror(ctypes.get_errno())

    def fill(self) -> None:
        """Until not one block is left."""
        fd = os.open(self.path / "ballast", os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            while os.write(fd, b"x" * 4096):
                pass
        except OSError:
            pass
        finally:
            os.close(fd)

    def use_up_names(self) -> None:
        """Until not one inode is left."""
        try:
            for number in range(10_000):
                (self.path / f"ballast-{number}").touch()
        except OSError:
            return

    def empty(self) -> None:
        """The ballast goes over board."""
        for path in self.path.glob("ballast*"):
            path.unlink()

    def freeze(self) -> None:
        """Remount it read-only, as after an error of the disk."""
        eventually(lambda: self._remounted(_MS_RDONLY), "a publish holds a file open")

    def thaw(self) -> None:
        """Remount it writable."""
        assert self._remounted(0)

    def _remounted(self, flag: int) -> bool:
        return _LIBC.mount(b"", os.fsencode(self.path), b"", ctypes.c_ulong(_MS_REMOUNT | flag), None) == 0
