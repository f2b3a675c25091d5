"""Every history of a rotation up to a bound: what people do, in which order, and a death at each point between two calls."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from itertools import product

import pytest

from agent.core.errors import KeyturnError
from agent.ram_rotation.view import Rest, Wanted
from agent.state.ram_record import RamRecord
from tests.support.ram_world import Board, RamWorld

Step = Callable[[RamWorld], None]
MOST_POINTS = 100
"""More than any errand has; the last history of each is the one without a death."""


def _stranger(world: RamWorld) -> None:
    """Not in the very seconds of a call of ours: what is made then is a case of its own (test_ownership.py)."""
    world.now += timedelta(minutes=1)
    if len(world.keys) < 2:
        world.add()


def _stranger_disables_ours(world: RamWorld) -> None:
    if world.host.published in world.keys:
        world.keys[world.host.published].status = "Inactive"


def _stranger_deletes_ours(world: RamWorld) -> None:
    world.keys.pop(world.host.published, None)


def _stranger_enables_all(world: RamWorld) -> None:
    for key in world.keys.values():
        key.status = "Active"


def _old_keys_are_used(world: RamWorld) -> None:
    for key in world.keys.values():
        if key.access_key_id in {one.access_key_id for one in world.host.record.keys if one.is_published}:
            key.used_at = world.now


def _passes(hours: float) -> Step:
    def step(world: RamWorld) -> None:
        world.now += timedelta(hours=hours)

    return step


def _state_is_lost(world: RamWorld) -> None:
    world.host.record = RamRecord()
    world.host.published, world.host.since = "", None
    world.restart()


def _backup(world: RamWorld) -> None:
    """The state of the beginning comes back; the files stay as they are."""
    first = world.first_host  # type: ignore[attr-defined]
    sinks = world.host.sinks
    world.host = copy.copy(first)
    world.host.sinks = sinks
    world.restart()


def _moves(world: RamWorld) -> None:
    world.host.name = "host-b"
    world.restart()


def _reply_is_lost(world: RamWorld) -> None:
    world.silent.add("CreateAccessKey")


def _is_shared(world: RamWorld) -> None:
    """The host belongs to a fleet from now on."""
    if world.board is None:
        world.board = Board()


def _lease_is_lost(world: RamWorld) -> None:
    _is_shared(world)
    world.lose_lease()


def _lease_goes(after: int) -> Step:
    """The lease goes to another host in the middle of the next errand, behind that many permitted calls."""

    def step(world: RamWorld) -> None:
        _is_shared(world)
        world.lease_goes_after = after

    return step


def _board_is_away(world: RamWorld) -> None:
    _is_shared(world)
    assert world.board is not None
    world.board.is_away = True


STEPS: dict[str, Step] = {
    "nothing": lambda world: None,
    "a look": lambda world: world.look_as_scheduled() and None,
    "a rotation": lambda world: world.run(Wanted.DUE) and None,
    "an emergency": lambda world: world.emergency() and None,
    "an old key leaked": lambda world: world.leaked() and None,
    "a stranger's key": _stranger,
    "ours disabled by hand": _stranger_disables_ours,
    "ours deleted by hand": _stranger_deletes_ours,
    "all enabled by hand": _stranger_enables_all,
    "old keys are used": _old_keys_are_used,
    "eleven minutes": _passes(0.19),
    "two days": _passes(48),
    "three weeks": _passes(24 * 21),
    "the state is lost": _state_is_lost,
    "a backup": _backup,
    "another host": _moves,
    "the next reply is lost": _reply_is_lost,
    "a restart": lambda world: world.restart(),
    "the lease is lost": _lease_is_lost,
    "the lease goes at the next call": _lease_goes(0),
    "the lease goes at the second call": _lease_goes(1),
    "the lease is free": lambda world: world.regain_lease(),
    "the board is away": _board_is_away,
}


def _world(lag_s: float) -> RamWorld:
    world = RamWorld(list_lag=timedelta(seconds=lag_s))
    world.put_under_rotation()
    world.now += timedelta(days=60)
    world.run()
    world.first_host = copy.copy(world.host)  # type: ignore[attr-defined]
    return world


History = tuple[float, str, bool, int, tuple[str, ...]]
"""How far lists lag behind in seconds, what happens before, whether an operator rotates, where the errand dies, what follows."""


def _walk(befores: Iterable[str], afters: Sequence[tuple[str, ...]], lags: tuple[float, ...] = (0.0,)) -> int:
    """Walk every history; the promises are asserted by the world as each call is made. Return how many there were."""
    count = 0
    for lag_s, before, emergency in product(lags, befores, (False, True)):
        begun = _world(lag_s)
        STEPS[before](begun)
        for die_at in range(1, MOST_POINTS):
            dying = begun.twin()
            died = _errand(dying, emergency, die_at)
            for after in afters:
                world = dying.twin()
                for name in after:
                    STEPS[name](world)
                    world.look_as_scheduled()
                _nothing_is_left(world, world.settle(), (lag_s, before, emergency, die_at, after))
                count += 1
            if not died:  # it came to its end before that point
                break
    return count


def _errand(world: RamWorld, emergency: bool, die_at: int) -> bool:
    """Rotate; return whether it died at that point."""
    if emergency:
        world.emergency(die_at)
    else:
        world.run(Wanted.DUE, die_at)
    return world.points >= die_at


def _nothing_is_left(world: RamWorld, end: Rest | KeyturnError | None, history: History) -> None:
    """A key whose secret nobody has is gone, unless somebody has to decide something first."""
    if isinstance(end, Rest) and (end.is_wrong or end.text):
        return
    assert isinstance(end, Rest), (history, end)
    ours = {key.access_key_id for key in world.keys.values() if key.is_ours}
    assert ours <= {world.host.published}, (history, ours, world.host)


def test_a_sample_of_all_histories(capsys: pytest.CaptureFixture[str]) -> None:
    """No key of a stranger's is touched, nor the last one that works; and no unusable key is left."""
    names = (
        "nothing",
        "a rotation",
        "a stranger's key",
        "a backup",
        "the state is lost",
        "two days",
        "an old key leaked",
    )
    befores = ["nothing", "the next reply is lost", "the lease goes at the next call"]
    count = _walk(befores, [(name,) for name in (*names, "the lease is lost")])
    with capsys.disabled():
        print(f"\n{count} histories walked")


@pytest.mark.crash
@pytest.mark.parametrize("before", STEPS)
def test_every_history(before: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The same for each thing that can happen before the rotation, and each two that can happen after a death in it."""
    count = _walk([before], [*((name,) for name in STEPS), *product(STEPS, STEPS)], (0.0, 120.0))
    with capsys.disabled():
        print(f"\n{before}: {count} histories walked")
