"""The power goes while something is published: what was not flushed may be gone, in any mixture that a model allows.

Here a handful of the disks for each model, chosen by chance with a fixed seed; `bench/crash.py` has all of them.
"""

from __future__ import annotations

import pickle
import random
from pathlib import Path

import pytest
from crash_world import World
from power_cut import MODELS, SECTOR, Cut, Disk, cuts
from recording import Step
from surviving import FRESH, NEW, PUBLISHED, STARTS, aftermath, make_world, publish_under_the_knife

pytestmark = pytest.mark.usefixtures("knife")
SAMPLE = 16


def recorded(world: World, start: str, *, forgetful: bool = False) -> tuple[Disk, list[Step]]:
    """The disk before a publish, and every call of it that changed a file."""
    notes = world.directory / "steps"
    ended = publish_under_the_knife(world, start, record=str(notes), forgetful=forgetful)
    assert ended["ended"] == 0, world.said()
    world.save("told")
    return Disk.read(world.directory / f"{start}.live"), pickle.loads(notes.read_bytes())


def survive(world: World, start: str, chosen: list[Cut]) -> None:
    for cut in chosen:
        cut.strike(world, start)
        after = aftermath(world, start)
        assert after.clean, f"{cut.model}, after {cut.calls} calls, without {cut.missing}: {after}"


def some(found: list[Cut], number: int = SAMPLE) -> list[Cut]:
    """By chance; and the last ones, where a publish is over and its last words are not on the disk."""
    return random.Random(4).sample(found, min(number, len(found))) + found[-2:]


@pytest.mark.parametrize("start", [FRESH, PUBLISHED])
@pytest.mark.parametrize("model", MODELS)
def test_a_power_cut_is_survived(flat_world: World, start: str, model: str) -> None:
    """Whole before the start, of one generation after it, told, and recorded: by both models, where each is asked for."""
    disk, steps = recorded(flat_world, start, forgetful=model == "strict")
    survive(flat_world, start, some(list(cuts(model, disk, steps))))


def test_a_disk_that_tears_pages_is_survived(flat_world: World) -> None:
    """Half of a page may be on the disk: of a state's record, of the audit, of a sink that is written in place."""
    disk, steps = recorded(flat_world, PUBLISHED)
    survive(flat_world, PUBLISHED, some(list(cuts("ordered", disk, steps, grain=SECTOR))))


def test_sinks_on_a_tmpfs_are_gone_after_the_cut(tmp_path: Path) -> None:
    """What the others hold is of one generation all the same, and no number is given to a second value."""
    world = make_world(tmp_path / "volatile", linked=False, volatile=["env"])
    try:
        disk, steps = recorded(world, PUBLISHED)
        survive(world, PUBLISHED, some(list(cuts("ordered", disk, steps))))
    finally:
        world.close()


@pytest.mark.parametrize("model", MODELS)
def test_the_models_find_what_is_not_flushed(flat_world: World, model: str) -> None:
    """The same publish without its flushes is found torn: a model that finds nothing would prove nothing."""
    disk, steps = recorded(flat_world, PUBLISHED)
    careless = [step for step in steps if not step.kind.startswith("sync")]
    torn = 0
    for cut in list(cuts(model, disk, careless))[-120:]:
        cut.strike(flat_world, PUBLISHED)
        torn += bool(flat_world.look([STARTS[PUBLISHED], NEW]).torn)
    assert torn
