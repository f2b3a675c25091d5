"""One death of keyturn and what comes after: the inspections that every test of this folder makes.

    old value in the sinks -> the new one is being published -> death -> look
      -> the sources are down, keyturn starts: recovery alone -> look
      -> the sources give out a third value -> look

The sources are down for the recovery, so that nothing but the journal can put things right; the third value shows
whether a number is given to two values.
"""

from __future__ import annotations

import os
import signal
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.support.crash.promises import CREDENTIALS, KEEP, NOTIFIERS, Findings, access_key_id, number_of
from tests.support.crash.world import World

FRESH, PUBLISHED = "fresh", "published"
STARTS = {FRESH: 0, PUBLISHED: 1}
"""How a root is called, and the number of the value that its sinks hold; 0 is what stood there before keyturn."""
INTERRUPTED = {"staged": "pwrite64 state/credentials/gamma.state", "switching": "renameat set/"}
"""Starts after a publish from PUBLISHED that died before such a call: without a journal of it, and with one."""
NEW, RENEWED = 2, 3
EARLIER = range(101, 101 + KEEP)
"""Values of before PUBLISHED: so many that the next publish prunes a generation of the `directory` sink."""
UNSAID = ("Traceback", "fault of keyturn itself", "state lost")
"""What no death may lead to."""
TRIES = 3
MEMORY = "/dev/shm"


def make_world(directory: Path, **options: Any) -> World:
    """A world with both starts saved."""
    world = World(directory, **options)
    world.make_root()
    world.save(FRESH)
    for number in (*EARLIER, STARTS[PUBLISHED]):
        world.source(number)
        assert world.once() == 0, world.said()
    world.save(PUBLISHED)
    return world


@contextmanager
def temporary_world(*, in_memory: bool = False, directory: str | None = None, **options: Any) -> Iterator[World]:
    """A world where strangers could get to, which a directory of pytest's would not be: that would prove nothing.

    Args:
        in_memory: on a tmpfs, if there is one.
        directory: where else than where temporary files go.
        options: of `World`.
    """
    place = MEMORY if in_memory and os.access(MEMORY, os.W_OK) else directory
    with tempfile.TemporaryDirectory(prefix="keyturn-crash-", dir=place) as made:
        Path(made).chmod(0o755)
        world = make_world(Path(made), **options)
        try:
            yield world
        finally:
            world.close()


def publish_under_the_knife(world: World, start: str, command: str = "once", **request: Any) -> dict[str, Any]:
    """Begin at a saved start, publish the new value traced, and die where the request says so."""
    world.restore(start)
    world.source(NEW)
    if command == "run":
        begin = "start" if start == FRESH else "signal"  # a daemon publishes at its start what was never published
        request = {"begin": begin, "until": len(NOTIFIERS), "manager": True, **request}
    return world.keyturn(command, trace=True, **{"begin": "start", **request})


def interrupt(world: World, start: str) -> None:
    """Save one of the INTERRUPTED starts."""
    calls = publish_under_the_knife(world, PUBLISHED)["calls"]
    death = next(death for death in deaths_at(calls) if death.entry and death.call.startswith(INTERRUPTED[start]))
    assert die(world, PUBLISHED, "once", death), world.said()
    world.save(start)


@dataclass(frozen=True)
class Death:
    """A place to die at: before (`entry`) or after the nth time of a call.

    Threads take turns: the same call is not the same in number every time.
    """

    call: str
    time: int
    entry: bool


def deaths_at(calls: Iterable[str]) -> list[Death]:
    """Before and after each of these."""
    times: Counter[str] = Counter()
    found = []
    for call in calls:
        times[call] += 1
        found.extend(Death(call, times[call], entry) for entry in (True, False))
    return found


def die(world: World, start: str, command: str, death: Death) -> bool:
    """Publish, and die there; False where what threads did in which order kept it from coming there."""
    trials = (publish_under_the_knife(world, start, command, kill=asdict(death))["ended"] for _ in range(TRIES))
    return -signal.SIGKILL in trials


def aftermath(world: World, start: str) -> Findings:
    """Look at what the death left, start again, look again, publish once more, and look once more."""
    old = STARTS.get(start, STARTS[PUBLISHED])
    found = world.look([old, NEW])
    world.source(None)
    ended = world.once()
    found.add(_after_recovery(world, [old, NEW]))
    if ended not in (0, 75):
        found.other.append(f"the recovery ended with {ended}: {world.said()}")
    found.add(renewal(world))
    return found


def _after_recovery(world: World, allowed: Sequence[int]) -> Findings:
    found, values = world.settled(allowed)
    more, newest = world.generations()
    found.add(more)
    found.add(world.told(newest))
    found.add(as_recorded(values, newest))
    return found


def as_recorded(values: dict[str, int], newest: dict[str, tuple[int, str]]) -> Findings:
    """The sinks of each credential hold what the newest record of the audit log says."""
    found = Findings()
    for name, number in values.items():
        if number_of(newest[name][1]) != number:
            key = access_key_id(name, number) if number else "nothing"
            found.other.append(f"{name}: the sinks hold {key}, the newest record says {newest[name]}")
    return found


def renewal(world: World) -> Findings:
    """The sources are back with another value: it reaches everybody, under a number of its own."""
    world.source(RENEWED)
    ended = world.once()
    found, _values = world.settled([RENEWED])
    more, newest = world.generations()
    found.add(more)
    found.add(world.told(newest))
    found.other.extend(f"{name}: {newest[name]}" for name in CREDENTIALS if newest[name][1][-1:] != str(RENEWED))
    if ended:
        found.other.append(f"the renewal ended with {ended}: {world.said()}")
    if world.keyturn("audit", "verify")["ended"]:
        found.other.append(f"the audit log is not whole: {world.said()}")
    found.other.extend(f"{words!r} in the log: {world.said()}" for words in UNSAID if words in world.said())
    return found
