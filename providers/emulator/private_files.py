"""Writing of private files: nobody else can read them at any moment, and nobody sees them half written."""

from __future__ import annotations

import os
from pathlib import Path
from secrets import token_hex

__all__ = ["make_private_directory", "write_private", "write_public"]


def make_private_directory(directory: Path) -> None:
    """Make `directory` for its owner alone; one that exists is left as it is."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)


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
