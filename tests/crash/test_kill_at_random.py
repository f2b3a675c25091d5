"""kill -9 at random moments under rotations as fast as they go, with independent readers looking all the while."""

from __future__ import annotations

import pytest

from tests.support.crash.deaths import Lives, watched
from tests.support.crash.world import World

DEATHS = 10


@pytest.mark.parametrize("seed", [1, 2])
def test_a_daemon_that_dies_again_and_again(world: World, seed: int) -> None:
    """No reader saw a torn file, a mixed pair, another owner or mode, or anything that was not meant for it.

    After each death: one generation in all sinks, nothing beside them, no number for two values, nobody forgotten.
    """
    lives = Lives(world, seed)
    with watched(world) as seen:
        for _ in range(DEATHS):
            lives.live()
        found = lives.end()
    assert found.clean, found
    for reader in seen:
        assert reader["looks"] > DEATHS
        assert not set(reader) & {"torn", "mixed", "attributes", "readable"}, reader
