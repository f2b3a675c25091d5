"""Every disk that a power cut may leave: models of what a file system promises, and the disks made from them.

A recorded publish (recording.py) is taken apart into effects: a name set or removed, a page of a file written, its
size cut, an owner, mode or time set. A cut after the Nth call leaves every effect that a flush before it has made
durable, and any of the others that its model allows:

strict   what POSIX promises, and nothing more: a file's content and attributes are durable by its fsync, a name by the
         fsync of its directory; of the other effects any set may have reached the disk, in any order.
logged   the same, but the fsync of something new makes its name durable too, and nothing before it: btrfs, which keeps
         a log of what was flushed.
ordered  ext4, xfs: names, sizes and attributes reach the disk in the order in which they were made (one journal), so
         the fsync of a new file makes its name durable, and everything before it. The content of files that were not
         flushed may be there or not, page by page. That a write has made a file longer shows with the page.

Sectors: a page may also be torn, where the disk writes 512 bytes at once.
"""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from tests.support.crash.disk import Disk, Effect, effects_of
from tests.support.crash.recording import Step, Thing
from tests.support.crash.surviving import publish_under_the_knife
from tests.support.crash.world import World, empty

PAGE, SECTOR = 4096, 512
TRIES = 4
"""So many sets by chance for each number of calls."""


def flushed(effects: Sequence[Effect], steps: Sequence[Step], calls: int, *, births: bool = False) -> set[int]:
    """Which effects of the first calls are durable after them, as their indices.

    Args:
        effects: all of them.
        steps: all calls.
        calls: how many of them were made.
        births: the flush of something new makes its name durable.
    """
    done: set[int] = set()
    for at, sync in enumerate(steps[:calls]):
        if sync.kind.startswith("sync"):
            before = ((index, effect) for index, effect in enumerate(effects) if effect.at < at)
            done.update(index for index, effect in before if _covers(sync, effect, births))
    return done


def _covers(sync: Step, effect: Effect, births: bool) -> bool:
    if births and effect.kind in ("create", "mkdir") and effect.step.thing == sync.thing:
        return True
    if effect.names:
        return set(effect.names) == {sync.thing}
    if effect.step.thing != sync.thing:
        return False
    return sync.kind == "sync" or effect.kind in ("write", "truncate")


Sets = Iterator[set[int]]
"""Of effects that may be on the disk, as their indices."""


def strict(
    effects: Sequence[Effect], steps: Sequence[Step], calls: int, chance: random.Random, *, births: bool = False
) -> Sets:
    """The least, the most, each prefix, each one missing, each alone, and some."""
    must = flushed(effects, steps, calls, births=births)
    may = [index for index, effect in enumerate(effects) if effect.at < calls and index not in must]
    yield must
    for number in range(1, len(may) + 1):
        yield must | set(may[:number])
        yield must | {may[number - 1]}
        yield must | set(may) - {may[number - 1]}
    for _ in range(TRIES if len(may) > 1 else 0):
        yield must | {index for index in may if chance.random() < 0.5}


def ordered(effects: Sequence[Effect], steps: Sequence[Step], calls: int, chance: random.Random) -> Sets:
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
        for _ in range(TRIES if len(pages) > 1 else 0):
            yield base | {index for index in pages if chance.random() < 0.5}


def _touches(sync: Step, effect: Effect) -> bool:
    """Whether a flush waits for the transaction of an effect: of the thing itself, its birth in a directory included."""
    if sync.thing in effect.names:
        return True
    if effect.step.thing != sync.thing:
        return False
    return sync.kind == "sync" or effect.kind in ("create", "truncate")


MODELS: Mapping[str, Callable[[Sequence[Effect], Sequence[Step], int, random.Random], Sets]] = {
    "strict": strict,
    "logged": partial(strict, births=True),
    "ordered": ordered,
}


