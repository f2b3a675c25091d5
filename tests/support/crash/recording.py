"""What a traced process did to files, in order and in the words of the model of a power cut (power_cut.py).

A thing (a file, a directory or a link) is named by where it was born, "start PATH" or "made NUMBER PATH": the kernel
uses inode numbers again, and directories are renamed too.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.crash.tracing import HARMLESS, Stop

Thing = str
ROOT: Thing = "start ."
"""The directory that everything is below."""


@dataclass(frozen=True)
class Attributes:
    """Of a thing, as `stat` says."""

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
        kind: create, mkdir, symlink, rename, remove (of names); write, truncate, attributes (of things); sync, sync data.
        path: below the root; where it is from, for a rename.
        thing: what it was done to; for names what they lead to.
        parent: the directory of the name.
        to: the path that a rename leads to; what stands in a link.
        into: the directory that a rename leads into.
        after: of the thing, when the call was over.
        heard: how long each dependent's list of what it heard was then.
    """

    kind: str
    path: str
    thing: Thing
    parent: Thing = ""
    to: str = ""
    into: Thing = ""
    data: bytes = field(default=b"", repr=False)
    offset: int = 0
    after: Attributes | None = None
    heard: dict[str, int] = field(default_factory=dict)


class Recorder:
    """Watches one process."""

    def __init__(self, root: str, heard: Path) -> None:
        self._root, self._heard = root, heard
        self.steps: list[Step] = []
        self._things: dict[int, Thing] = {os.lstat(root).st_ino: ROOT}
        self._made = 0
        self._before: dict[int, Thing | None] = {}
        for place, names, files in os.walk(root):
            for name in (*names, *files):
                path = os.path.join(place, name)
                self._things[os.lstat(path).st_ino] = f"start {path.removeprefix(root)}"

    def enter(self, stop: Stop, paths: list[str]) -> None:
        """What can only be seen before the call: what its first path leads to, None for nothing."""
        self._before[stop.tid] = self._at(paths[0]) if os.path.lexists(paths[0]) else None

    def leave(self, stop: Stop, paths: list[str], result: int) -> None:
        """The call came back; one that failed changed nothing."""
        before = self._before.pop(stop.tid)
        if result < 0 or stop.call in HARMLESS:
            return
        below = [path.removeprefix(self._root) if path.startswith(self._root) else "." for path in paths]
        step = self._step(stop, below, result, before)
        if step is not None:
            self.steps.append(step)

    def _step(self, stop: Stop, paths: list[str], result: int, before: Thing | None) -> Step | None:
        call, path = stop.call, paths[0]
        if call.startswith(("open", "creat")):
            return self._opened(stop, path, result, before)
        if call.startswith(("mkdir", "symlink")):
            return self._born(call.removesuffix("at"), path)
        if call.startswith(("rename", "unlink", "rmdir")):
            assert before is not None
            if not call.startswith("rename"):
                return Step("remove", path, before, self._parent(path), heard=self._lengths())
            into = self._parent(paths[1])
            return Step("rename", path, before, self._parent(path), paths[1], into, heard=self._lengths())
        return self._on_descriptor(stop, path, result)

    def _on_descriptor(self, stop: Stop, path: str, result: int) -> Step:
        call, heard = stop.call, self._lengths()
        found = os.stat(f"/proc/{stop.tid}/fd/{stop.descriptor(0)}")
        thing, after = self._things[found.st_ino], Attributes.of(found)
        if call in ("fsync", "fdatasync"):
            return Step("sync" if call == "fsync" else "sync data", path, thing, heard=heard)
        if call in ("write", "pwrite64"):
            offset = stop.arguments[3] if call == "pwrite64" else _position(stop) - result
            data = stop.bytes_at(1, result)
            return Step("write", path, thing, data=data, offset=offset, after=after, heard=heard)
        if call == "ftruncate":
            return Step("truncate", path, thing, after=after, heard=heard)
        if call in ("fchmod", "fchown") or (call == "utimensat" and not stop.arguments[1]):
            return Step("attributes", path, thing, after=after, heard=heard)
        raise AssertionError(f"the model of a power cut does not know what {call} {path} does")

    def _opened(self, stop: Stop, path: str, result: int, before: Thing | None) -> Step | None:
        if before is None:
            return self._born("create", path)
        flags = stop.arguments[1 if stop.call == "open" else 2]
        assert not flags & os.O_TRUNC, f"the model does not know of O_TRUNC ({path})"
        return None

    def _born(self, kind: str, path: str) -> Step:
        found = os.lstat(self._root + path)
        self._made += 1
        thing = self._things[found.st_ino] = f"made {self._made} {path}"
        to = os.readlink(self._root + path) if kind == "symlink" else ""
        return Step(kind, path, thing, self._parent(path), to, after=Attributes.of(found), heard=self._lengths())

    def _parent(self, path: str) -> Thing:
        return self._at(self._root + os.path.dirname(path))

    def _at(self, path: str) -> Thing:
        return self._things[os.lstat(path).st_ino]

    def _lengths(self) -> dict[str, int]:
        return {file.name: file.stat().st_size for file in self._heard.iterdir()}


def _position(stop: Stop) -> int:
    with open(f"/proc/{stop.tid}/fdinfo/{stop.descriptor(0)}") as info:
        return int(info.readline().split()[1])
