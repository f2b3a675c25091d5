"""Whether a file is still the one that was looked at, in the state that it was in then."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """Which file it is and which state of it: a file that was replaced, edited or given away has another one."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, found: os.stat_result) -> Self:
        """Return that of a file just looked at."""
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)

    @classmethod
    def of_link(cls, path: str) -> Self | None:
        """Return that of what lies at a path, be it a link; None where nothing does, or it may not be looked at."""
        try:
            return cls.of(os.lstat(path))
        except OSError:
            return None

    @classmethod
    def at(cls, path: str) -> Self | None:
        """Return that of the file at the end of a path; None where there is none, or it may not be looked at."""
        try:
            return cls.of(os.stat(path))
        except OSError:
            return None
