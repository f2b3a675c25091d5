"""Times for people, in whatever zone this process has."""

import time
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from agent.system.local_time import LocalTime, local_times

WINTER, SUMMER = datetime(2026, 11, 30, 17, 30, tzinfo=UTC), datetime(2026, 7, 1, tzinfo=UTC)


@pytest.fixture
def zone(monkeypatch):
    """Sets $TZ for this process; None takes it away."""

    def set_to(name):
        if name is None:
            monkeypatch.delenv("TZ", raising=False)
        else:
            monkeypatch.setenv("TZ", name)
        time.tzset()

    yield set_to
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("name", "named", "told"),
    [
        ("UTC", "UTC", "2026-11-30 17:30:00"),
        ("Asia/Shanghai", "CST (UTC+08:00)", "2026-12-01 01:30:00"),
        ("Asia/Kolkata", "IST (UTC+05:30)", "2026-11-30 23:00:00"),
        ("America/St_Johns", "NST (UTC-03:30)", "2026-11-30 14:00:00"),
        ("America/Sao_Paulo", "UTC-03:00", "2026-11-30 14:30:00"),
        ("Mars/Olympus", "Mars (UTC)", "2026-11-30 17:30:00"),
        ("", "UTC", "2026-11-30 17:30:00"),
    ],
)
def test_the_zone_is_named_with_its_offset(zone, name, named, told):
    """Abbreviations are ambiguous; an unknown zone is UTC, as for date(1)."""
    zone(name)
    local = LocalTime(WINTER)
    assert (local.zone, local.time(WINTER)) == (named, told)


def test_without_a_zone_there_is_a_time_all_the_same(zone):
    """Then it is the machine's."""
    zone(None)
    local = LocalTime(WINTER)
    assert local.zone and local.time(WINTER)


def test_a_time_of_the_other_half_of_the_year_has_its_own_offset():
    """So that the hour which summer time repeats is never two times by one name."""
    local = LocalTime(WINTER, ZoneInfo("Europe/Berlin"))
    assert local.zone == "CET (UTC+01:00)"
    assert local.time(SUMMER) == "2026-07-01 02:00:00 UTC+02:00"
    first, again = datetime(2026, 10, 25, 0, 30, tzinfo=UTC), datetime(2026, 10, 25, 1, 30, tzinfo=UTC)
    assert local.time(first) == "2026-10-25 02:30:00 UTC+02:00"
    assert local.time(again) == "2026-10-25 02:30:00"


def test_a_sentence_is_told_in_local_time():
    """Every time of UTC in it, with fractions too; what is none stays, and the zone is to be named only where one was told."""
    local = LocalTime(WINTER, ZoneInfo("Asia/Shanghai"))
    assert (
        local.told("v-2026 is no time, nor is 2026-13-30T00:00:00Z") == "v-2026 is no time, nor is 2026-13-30T00:00:00Z"
    )
    assert not local.is_told
    assert local.told("from 2026-11-30T17:30:00Z to 2026-11-30T17:30:01.123456Z") == (
        "from 2026-12-01 01:30:00 to 2026-12-01 01:30:01"
    )
    assert local.is_told


def test_the_end_of_time_is_a_time():
    """A year that no zone reaches is told in UTC."""
    last = datetime.max.replace(tzinfo=UTC, microsecond=0)
    assert LocalTime(WINTER, ZoneInfo("Asia/Shanghai")).time(last).startswith("9999-12-31 23:59:59")
    assert LocalTime(WINTER).zoned(WINTER + timedelta(0))


def test_a_sentence_that_stands_alone_has_the_offset_of_each_time(zone):
    """So is every error that a command ends with: nothing else on the screen names the zone."""
    zone("Asia/Shanghai")
    assert local_times("begun at 2026-11-30T17:30:00Z, and nothing since") == (
        "begun at 2026-12-01 01:30:00 UTC+08:00, and nothing since"
    )
