"""What a traced process did to files, in order and in the words of the model of a power cut (power_cut.py).

A file is named by where it was born, "start PATH" or "made NUMBER PATH": the kernel uses inode numbers again.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from tracing import HARMLESS, Stop

Thing = str


@dataclass(frozen=True)
class Attributes:
    """Of a file, as `stat` says."""

    mode: int
    uid: int
    gid: int
    mtime_ns: int
    size: int

    @classmethod
    def of(cls, found: os.stat_result) -> Attributes:
        return cls(stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid, found.st_mtime_ns, found.st_size)


@dataclass(frozen=True)
class Step:
    """One call that came back well.

    Attributes:
        kind: create, mkdir, rename, unlink (of names); write, truncate, attributes (of things); sync, sync data,
            sync names.
        path: below the root; where it is from, for a rename.
        thing: the file; for `sync names` and `mkdir` the directory's path.
        to: where a rename leads.
        after: of the thing, when the call was over.
        heard: how long each dependent's list of what it heard was then.
    """

    kind: str
    path: str
    thing: Thing = ""
    to: str = ""
    data: bytes = field(default=b"", repr=False)
    offset: int = 0
    after: Attributes | None = None
    heard: dict[str, int] = field(default_factory=dict)


class Recorder:
    """Watches one process."""

    def __init__(self, root: str, heard: Path) -> None:
        self._root, self._heard = root, heard
        self.steps: list[Step] = []
        self._things: dict[int, Thing] = {}
        self._made = 0
        self._existed: dict[int, bool] = {}
        for place, _names, files in os.walk(root):
            for name in files:
                path = os.path.join(place, name)
                self._things[os.lstat(path).st_ino] = f"start {path.removeprefix(root)}"

    def enter(self, stop: Stop, paths: list[str]) -> None:
        """What can only be seen before the call."""
        self._existed[stop.tid] = os.path.lexists(paths[0])

    def leave(self, stop: Stop, paths: list[str], result: int) -> None:
        """The call came back; one that failed changed nothing."""
        existed = self._existed.pop(stop.tid)
        if result < 0 or stop.call in HARMLESS:
            return
        below = [path.removeprefix(self._root) if path.startswith(self._root) else "." for path in paths]
        step = self._step(stop, below, result, existed)
        if step is not None:
            self.steps.append(step)

    def _step(self, stop: Stop, paths: list[str], result: int, existed: bool) -> Step | None:
        call, path, heard = stop.call, paths[0], self._lengths()
        if call.startswith(("open", "creat")):
            return self._opened(stop, path, result, existed)
        if call.startswith("rename"):
            return Step("rename", path, self._at(self._root + paths[1]), paths[1], heard=heard)
        if call.startswith("unlink"):
            return Step("unlink", path, heard=heard)
        if call.startswith("mkdir"):
            return Step("mkdir", path, path, after=Attributes.of(os.stat(self._root + path)), heard=heard)
        place = f"/proc/{stop.tid}/fd/{stop.descriptor(0)}"
        found = os.stat(place)
        thing, after = self._things.get(found.st_ino, path), Attributes.of(found)
        if call in ("fsync", "fdatasync"):
            kind = "sync names" if stat.S_ISDIR(found.st_mode) else "sync" if call == "fsync" else "sync data"
            return Step(kind, path, path if kind == "sync names" else thing, heard=heard)
        if call in ("write", "pwrite64"):
            offset = stop.arguments[3] if call == "pwrite64" else _position(stop) - result
            return Step("write", path, thing, "", stop.bytes_at(1, result), offset, after, heard)
        if call == "ftruncate":
            return Step("truncate", path, thing, after=after, heard=heard)
        if call in ("fchmod", "fchown") or (call == "utimensat" and not stop.arguments[1]):
            return Step("attributes", path, thing, after=after, heard=heard)
        raise AssertionError(f"the model of a power cut does not know what {call} {path} does")

    def _opened(self, stop: Stop, path: str, result: int, existed: bool) -> Step | None:
        found = os.stat(f"/proc/{stop.tid}/fd/{result}")
        if existed:
            flags = stop.arguments[1 if stop.call == "open" else 2]
            assert not flags & os.O_TRUNC, f"the model does not know of O_TRUNC ({path})"
            return None
        self._made += 1
        self._things[found.st_ino] = f"made {self._made} {path}"
        return Step("create", path, self._things[found.st_ino], after=Attributes.of(found), heard=self._lengths())

    def _at(self, path: str) -> Thing:
        return self._things[os.lstat(path).st_ino]

    def _lengths(self) -> dict[str, int]:
        return {file.name: file.stat().st_size for file in self._heard.iterdir()}


def _position(stop: Stop) -> int:
    with open(f"/proc/{stop.tid}/fdinfo/{stop.descriptor(0)}") as info:
        return int(info.readline().split()[1])
