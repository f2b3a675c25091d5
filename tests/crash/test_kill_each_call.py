"""kill -9 at the system calls of a publish: whichever it was, nobody sees or keeps anything but whole generations.

Here each kind of call, at its first and its last time, and some of the others; `bench/crash.py` has every single one.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence

import pytest
from crash_world import Findings, World
from surviving import FRESH, PUBLISHED, aftermath, publish_under_the_knife

pytestmark = pytest.mark.usefixtures("knife")


def die_at(world: World, start: str, command: str, numbers: Sequence[int]) -> Findings:
    """Die at each of these calls, by turns before and after it, and come back each time."""
    found = Findings()
    for number in numbers:
        death = {"at": number, "entry": number % 2 == 1}
        ended = publish_under_the_knife(world, start, command, kill=death)
        if ended["ended"] != -signal.SIGKILL:
            continue  # threads take turns: this time it had fewer calls
        after = aftermath(world, start)
        assert after.clean, f"{ended['calls'][-1]} {death}: {after}"
        found.add(after)
    return found


def first_and_last_of_each_kind(calls: Sequence[str]) -> list[int]:
    kinds: dict[str, list[int]] = {}
    for number, call in enumerate(calls, 1):
        kinds.setdefault(call.split(" ")[0], []).append(number)
    return sorted({number for numbers in kinds.values() for number in (numbers[0], numbers[-1])})


def test_once_killed_at_each_kind_of_call(world: World) -> None:
    """Old or new in every sink at the moment of death, of one generation after the next start, everybody told."""
    calls = publish_under_the_knife(world, PUBLISHED)["calls"]
    kinds = {call.split(" ")[0] for call in calls}
    assert {"openat", "pwrite64", "fsync", "fdatasync", "fchmod", "renameat", "unlinkat", "ftruncate"} <= kinds
    die_at(world, PUBLISHED, "once", first_and_last_of_each_kind(calls))


@pytest.mark.parametrize("kind", ["renameat", "pwrite64 state/credentials", "write log/audit.jsonl", "fsync"])
def test_the_daemon_killed_around_its_point_of_no_return(world: World, kind: str) -> None:
    """The same for `run`, where state, sinks and audit change."""
    calls = publish_under_the_knife(world, PUBLISHED, "run")["calls"]
    numbers = [number for number, call in enumerate(calls, 1) if call.startswith(kind)]
    die_at(world, PUBLISHED, "run", [numbers[0], numbers[len(numbers) // 2], numbers[-1]])


def test_the_first_publish_of_all_killed(world: World) -> None:
    """Nothing is there yet, neither state nor audit: what is made first may be all that there is."""
    calls = publish_under_the_knife(world, FRESH)["calls"]
    die_at(world, FRESH, "once", range(1, len(calls) + 1, max(1, len(calls) // 9)))


def test_a_death_between_two_deaths(world: World) -> None:
    """Killed in the publish, killed again at a rename of the recovery, and once more at its record: then it is finished."""
    calls = publish_under_the_knife(world, PUBLISHED)["calls"]
    switch = next(number for number, call in enumerate(calls, 1) if call.startswith("renameat"))
    killed = publish_under_the_knife(world, PUBLISHED, kill={"at": switch, "entry": False})
    assert killed["ended"] == -signal.SIGKILL
    world.source(None)
    again = world.keyturn("once", "--retry-for", "0s", trace=True, begin="start")["calls"]  # what a recovery does
    numbers = [number for number, call in enumerate(again, 1) if call.startswith(("renameat", "write log"))]
    for number in (numbers[0], numbers[1]):
        publish_under_the_knife(world, PUBLISHED, kill={"at": switch, "entry": False})
        world.source(None)
        world.keyturn("once", "--retry-for", "0s", trace=True, begin="start", kill={"at": number, "entry": True})
        after = aftermath(world, PUBLISHED)
        assert after.clean, f"{again[number - 1]}: {after}"
