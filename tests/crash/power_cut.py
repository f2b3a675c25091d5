"""Every disk that a power cut may leave: a model of what a file system promises, and the disk made from it.

A recorded publish (recording.py) is taken apart into effects: a name set or removed, a page of a file written, its
size cut, its owner, mode or time set. A cut after the Nth call leaves every effect that a flush before it has made
durable, and any of the others that its model allows:

strict   what POSIX promises, and nothing more: a file's content and attributes are durable by its fsync, a name by the
         fsync of its directory; of the other effects any set may have reached the disk, in any order.
ordered  ext4, xfs, btrfs: names, sizes and attributes reach the disk in the order in which they were made (one journal),
         so the fsync of a new file makes its name durable, and everything before it. The content of files that were
         not flushed may be there or not, page by page. That a write has made a file longer shows with the page.

Sectors: a page may also be torn, where the disk writes 512 bytes at once.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import random
import shutil
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from crash_world import World
from recording import Attributes, Step, Thing

PAGE, SECTOR = 4096, 512
EMPTY = Attributes(0o600, 0, 0, 0, 0)


@dataclass(frozen=True)
class Effect:
    """Something that is on the disk or not.

    Attributes:
        at: the number of the call that had it.
        names: of a directory: "" where it is about a thing.
        kind: as of `Step`; "write" is one page of it.
    """

    at: int
    step: Step
    kind: str
    names: str = ""
    data: bytes = field(default=b"", repr=False)
    offset: int = 0

    @property
    def is_data(self) -> bool:
        return self.kind == "write"


@dataclass
class Disk:
    """Files by name, and what they hold."""

    names: dict[str, Thing] = field(default_factory=dict)
    directories: dict[str, Attributes] = field(default_factory=dict)
    contents: dict[Thing, bytes] = field(default_factory=dict)
    attributes: dict[Thing, Attributes] = field(default_factory=dict)

    @classmethod
    def read(cls, root: Path) -> Disk:
        """As it stands in a directory."""
        disk = cls()
        for path in sorted(root.rglob("*")):
            name, found = str(path.relative_to(root)), Attributes.of(path.lstat())
            if path.is_dir():
                disk.directories[name] = found
            else:
                thing = f"start {name}"
                disk.names[name], disk.contents[thing], disk.attributes[thing] = thing, path.read_bytes(), found
        return disk

    def with_effects(self, effects: Iterable[Effect]) -> Disk:
        """This one, and what happened to it."""
        disk = Disk(dict(self.names), dict(self.directories), dict(self.contents), dict(self.attributes))
        for effect in effects:
            disk._happen(effect)
        return disk

    def _happen(self, effect: Effect) -> None:
        step, after = effect.step, effect.step.after
        if effect.kind == "create":
            self.names[step.path] = step.thing
        elif effect.kind == "mkdir":
            assert after is not None
            self.directories[step.path] = after
        elif effect.kind == "rename":
            self.names.pop(step.path, None)
            self.names[step.to] = step.thing
        elif effect.kind == "unlink":
            self.names.pop(step.path, None)
        elif effect.kind == "write":
            before = self.contents.get(step.thing, b"").ljust(effect.offset, b"\0")
            self.contents[step.thing] = (
                before[: effect.offset] + effect.data + before[effect.offset + len(effect.data) :]
            )
        elif effect.kind == "truncate":
            assert after is not None
            self.contents[step.thing] = self.contents.get(step.thing, b"")[: after.size].ljust(after.size, b"\0")
        else:
            assert after is not None
            old = self.attributes.get(step.thing, EMPTY)
            new = after if effect.kind in ("attributes", "born") else replace(old, mtime_ns=after.mtime_ns)
            self.attributes[step.thing] = new

    def fingerprint(self) -> str:
        """The same for two disks that nobody can tell apart."""
        there = sorted(
            (name, self.contents.get(t, b""), self.attributes.get(t, EMPTY)) for name, t in self.names.items()
        )
        return hashlib.sha256(repr((there, sorted(self.directories))).encode()).hexdigest()

    def make(self, root: Path, made: Collection[str]) -> None:
        """Make it real; `made` are the names of the files that the recorded publish created."""
        for old in root.iterdir():
            shutil.rmtree(old) if old.is_dir() else old.unlink()
        for name, attributes in sorted(self.directories.items()):
            if (root / name).parent.is_dir():
                (root / name).mkdir(attributes.mode)
        numbers: dict[Thing, int] = {}
        for name, thing in self.names.items():
            if (root / name).parent.is_dir():  # the name may have come to the disk without the directory's
                numbers[thing] = self._make(root / name, thing)
        for path in root.glob("state/credentials/*.state"):
            path.write_bytes(renumbered(path.read_bytes(), root, numbers, made))

    def _make(self, path: Path, thing: Thing) -> int:
        attributes = self.attributes.get(thing, EMPTY)
        path.touch(0o600)
        path.write_bytes(self.contents.get(thing, b""))
        os.chown(path, attributes.uid, attributes.gid)
        path.chmod(attributes.mode)
        os.utime(path, ns=(attributes.mtime_ns, attributes.mtime_ns))
        return path.stat().st_ino


def effects_of(steps: Sequence[Step], grain: int) -> list[Effect]:
    """What the calls of a publish did, in their order; a write is taken apart into grains of the disk."""
    found: list[Effect] = []
    for at, step in enumerate(steps):
        parent = os.path.dirname(step.path)
        if step.kind in ("create", "mkdir", "rename", "unlink"):
            found.append(Effect(at, step, step.kind, parent or "."))
            if step.kind == "create":
                found.append(Effect(at, step, "born"))
        elif step.kind == "write":
            end = step.offset + len(step.data)
            bounds = [step.offset, *range((step.offset // grain + 1) * grain, end, grain), end]
            for start, stop in itertools.pairwise(bounds):
                data = step.data[start - step.offset : stop - step.offset]
                found.append(Effect(at, step, "write", "", data, start))
            found.append(Effect(at, step, "time"))
        elif step.kind in ("truncate", "attributes"):
            found.append(Effect(at, step, step.kind))
            if step.kind == "truncate":
                found.append(Effect(at, step, "time"))
    return found


def flushed(effects: Sequence[Effect], steps: Sequence[Step], calls: int) -> set[int]:
    """Which effects of the first calls are durable after them by POSIX, as their indices."""
    done: set[int] = set()
    for at, sync in enumerate(steps[:calls]):
        if not sync.kind.startswith("sync"):
            continue
        for index, effect in enumerate(effects):
            if effect.at < at and _covers(sync, effect):
                done.add(index)
    return done


def _covers(sync: Step, effect: Effect) -> bool:
    if sync.kind == "sync names":
        return effect.names == sync.thing
    if effect.names or effect.step.thing != sync.thing:
        return False
    return sync.kind == "sync" or effect.kind in ("write", "truncate")


def strict(
    effects: Sequence[Effect], steps: Sequence[Step], calls: int, chance: random.Random, tries: int
) -> Iterator[set[int]]:
    """The sets of effects that may be on the disk: the least, the most, each prefix, each one missing, each alone, and some."""
    must = flushed(effects, steps, calls)
    may = [index for index, effect in enumerate(effects) if effect.at < calls and index not in must]
    yield must
    for number in range(1, len(may) + 1):
        yield must | set(may[:number])
        yield must | {may[number - 1]}
        yield must | set(may) - {may[number - 1]}
    for _ in range(tries if len(may) > 1 else 0):
        yield must | {index for index in may if chance.random() < 0.5}


def ordered(
    effects: Sequence[Effect], steps: Sequence[Step], calls: int, chance: random.Random, tries: int
) -> Iterator[set[int]]:
    """The same for a file system with one journal: a prefix of what is no content, and any pages of what was not flushed."""
    must = flushed(effects, steps, calls)
    journal = [index for index, effect in enumerate(effects) if effect.at < calls and not effect.is_data]
    committed = 0
    for at, sync in enumerate(steps[:calls]):
        if sync.kind.startswith("sync"):
            touched = [n for n, i in enumerate(journal, 1) if effects[i].at < at and _touches(sync, effects[i])]
            committed = max([committed, *touched])
    pages = [
        index for index, effect in enumerate(effects) if effect.at < calls and effect.is_data and index not in must
    ]
    for length in range(committed, len(journal) + 1):
        base = must | set(journal[:length])
        yield base
        yield base | set(pages)
        for page in pages if length in (committed, len(journal)) else ():
            yield base | {page}
            yield base | set(pages) - {page}
        for _ in range(tries if len(pages) > 1 else 0):
            yield base | {index for index in pages if chance.random() < 0.5}


def _touches(sync: Step, effect: Effect) -> bool:
    """Whether a flush waits for the transaction of an effect: of the thing itself, its birth in a directory included."""
    if sync.kind == "sync names":
        return effect.names == sync.thing
    if effect.step.thing != sync.thing:
        return False
    return sync.kind == "sync" or effect.kind in ("create", "truncate")


MODELS = {"strict": strict, "ordered": ordered}


def closed(kept: set[int], effects: Sequence[Effect], grain: int) -> set[int]:
    """With every earlier write to the same grain: the kernel writes a page out as it is, with all that was written to it."""
    newest: dict[tuple[Thing, int], int] = {}
    for index in kept:
        if effects[index].is_data:
            place = (effects[index].step.thing, effects[index].offset // grain)
            newest[place] = max(newest.get(place, 0), index)
    return kept | {
        index
        for index, effect in enumerate(effects)
        if effect.is_data and index < newest.get((effect.step.thing, effect.offset // grain), 0)
    }


@dataclass(frozen=True)
class Cut:
    """One disk after one power cut."""

    model: str
    calls: int
    disk: Disk
    heard: dict[str, int]
    missing: tuple[str, ...]
    made: frozenset[str]

    def strike(self, world: World, start: str) -> None:
        """Make the world as it is when the power comes back."""
        world.restore(start)
        self.disk.make(world.root, self.made)
        for place in world.volatile:
            for path in (world.root / place).iterdir():
                path.unlink()
        for path in (world.directory / f"told.{world.heard.name}").iterdir():  # what was heard by the end
            content = path.read_bytes()[: self.heard.get(path.name, 0)]
            (world.heard / path.name).write_bytes(content)


def cuts(
    model: str, before: Disk, steps: Sequence[Step], *, grain: int = PAGE, seed: int = 1, tries: int = 4
) -> Iterator[Cut]:
    """All cuts of a publish that leave different disks."""
    chance = random.Random(seed)
    effects = effects_of(steps, grain)
    seen: set[str] = set()
    made = frozenset(step.path for step in steps if step.kind == "create")
    for calls in range(len(steps) + 1):
        heard = steps[max(calls - 1, 0)].heard
        for kept in MODELS[model](effects, steps, calls, chance, tries):
            kept = closed(kept, effects, grain)
            disk = before.with_effects(effects[index] for index in sorted(kept))
            looks = f"{disk.fingerprint()} {sorted(heard.items())}"
            if looks not in seen:
                seen.add(looks)
                gone = [e for i, e in enumerate(effects) if e.at < calls and i not in kept]
                yield Cut(model, calls, disk, heard, tuple(f"{e.kind} {e.step.path}" for e in gone), made)


def renumbered(record: bytes, root: Path, numbers: dict[Thing, int], made: Collection[str]) -> bytes:
    """A credential's state with the inode numbers that its journal's files have on this disk.

    The file's two slots: agent/system/slots.py. Each is left alone where it is torn.

    Args:
        record: the file.
        root: of the world.
        numbers: the inode numbers on this disk.
        made: the names of the files that the recorded publish created.
    """
    half = len(record) // 2
    return b"".join(_renumbered(record[n * half : (n + 1) * half], root, numbers, made) for n in (0, 1))


def _renumbered(slot: bytes, root: Path, numbers: dict[Thing, int], made: Collection[str]) -> bytes:
    header, _, rest = slot.partition(b"\n")
    words = header.split(b" ")
    if len(words) < 4 or not words[2].isdigit():
        return slot
    payload = rest[: int(words[2])]
    if _digest(words[1], payload) != words[3]:
        return slot
    state = json.loads(payload)
    for entry in state.get("journal", ()):
        _renumber(entry, root, numbers, made)
    payload = json.dumps(state, separators=(",", ":"), ensure_ascii=False).encode()
    words[2:4] = str(len(payload)).encode(), _digest(words[1], payload)
    return (b" ".join(words) + b"\n" + payload).ljust(len(slot) - 1) + b"\n"


def _digest(sequence: bytes, payload: bytes) -> bytes:
    return hashlib.sha256(sequence + b"\n" + payload).hexdigest().encode()


def _renumber(entry: dict[str, Any], root: Path, numbers: dict[Thing, int], made: Collection[str]) -> None:
    place = os.path.relpath(entry["directory"], root)
    temp, before = f"{place}/{entry['temp']}", f"start {place}/{entry['target']}"
    if temp in made:
        (own,) = [
            number for thing, number in numbers.items() if thing.startswith("made ") and thing.endswith(f" {temp}")
        ] or [1]
    else:  # of a publish before the recorded one, which has ended: its staged file is the target of the start
        own = numbers.get(before, 1)
    entry["inode"] = own
    if entry["before"] is not None:
        entry["before"][0] = numbers.get(before, 1)