def written_before(effects: Sequence[Effect], grain: int) -> dict[int, list[int]]:
    """For each write to a grain the earlier ones: the kernel writes a page out as it is, with all that was written to it."""
    places: dict[tuple[Thing, int], list[int]] = {}
    before: dict[int, list[int]] = {}
    for index, effect in enumerate(effects):
        if effect.is_data:
            earlier = places.setdefault((effect.step.thing, effect.offset // grain), [])
            before[index] = list(earlier)
            earlier.append(index)
    return before


@dataclass(frozen=True)
class Cut:
    """One disk after one power cut."""

    model: str
    calls: int
    disk: Disk
    heard: dict[str, int]
    missing: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.model}, after {self.calls} calls, without {self.missing}"

    def strike(self, world: World, start: str) -> None:
        """Make the world as it is when the power comes back."""
        world.restore(start)
        world.boot_anew()
        self.disk.make(world.root)
        for place in world.volatile:
            empty(world.root / place)
        for path in (world.directory / f"told.{world.heard.name}").iterdir():  # what was heard by the end
            content = path.read_bytes()[: self.heard.get(path.name, 0)]
            (world.heard / path.name).write_bytes(content)


class Outage:
    """All cuts of one publish by one model."""

    def __init__(self, model: str, before: Disk, steps: Sequence[Step], *, grain: int = PAGE) -> None:
        self._model, self._before, self._steps = model, before, steps
        self._effects = effects_of(steps, grain)
        self._with = written_before(self._effects, grain)

    def sets(self, calls: int, chance: random.Random) -> list[frozenset[int]]:
        """Which effects may be on the disk after so many calls."""
        found = MODELS[self._model](self._effects, self._steps, calls, chance)
        return list({frozenset(kept.union(*(self._with.get(i, ()) for i in kept))): None for kept in found})

    def cut(self, calls: int, kept: frozenset[int]) -> Cut:
        """The disk."""
        disk = self._before.with_effects(self._effects[index] for index in sorted(kept))
        gone = (e for i, e in enumerate(self._effects) if e.at < calls and i not in kept)
        heard = self._steps[max(calls - 1, 0)].heard
        return Cut(self._model, calls, disk, heard, tuple(f"{e.kind} {e.step.path}" for e in gone))

    def cuts(self) -> Iterator[Cut]:
        """All that can be told apart."""
        seen, chance = set[int](), random.Random(1)
        for calls in range(len(self._steps) + 1):
            for kept in self.sets(calls, chance):
                cut = self.cut(calls, kept)
                looks = hash((cut.disk.fingerprint(), *sorted(cut.heard.items())))
                if looks not in seen:
                    seen.add(looks)
                    yield cut

    def some(self, number: int) -> Iterator[Cut]:
        """By chance, always the same; and the last one, where a publish is over and its last words are not on the disk."""
        chance, over = random.Random(4), len(self._steps)
        for calls in [*chance.sample(range(over), number - 1), over]:
            yield self.cut(calls, chance.choice(self.sets(calls, chance)))

    def without_a_name(self, place: str, before: str) -> Iterator[Cut]:
        """Each name below a place alone missing, before the next call on a file and as late as it can be; not for `ordered`."""
        over, chance = len(self._steps), random.Random(0)
        durable = [next(MODELS[self._model](self._effects, self._steps, calls, chance)) for calls in range(over + 1)]
        moments = [calls for calls, step in enumerate(self._steps) if step.path == before]
        for index, effect in enumerate(self._effects):
            if effect.names and effect.step.path.startswith(place):
                possible = [calls for calls in range(effect.at + 1, over + 1) if index not in durable[calls]]
                for calls in sorted({*[each for each in moments if each in possible][:1], *possible[-1:]}):
                    done = (i for i, each in enumerate(self._effects) if each.at < calls and i != index)
                    yield self.cut(calls, frozenset(done))

    def least_after_flushes(self) -> Iterator[Cut]:
        """What the model promises and nothing else, after each flush of a directory."""
        for calls, step in enumerate(self._steps, 1):
            if step.kind == "sync" and step.thing in self._before.directories:
                least = next(MODELS[self._model](self._effects, self._steps, calls, random.Random(0)))
                yield self.cut(calls, frozenset(least))

    def at_the_end(self) -> Iterator[Cut]:
        """When a publish is over, in any order."""
        chance, over = random.Random(4), len(self._steps)
        found = self.sets(over, chance)
        yield from (self.cut(over, kept) for kept in chance.sample(found, len(found)))


def recorded(world: World, start: str, model: str) -> tuple[Disk, list[Step]]:
    """The disk before a publish, and every call of it that changed a file.

    Args:
        world: where.
        start: the name of a saved root.
        model: what keyturn shall take the file system for.
    """
    notes = world.directory / "steps"
    ended = publish_under_the_knife(world, start, record=str(notes), model=model)
    assert ended["ended"] == 0, world.said()
    world.save("told")
    steps: list[Step] = pickle.loads(notes.read_bytes())
    return Disk.read(world.directory / f"{start}.live", steps), steps


def outage(world: World, start: str, model: str, *, grain: int = PAGE) -> Outage:
    """The power cuts of a publish that is made, and recorded, now."""
    return Outage(model, *recorded(world, start, model), grain=grain)
