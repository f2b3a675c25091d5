"""Those who fetched the old key from keyturn itself are waited for, and named."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from agent.core.timestamps import rfc3339
from agent.emergency import procedure
from tests.support.station import steps

NOW = datetime(2030, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Fetched:
    """A process that holds an answer."""

    who: str = "pid 7 /usr/bin/web (web.service)"
    until: datetime = NOW + timedelta(seconds=240)
    hold: timedelta = timedelta(seconds=60)


@pytest.fixture
def fetched(station, monkeypatch):
    """Who holds an older generation, look by look; what was asked for is noted."""
    asked = []
    looks = []

    def who_fetched(name, generation):
        asked.append((name, generation, station.status_of(asked_of["old"])))
        return looks.pop(0) if looks else ()

    asked_of = {}
    monkeypatch.setattr("tests.support.station.Emergency", partial(procedure.Emergency, who_fetched=who_fetched))
    station.start()
    asked_of["old"] = station.current
    return looks, asked


def test_the_old_key_lives_until_nobody_holds_it(station, fetched):
    """Each look finds it active; the step names whom it waited for."""
    looks, asked = fetched
    looks += [[Fetched()], [Fetched(), Fetched("pid 8")], [Fetched("pid 8")]]
    result = station.rotate(disable_old=True)
    assert (result.error, result.safe, result.all_moved) == (None, True, True)
    assert set(asked) == {("uploader", 2, "Active")} and len(asked) == 4
    (step,) = [one for one in result.steps if one["name"] == "fetched"]
    assert (step["outcome"], "web.service" in step["detail"], "pid 8" in step["detail"]) == ("done", True, True)


def test_force_does_not_wait_and_says_whom_it_overrides(station, fetched):
    """The key is dead at once; they are left behind until their answer has expired."""
    looks, asked = fetched
    looks += [[Fetched()]]
    result = station.rotate(disable_old=True, force=True)
    assert (result.safe, result.all_moved, len(asked)) == (True, False, 1)
    (left,) = result.left_behind
    assert (left.who, left.reason) == (Fetched().who, "fetched the old key")
    assert rfc3339(Fetched().until) in left.why


def test_a_process_that_fetched_three_generations_is_named_once(station, fetched):
    """In the note of `--force` and among those left behind: by the answer that lives longest."""
    looks, _asked = fetched
    looks += [[Fetched(until=NOW + timedelta(seconds=held)) for held in (240, 180, 120)]]
    result = station.rotate(disable_old=True, force=True)
    (left,) = result.left_behind
    (note,) = [one for one in result.notes if Fetched().who in one]
    assert note.count(Fetched().who) == 1
    assert rfc3339(Fetched().until) in left.why and rfc3339(Fetched().until) in note


def test_the_wait_says_how_long_it_usually_is(station, fetched, monkeypatch):
    """The longest of their holds, beside the latest time."""
    said = []
    monkeypatch.setattr("agent.system.waiting.Activity.begin", lambda _self, what: said.append(what))
    looks, _asked = fetched
    looks += [[Fetched(hold=timedelta(seconds=5)), Fetched("pid 8")]] * 2
    station.rotate(disable_old=True)
    (wait,) = {one for one in said if "pid 8" in one}
    assert "usually within 60 s" in wait and rfc3339(Fetched().until) in wait


def test_nobody_is_no_step(station, fetched):
    """And where the old key lives on, nobody is waited for."""
    _looks, asked = fetched
    result = station.rotate()
    assert "fetched" not in steps(result) and asked == []
