"""kill -9 at the system calls of a publish: whichever it was, nobody sees or keeps anything but whole generations.

Here each kind of call, at its first and its last time, and some of the others; `bench/crash.py` has every single one.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence

import pytest

from tests.support.crash.promises import access_key_id
from tests.support.crash.surviving import (
    FRESH,
    PUBLISHED,
    RENEWED,
    STARTS,
    Death,
    aftermath,
    deaths_at,
    die,
    interrupt,
    publish_under_the_knife,
    renewal,
)
from tests.support.crash.world import STORE, World

pytestmark = pytest.mark.usefixtures("knife")
PARTS = 4
DEATHS = 5


def kill_at(world: World, start: str, command: str, deaths: Sequence[Death]) -> None:
    """Die at each of these and come back each time."""
    for death in deaths:
        assert die(world, start, command, death), f"it never came to {death}"
        after = aftermath(world, start)
        assert after.clean, f"{death}: {after}"


def first_and_last_of_each_kind(calls: Sequence[str]) -> list[Death]:
    """By turns before and after the call."""
    kinds: dict[str, list[int]] = {}
    for number, call in enumerate(calls):
        kinds.setdefault(call.split(" ")[0], []).append(number)
    ends = sorted({number for numbers in kinds.values() for number in (numbers[0], numbers[-1])})
    both = deaths_at(calls)
    return [both[2 * number + turn % 2] for turn, number in enumerate(ends)]


@pytest.mark.parametrize("part", range(PARTS))
def test_once_killed_at_each_kind_of_call(world: World, part: int) -> None:
    """Old or new in every sink at the moment of death, of one generation after the next start, everybody told."""
    calls = publish_under_the_knife(world, PUBLISHED)["calls"]
    kinds = {call.split(" ")[0] for call in calls}
    names = {"openat", "renameat", "unlinkat", "mkdirat", "symlinkat"}
    assert {*names, "pwrite64", "fsync", "fdatasync", "fchmod", "ftruncate"} <= kinds
    kill_at(world, PUBLISHED, "once", first_and_last_of_each_kind(calls)[part::PARTS])


@pytest.mark.parametrize("part", range(2))
def test_the_daemon_killed_around_its_point_of_no_return(world: World, part: int) -> None:
    """The same for `run`, before every call that changes something from the journal to its end."""
    calls = publish_under_the_knife(world, PUBLISHED, "run")["calls"]
    journal = "pwrite64 state/credentials/beta.state"
    begin = calls.index(journal)
    end = calls.index(journal, begin + 1)
    deaths = [each for each in deaths_at(calls)[2 * begin : 2 * end + 1 : 2] if not each.call.startswith("openat")]
    assert [each.call.split(" ")[0] for each in deaths].count("renameat") == 2
    kill_at(world, PUBLISHED, "run", deaths[part::2])


@pytest.mark.parametrize("command", ["once", "run"])
def test_the_first_publish_of_all_killed(world: World, command: str) -> None:
    """Nothing is there yet, neither state nor audit: what is made first may be all that there is."""
    calls = publish_under_the_knife(world, FRESH, command)["calls"]
    deaths = deaths_at(calls)
    kill_at(world, FRESH, command, deaths[:: len(deaths) // DEATHS | 1])


def test_a_death_between_two_deaths(world: World) -> None:
    """Killed in the publish, killed again at a rename of the recovery, and once more at its record: then it is finished."""
    calls = publish_under_the_knife(world, PUBLISHED)["calls"]
    switch = next(death for death in deaths_at(calls) if death.call.startswith("renameat etc") and not death.entry)
    assert die(world, PUBLISHED, "once", switch)
    world.source(None)
    again = world.keyturn("once", "--retry-for", "0s", trace=True, begin="start")["calls"]  # what a recovery does
    deaths = [death for death in deaths_at(again) if death.call.startswith(("renameat", "write log")) and death.entry]
    for death in deaths[:2]:
        assert die(world, PUBLISHED, "once", switch)
        world.source(None)
        world.keyturn("once", "--retry-for", "0s", trace=True, begin="start", kill=vars(death))
        after = aftermath(world, PUBLISHED)
        assert after.clean, f"{death}: {after}"


def test_a_number_that_a_crash_took_back_is_not_given_again(world: World) -> None:
    """What was staged is gone after the death: the old value stays, and the next one has a number that nobody has heard of."""
    interrupt(world, "switching")
    world.restore("switching")
    numbers = sorted((world.root / STORE).iterdir())
    assert numbers[-1].name.startswith("000004-")
    shutil.rmtree(numbers[-1])
    world.source(None)
    world.once()
    _found, newest = world.generations()
    assert newest["gamma"] == (3, access_key_id("gamma", STARTS[PUBLISHED]))
    assert "rolled back" in [record.get("outcome") for record in world.audit()]
    after = renewal(world)
    assert after.clean, after
    _found, newest = world.generations()
    assert newest["gamma"] == (5, access_key_id("gamma", RENEWED))
