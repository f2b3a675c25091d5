"""A tree of files as a disk holds it, what a call does to it, and the tree made real."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.support.crash.recording import ROOT, Attributes, Step, Thing
from tests.support.crash.renumbering import renumber
from tests.support.crash.world import empty

LOCK = "state/lock"
EMPTY = Attributes(0o600, 0, 0, 0, 0)
"""Of what came to the disk by its name alone."""
OF_NAMES = ("create", "mkdir", "symlink", "rename", "remove")


@dataclass(frozen=True)
class Effect:
    """Something that is on the disk or not.

    Attributes:
        at: the number of the call that had it.
        kind: as of `Step`; "write" is one page of it.
        names: the directories that it changed a name in; none where it is about a thing.
    """

    at: int
    step: Step
    kind: str
    names: tuple[Thing, ...] = ()
    data: bytes = field(default=b"", repr=False)
    offset: int = 0

    @property
    def is_data(self) -> bool:
        return self.kind == "write"


@dataclass
class Disk:
    """A tree as a file system keeps it: what each name in each directory leads to, and what the things are.

    Attributes:
        names: (directory, name) -> thing.
        directories: those of the things that are one.
        links: what stands in those that are a link. It comes with the name: nothing can flush a link by itself, and
            file systems keep a short one in its inode, a long one in their journal.
        born: where everything was born, what is not on the disk included.
    """

    names: dict[tuple[Thing, str], Thing] = field(default_factory=dict)
    directories: frozenset[Thing] = frozenset({ROOT})
    links: Mapping[Thing, str] = field(default_factory=dict)
    contents: dict[Thing, bytes] = field(default_factory=dict)
    attributes: dict[Thing, Attributes] = field(default_factory=dict)
    born: frozenset[str] = frozenset()

    @classmethod
    def read(cls, root: Path, steps: Sequence[Step] = ()) -> Disk:
        """As it stands in a directory; `steps` tell what else will come to it."""
        disk = cls()
        directories, links = {ROOT}, {}
        for path in sorted(root.rglob("*")):
            name = path.relative_to(root)
            thing, parent = f"start {name}", f"start {name.parent}"
            disk.names[parent, path.name] = thing
            disk.attributes[thing] = Attributes.of(path.lstat())
            if path.is_symlink():
                links[thing] = os.readlink(path)
            elif path.is_dir():
                directories.add(thing)
            else:
                disk.contents[thing] = path.read_bytes()
        directories.update(step.thing for step in steps if step.kind == "mkdir")
        links.update((step.thing, step.to) for step in steps if step.kind == "symlink")
        disk.directories, disk.links = frozenset(directories), links
        made = (step.thing for step in steps if step.kind in ("create", "mkdir"))
        disk.born = frozenset(map(birthplace, (*disk.attributes, *made)))
        return disk

    def with_effects(self, effects: Iterable[Effect]) -> Disk:
        """This one, and what happened to it."""
        disk = replace(self, names={**self.names}, contents={**self.contents}, attributes={**self.attributes})
        for effect in effects:
            disk._happen(effect)
        return disk

    def _happen(self, effect: Effect) -> None:
        step, after = effect.step, effect.step.after
        if effect.kind in ("create", "mkdir", "symlink"):
            self.names[step.parent, os.path.basename(step.path)] = step.thing
        elif effect.kind in ("rename", "remove"):
            self.names.pop((step.parent, os.path.basename(step.path)), None)
            if effect.kind == "rename":
                self.names[step.into, os.path.basename(step.to)] = step.thing
        elif effect.kind == "write":
            old, end = self.contents.get(step.thing, b"").ljust(effect.offset, b"\0"), effect.offset + len(effect.data)
            self.contents[step.thing] = old[: effect.offset] + effect.data + old[end:]
        elif effect.kind == "truncate":
            assert after is not None
            self.contents[step.thing] = self.contents.get(step.thing, b"")[: after.size].ljust(after.size, b"\0")
        else:
            assert after is not None
            old_ones = self.attributes.get(step.thing, EMPTY)
            new = after if effect.kind in ("attributes", "born") else replace(old_ones, mtime_ns=after.mtime_ns)
            self.attributes[step.thing] = new

    def walk(self) -> Iterator[tuple[str, Thing]]:
        """Every path with what is there, a directory before what is in it; what no name leads to is not there."""
        below: dict[Thing, list[tuple[str, Thing]]] = {}
        for (parent, name), thing in sorted(self.names.items()):
            below.setdefault(parent, []).append((name, thing))
        todo = [("", ROOT)]
        while todo:
            place, directory = todo.pop()
            for name, thing in below.get(directory, ()):
                path = os.path.join(place, name)
                yield path, thing
                if thing in self.directories:
                    todo.append((path, thing))

    def fingerprint(self) -> int:
        """The same for two disks that a new process cannot tell apart.

        The times of keyturn's own files say nothing to it, nor does who held a lock that nobody holds any more.
        """
        there = []
        for path, thing in self.walk():
            held, attributes = self.links.get(thing) or self.contents.get(thing, b""), self.attributes.get(thing, EMPTY)
            if path.startswith(("state", "log")):
                attributes = replace(attributes, mtime_ns=0, size=0)
            there.append((path, b"" if path == LOCK else held, attributes))
        return hash(tuple(there))

    def make(self, root: Path) -> None:
        """Make it real."""
        empty(root)
        numbers: dict[str, int] = {}
        there = list(self.walk())
        for path, thing in there:
            self._make(root / path, thing)
            numbers[birthplace(thing)] = (root / path).lstat().st_ino
        for path, thing in reversed(there):  # what is made in a directory sets its time
            at = self.attributes.get(thing, EMPTY).mtime_ns
            os.utime(root / path, ns=(at, at), follow_symlinks=False)
        renumber(root, numbers, self.born)

    def _make(self, path: Path, thing: Thing) -> None:
        attributes = self.attributes.get(thing, EMPTY)
        if thing in self.links:
            path.symlink_to(self.links[thing])
            return
        if thing in self.directories:
            path.mkdir(0o700)
        else:
            path.touch(0o600)
            path.write_bytes(self.contents.get(thing, b""))
        os.chown(path, attributes.uid, attributes.gid)
        path.chmod(attributes.mode)


def birthplace(thing: Thing) -> str:
    """A thing's name without its number: "start PATH" or "made PATH"."""
    when, _, where = thing.partition(" ")
    return f"{when} {where.partition(' ')[2] if when == 'made' else where}"


def effects_of(steps: Sequence[Step], grain: int) -> list[Effect]:
    """What the calls of a publish did, in their order; a write is taken apart into grains of the disk."""
    found: list[Effect] = []
    for at, step in enumerate(steps):
        if step.kind in OF_NAMES:
            found.append(Effect(at, step, step.kind, tuple(filter(None, (step.parent, step.into)))))
            if step.kind in ("create", "mkdir"):
                found.append(Effect(at, step, "born"))
        elif step.kind == "write":
            end = step.offset + len(step.data)
            bounds = [step.offset, *range((step.offset // grain + 1) * grain, end, grain), end]
            for start, stop in itertools.pairwise(bounds):
                data = step.data[start - step.offset : stop - step.offset]
                found.append(Effect(at, step, "write", (), data, start))
            found.append(Effect(at, step, "time"))
        elif step.kind in ("truncate", "attributes"):
            found.append(Effect(at, step, step.kind))
            if step.kind == "truncate":
                found.append(Effect(at, step, "time"))
    return found
