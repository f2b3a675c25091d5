"""When a key is replaced: its age, a window of the day, changes of the clocks, and what was missed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from agent.system.rotation_window import EARLIER_AT_MOST, next_rotation, window_fault, window_of

SINCE = datetime(2026, 1, 10, 9, 0, tzinfo=UTC)
SIXTY = timedelta(days=60)
SEEDS = [f"host-{number}" for number in range(200)]


def test_without_a_window_it_comes_a_little_early_and_not_at_once_everywhere() -> None:
    """At the age of `every`, up to a day earlier, differently by host; the same one always at the same moment."""
    found = [next_rotation(SINCE, SIXTY, None, seed, SINCE) for seed in SEEDS]
    assert SINCE + SIXTY - EARLIER_AT_MOST <= min(found) < max(found) <= SINCE + SIXTY
    assert len(set(found)) == len(SEEDS)
    assert found == [next_rotation(SINCE, SIXTY, None, seed, SINCE + timedelta(days=30)) for seed in SEEDS]


@pytest.mark.parametrize(("between", "hours"), [("02:00-05:00", {18, 19, 20}), ("23:30-00:30", {15, 16})])
def test_it_falls_into_the_window_of_its_zone(between: str, hours: set[int]) -> None:
    """Hours of Shanghai, which is eight hours ahead; a window may cross midnight."""
    window = window_of(between, "Asia/Shanghai")
    found = [next_rotation(SINCE, SIXTY, window, seed, SINCE) for seed in SEEDS]
    assert {moment.hour for moment in found} == hours
    assert all(SINCE + SIXTY - EARLIER_AT_MOST <= moment <= SINCE + SIXTY + timedelta(days=1) for moment in found)


def test_what_was_missed_is_due_at_once_or_where_the_next_window_begins() -> None:
    """After a stop of a month: inside of a window now, otherwise at its beginning; without one at once."""
    window = window_of("02:00-05:00", "UTC")
    late = datetime(2026, 4, 20, 12, 0, tzinfo=UTC)
    assert next_rotation(SINCE, SIXTY, None, "a", late) <= late
    assert next_rotation(SINCE, SIXTY, window, "a", late) == datetime(2026, 4, 21, 2, 0, tzinfo=UTC)
    inside = datetime(2026, 4, 21, 4, 59, tzinfo=UTC)
    assert next_rotation(SINCE, SIXTY, window, "a", inside) <= inside
    assert next_rotation(inside, SIXTY, window, "a", inside) > inside + timedelta(days=58)


def test_hours_that_a_change_of_the_clocks_skips_count_for_the_next_day() -> None:
    """Berlin has no 02:30 on 29 March 2026: that day has no such window, and the day after has."""
    window = window_of("02:00-03:00", "Europe/Berlin")
    assert window is not None
    days = {begins.date().isoformat() for begins, _ends in window.around(datetime(2026, 3, 28, 23, 0, tzinfo=UTC))}
    assert "2026-03-29" not in days
    assert "2026-03-30" in days
    since = datetime(2026, 3, 29, 0, 30, tzinfo=UTC) - SIXTY
    found = {next_rotation(since, SIXTY, window, seed, since) for seed in SEEDS}
    assert {moment.date().isoformat() for moment in found} <= {"2026-03-28", "2026-03-30"}


def test_an_hour_that_comes_twice_is_one_window() -> None:
    """On 25 October 2026 the hour from two to three lasts two hours in Berlin; a rotation has one moment in it."""
    window = window_of("02:00-03:00", "Europe/Berlin")
    assert window is not None
    spans = {
        begins.date().day: ends - begins for begins, ends in window.around(datetime(2026, 10, 25, 0, 0, tzinfo=UTC))
    }
    assert spans[25] == timedelta(hours=2)
    assert spans[26] == timedelta(hours=1)


@pytest.mark.parametrize(
    ("between", "zone", "key"),
    [
        ("2-5", "UTC", "between"),
        ("02:00-24:30", "UTC", "between"),
        ("02:00-02:00", "UTC", "between"),
        ("02:00-05:00", "", "time_zone"),
        ("02:00-05:00", "Mars/Olympus", "time_zone"),
        ("02:00-05:00", "../etc/passwd", "time_zone"),
        ("", "UTC", "time_zone"),
    ],
)
def test_what_cannot_be_a_window_is_said_at_its_key(between: str, zone: str, key: str) -> None:
    """Each with the key that is wrong."""
    found = window_fault(between, zone)
    assert found is not None and found[0] == key


def test_a_window_that_can_be_is_none() -> None:
    """And neither key is no fault."""
    assert window_fault("02:00-05:00", "Asia/Shanghai") is None
    assert window_fault("", "") is None
