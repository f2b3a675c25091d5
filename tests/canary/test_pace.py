"""How often the canary looks: each minute, and each second while a key is new."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from agent.canary import pace
from agent.canary.pace import Progress, is_hurried, pause_s, refresh_pause_s

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def after(seconds: float, *, is_spread: bool = False, in_emergency: bool = False) -> Progress:
    return Progress(NOW - timedelta(seconds=seconds), is_spread, in_emergency)


@pytest.mark.parametrize(
    ("progress", "hurried"),
    [
        (after(0, is_spread=True), True),
        (after(59, is_spread=True), True),
        (after(60, is_spread=True), False),
        (after(60), True),
        (after(599), True),
        (after(600), False),
        (after(86_400, in_emergency=True), True),
        (after(-1), False),
        (Progress(None, True, False), False),
    ],
)
def test_a_new_key_is_watched_each_second_until_everybody_has_it(progress: Progress, hurried: bool) -> None:
    """For a minute at least, for ten at most; in an emergency for as long as it lasts; never for a clock that was set back."""
    assert is_hurried(progress, NOW) is hurried
    assert (pause_s(progress, NOW, 0.5) == pace.HURRIED_S) is hurried


def test_calm_looks_are_spread() -> None:
    """A minute, give or take a tenth."""
    calm = after(3600)
    assert [pause_s(calm, NOW, chance) for chance in (0.0, 0.5)] == [54.0, 60.0]
    assert pause_s(calm, NOW, 0.999) < 66.0


def test_a_key_that_stays_refused_is_refreshed_ever_more_rarely() -> None:
    """Ten seconds, then twice as long each time, up to a minute, however long it lasts."""
    assert [refresh_pause_s(number) for number in (1, 2, 3, 4, 1000)] == [10.0, 20.0, 40.0, 60.0, 60.0]


def test_a_thousand_each_minute_fit_into_the_ticks() -> None:
    """So that no credential waits for its turn for ever."""
    assert pace.PER_TICK * pace.CALM_S * (1 - pace.CALM_JITTER) / pace.TICK_S > 1000
