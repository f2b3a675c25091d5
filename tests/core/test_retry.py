"""Trying again: jitter over the whole range, a cap, a deadline that no pause outlives."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from agent.core.retry import FLOOR_S, Retry


class Sleeper:
    """A clock that moves only while somebody pauses."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.pauses: list[float] = []

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now_s += seconds

    def retry(
        self, chance: Callable[[], float], base_s: float = 1.0, cap_s: float = 8.0, limit_s: float = 60.0
    ) -> Retry:
        return Retry(base_s, cap_s, limit_s, chance=chance, pause=self.pause, monotonic=lambda: self.now_s)


def pauses(chance: Callable[[], float], limit_s: float = 60.0) -> list[float]:
    """Return every pause of an operation that never works."""
    sleeper = Sleeper()
    retry = sleeper.retry(chance, limit_s=limit_s)
    while retry.again():
        pass
    return sleeper.pauses


def test_a_pause_may_be_twice_the_one_before_up_to_the_cap() -> None:
    """With the highest draw the ceilings show: base, doubled, then the cap."""
    assert pauses(lambda: 1.0)[:6] == [1.0, 2.0, 4.0, 8.0, 8.0, 8.0]


def test_two_callers_with_different_chances_pause_differently() -> None:
    """Hosts that fail at one moment do not come back at one moment."""
    one, other = pauses(random.Random(1).random), pauses(random.Random(2).random)
    assert all(a != b for a, b in zip(one[:5], other[:5], strict=True))


def test_the_jitter_is_full() -> None:
    """Draws fill the whole range below the ceiling evenly, not only a part of it."""
    draw = random.Random(3).random
    fourths = [pauses(draw)[3] for _ in range(2000)]
    assert all(FLOOR_S <= pause <= 8.0 for pause in fourths)
    shares = [sum(low <= pause < low + 2 for pause in fourths) / len(fourths) for low in (0, 2, 4, 6)]
    assert shares == pytest.approx([0.25] * 4, abs=0.05)


@pytest.mark.parametrize("limit_s", [0.05, 1.0, 7.3, 60.0])
def test_no_pause_outlives_the_deadline_and_the_time_is_used(limit_s: float) -> None:
    """The pauses come to the limit, no more and no less, whatever was drawn."""
    for seed in range(50):
        assert sum(pauses(random.Random(seed).random, limit_s)) == pytest.approx(limit_s)


def test_without_time_there_is_one_try() -> None:
    """A limit of nothing does not pause."""
    assert pauses(lambda: 0.5, 0.0) == []


def test_no_draw_makes_a_busy_loop() -> None:
    """The lowest draw still pauses, and so does the thousandth."""
    assert set(pauses(lambda: 0.0)[:-1]) == {FLOOR_S}
    assert max(pauses(lambda: 1.0, 100_000.0)) == 8.0


def test_a_failure_may_get_less_patience() -> None:
    """The shorter limit counts from the start, and the next failure may have the whole time again."""
    sleeper = Sleeper()
    retry = sleeper.retry(lambda: 1.0)
    while retry.again(10.0):
        pass
    assert sum(sleeper.pauses) == 10.0
    assert retry.again()
    assert retry.attempts == len(sleeper.pauses) + 1


def test_what_a_pause_raises_ends_it() -> None:
    """A stopping agent is not waited for."""

    def stop(_seconds: float) -> None:
        raise InterruptedError

    retry = Retry(1.0, 8.0, 60.0, chance=lambda: 0.5, pause=stop, monotonic=lambda: 0.0)
    with pytest.raises(InterruptedError):
        retry.again()
    assert retry.attempts == 1
