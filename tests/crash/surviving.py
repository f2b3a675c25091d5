"""One death of keyturn and what comes after: the inspections that every test of this folder makes.

    old value in the sinks -> the new one is being published -> death -> look
      -> the sources are down, keyturn starts: recovery alone -> look
      -> the sources give out a third value -> look

The sources are down for the recovery, so that nothing but the journal can put things right; the third value shows
whether a number is given to two values.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from crash_world import Findings, World, access_key_id

from agent import wiring

FRESH, PUBLISHED = "fresh", "published"
STARTS = {FRESH: 0, PUBLISHED: 1}
"""How a root is called, and the number of the value that its sinks hold; 0 is what stood there before keyturn."""
NEW, RENEWED = 2, 3
UNSAID = ("Traceback", "fault of keyturn itself", "state lost")
"""What no death may lead to."""


def make_world(directory: Path, *, linked: bool = True, **options: Any) -> World:
    """A world with both starts saved."""
    world = World(directory, linked=linked and "directory" in wiring.SINKS, **options)
    world.make_root()
    world.save(FRESH)
    world.source(STARTS[PUBLISHED])
    assert world.once() == 0, world.said()
    world.save(PUBLISHED)
    return world


def publish_under_the_knife(world: World, start: str, command: str = "once", **request: Any) -> dict[str, Any]:
    """Begin at a saved start, publish the new value traced, and die where the request says so."""
    world.restore(start)
    world.source(NEW)
    if command == "run":
        request = {"begin": "signal", "until": len(world.dependents), "manager": True, **request}
    return world.keyturn(command, trace=True, **{"begin": "start", **request})


def aftermath(world: World, start: str) -> Findings:
    """Look at what the death left, start again, look again, publish once more, and look once more."""
    old = STARTS[start]
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
    for name, number in values.items():
        key = access_key_id(name, number) if number else ""
        if newest[name][1] != key:
            found.other.append(f"{name}: the sinks hold {key or 'nothing'}, the newest record says {newest[name]}")
    return found


def renewal(world: World) -> Findings:
    """The sources are back with another value: it reaches everybody, under a number of its own."""
    world.source(RENEWED)
    ended = world.once()
    found, _values = world.settled([RENEWED])
    more, newest = world.generations()
    found.add(more)
    found.add(world.told(newest))
    found.other.extend(f"{name}: {newest[name]}" for name in world.credentials if newest[name][1][-1:] != str(RENEWED))
    if ended:
        found.other.append(f"the renewal ended with {ended}: {world.said()}")
    if world.keyturn("audit", "verify")["ended"]:
        found.other.append(f"the audit log is not whole: {world.said()}")
    found.other.extend(f"{words!r} in the log: {world.said()}" for words in UNSAID if words in world.said())
    return found
