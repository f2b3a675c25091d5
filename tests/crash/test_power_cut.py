"""The power goes while something is published: what was not flushed may be gone, in any mixture that a model allows.

Here a handful of the disks for each model, chosen by chance with a fixed seed; `bench/crash.py` has all of them.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.crash.power_cut import MODELS, SECTOR, Outage, outage, recorded
from tests.support.crash.surviving import (
    FRESH,
    INTERRUPTED,
    NEW,
    PUBLISHED,
    STARTS,
    aftermath,
    interrupt,
    temporary_world,
)
from tests.support.crash.world import World

pytestmark = pytest.mark.usefixtures("knife")
SAMPLE = 6


def survive(world: World, start: str, power: Outage) -> None:
    for cut in power.some(SAMPLE):
        cut.strike(world, start)
        after = aftermath(world, start)
        assert after.clean, f"{cut}: {after}"


@pytest.mark.parametrize("start", [FRESH, PUBLISHED])
@pytest.mark.parametrize("model", MODELS)
def test_a_power_cut_is_survived(modelled_world: World, start: str, model: str) -> None:
    """Whole before the start, of one generation after it, told, and recorded: by each model."""
    survive(modelled_world, start, outage(modelled_world, start, model))


def test_what_was_flushed_is_enough(modelled_world: World) -> None:
    """Nothing but that is on the disk, after each flush of a directory: between two of them sinks are old and new."""
    cuts = list(outage(modelled_world, PUBLISHED, "strict").least_after_flushes())
    assert len(cuts) > 5
    for cut in cuts:
        cut.strike(modelled_world, PUBLISHED)
        after = aftermath(modelled_world, PUBLISHED)
        assert after.clean, f"{cut}: {after}"


@pytest.mark.parametrize(("model", "start"), [("strict", PUBLISHED), ("logged", "staged")])
def test_no_name_of_a_directory_sink_is_missed(modelled_world: World, model: str, start: str) -> None:
    """Each of the names that make up a generation may be the one that is gone, where names come in any order."""
    if start in INTERRUPTED:
        interrupt(modelled_world, start)
    cuts = list(outage(modelled_world, start, model).without_a_name("set/", "state/credentials/gamma.state"))
    assert len(cuts) > 5
    for cut in cuts:
        cut.strike(modelled_world, start)
        after = aftermath(modelled_world, start)
        assert after.clean, f"{cut}: {after}"


@pytest.mark.parametrize("start", INTERRUPTED)
def test_a_power_cut_in_a_recovery_is_survived(modelled_world: World, start: str) -> None:
    """A publish was killed; the power goes while what it left is cleared away, or finished."""
    interrupt(modelled_world, start)
    survive(modelled_world, start, outage(modelled_world, start, "strict"))


def test_a_disk_that_tears_pages_is_survived(modelled_world: World) -> None:
    """Half of a page may be on the disk: of a state's record, of the audit, of a sink that is written in place."""
    survive(modelled_world, PUBLISHED, outage(modelled_world, PUBLISHED, "ordered", grain=SECTOR))


def test_sinks_on_a_tmpfs_are_gone_after_the_cut() -> None:
    """What the others hold is of one generation all the same, and no number is given to a second value."""
    with temporary_world(in_memory=True, volatile=["env", "set"]) as world:
        survive(world, PUBLISHED, outage(world, PUBLISHED, "ordered"))


@pytest.mark.parametrize("model", MODELS)
def test_the_models_find_what_is_not_flushed(modelled_world: World, model: str) -> None:
    """The same publish without its flushes is found torn, files and directory: a model that finds nothing proves nothing."""
    disk, steps = recorded(modelled_world, PUBLISHED, model)
    careless = Outage(model, disk, [replace(s, kind="time") if s.kind.startswith("sync") else s for s in steps])
    torn: set[str] = set()
    for cut in careless.at_the_end():
        cut.strike(modelled_world, PUBLISHED)
        torn.update(text.partition("/")[0] for text in modelled_world.look([STARTS[PUBLISHED], NEW]).torn)
        if torn >= {"etc", "set"}:
            return
    raise AssertionError(f"found torn: {torn}")
