"""Writing of private files: nobody else can read them at any moment, and nobody sees them half written.

Configs are for everyone, and are the user's once they were edited: their first line has a digest of what was written below it.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from secrets import token_hex

__all__ = ["make_passable_directory", "make_private_directory", "write_config", "write_private", "write_public"]

_MARK = "# Written by `keyturn emulator`, which writes it anew at each start until it was edited: "


def make_private_directory(directory: Path) -> None:
    """Make `directory` for its owner alone; one that exists is left as it is."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)


def make_passable_directory(directory: Path) -> None:
    """Make `directory` for its owner, and for others who know a name in it; one that exists is left as it is."""
    try:
        directory.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        if not directory.is_dir():
            raise
        return
    directory.chmod(0o711)  # whatever the umask


def write_config(path: Path, text: str) -> bool:
    """Write or replace `path` as `write_public`, but for one that somebody edited; return whether it was written."""
    try:
        standing = path.read_bytes()
    except FileNotFoundError:
        pass
    else:
        first, _newline, rest = standing.partition(b"\n")
        if first != _mark(rest):
            return False
    write_public(path, _mark(text.encode()).decode() + "\n" + text)
    return True


def _mark(text: bytes) -> bytes:
    return f"{_MARK}{hashlib.sha256(text).hexdigest()[:16]}".encode()


def write_private(path: Path, data: bytes | str) -> None:
    """Write or replace `path` with mode 0600."""
    _write(path, data, 0o600)


def write_public(path: Path, data: bytes | str) -> None:
    """Write or replace `path`, readable for everyone who can reach it."""
    _write(path, data, 0o644)


def _write(path: Path, data: bytes | str, mode: int) -> None:
    """Write a new file beside the target and rename it: a reader sees the old content or the new, never less."""
    beside = path.with_name(f".{path.name}.{token_hex(8)}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
