"""The metronome: `schedule` under a clock that lies."""

import time
from datetime import datetime, timedelta

import pytest
from freezegun import freeze_time

from agent.runtime.scheduler import Job, JobKind, Scheduler


def plan(scheduler, name, delay_s):
    """Plan a job that says its name."""
    scheduler.set(Job(JobKind.CALL, name), delay_s, lambda: name)


def due(scheduler):
    """The names of what came due."""
    scheduler.collect()
    return [act() for act in iter(scheduler.take, None)]


class Boot:
    """A boottime that only moves when told to."""

    def __init__(self):
        self.seconds = 1000.0

    def __call__(self):
        return self.seconds


@pytest.fixture
def boot():
    return Boot()


def pass_time(frozen, boot, seconds, *, step=0.0):
    """Let time go by; `step` is what the wall clock is set by besides."""
    boot.seconds += seconds
    frozen.tick(timedelta(seconds=seconds + step))


def test_a_job_comes_due_once_and_in_order():
    """Nothing before its time, each once, the earliest first."""
    boot = Boot()
    with freeze_time("2026-11-22 03:00:00") as frozen:
        scheduler = Scheduler(boot)
        plan(scheduler, "b", 20)
        plan(scheduler, "a", 10)
        pass_time(frozen, boot, 9.9)
        assert due(scheduler) == []
        assert scheduler.next_at() == 1010.0
        pass_time(frozen, boot, 11)
        assert due(scheduler) == ["a", "b"]
        assert due(scheduler) == []
        assert scheduler.next_at() is None


STEPS = {
    "an hour back": -3600,
    "an hour forwards": 3600,
    "a day back": -86400,
    "a day forwards": 86400,
    "a second back": -1,
    "to the epoch": -1795316400,
}


@pytest.mark.parametrize("name", STEPS)
def test_a_stepped_wall_clock_neither_delays_nor_hurries(boot, name):
    """After a step the job comes when it would have come without."""
    with freeze_time("2026-11-22 03:00:00") as frozen:
        scheduler = Scheduler(boot)
        plan(scheduler, "poll", 60)
        pass_time(frozen, boot, 30, step=STEPS[name])
        assert due(scheduler) == []
        pass_time(frozen, boot, 29.9)
        assert due(scheduler) == []
        pass_time(frozen, boot, 0.1)
        assert due(scheduler) == ["poll"]


@pytest.mark.parametrize(("before", "name"), [("2026-10-25 00:30", "autumn"), ("2026-03-29 00:30", "spring")])
def test_the_change_of_summer_time_does_not_matter(boot, before, name, monkeypatch):
    """Naive local time jumps by an hour in Berlin; the job does not."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        offset = {"autumn": (2, 1), "spring": (1, 2)}[name]
        with freeze_time(before, tz_offset=offset[0]) as frozen:
            scheduler = Scheduler(boot)
            plan(scheduler, "poll", 3600)
            pass_time(frozen, boot, 1800)
            assert due(scheduler) == []
        with freeze_time(datetime.fromisoformat(before) + timedelta(hours=1), tz_offset=offset[1]):
            boot.seconds += 1799
            assert due(scheduler) == []
            boot.seconds += 1
            assert due(scheduler) == ["poll"]
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_suspended_machine_finds_its_jobs_due(boot):
    """After a night's sleep every job is due at once, and once."""
    with freeze_time("2026-11-22 03:00:00") as frozen:
        scheduler = Scheduler(boot)
        plan(scheduler, "poll", 60)
        pass_time(frozen, boot, 8 * 3600)
        assert due(scheduler) == ["poll"]


def test_setting_again_replaces(boot):
    """A name has one instant."""
    with freeze_time("2026-11-22 03:00:00") as frozen:
        scheduler = Scheduler(boot)
        plan(scheduler, "poll", 5)
        plan(scheduler, "poll", 50)
        pass_time(frozen, boot, 10)
        assert due(scheduler) == []
        scheduler.clear(Job(JobKind.CALL, "poll"))
        pass_time(frozen, boot, 100)
        assert due(scheduler) == []


def test_a_step_is_noticed_once(boot):
    """The engine hears of a step so that it can plan sessions anew; slewing is none."""
    with freeze_time("2026-11-22 03:00:00") as frozen:
        scheduler = Scheduler(boot)
        pass_time(frozen, boot, 10, step=0.2)
        assert scheduler.clock_step() == 0.0
        pass_time(frozen, boot, 10, step=-3600)
        assert scheduler.clock_step() == pytest.approx(-3600, abs=1)
        assert scheduler.clock_step() == 0.0


def test_the_real_clock_and_many_jobs():
    """A thousand names on the real clock: each comes due once."""
    scheduler = Scheduler(lambda: time.clock_gettime(time.CLOCK_BOOTTIME))
    for number in range(1000):
        plan(scheduler, f"n{number}", 0)
    assert sorted(due(scheduler)) == sorted(f"n{number}" for number in range(1000))


def test_what_is_due_is_handed_out_once_unless_it_is_cleared_or_set_anew():
    """The watchdog's job comes first, then the earliest; what is due and not taken yet can still be taken back."""
    boot = Boot()
    with freeze_time("2026-11-22 03:00:00") as frozen:
        scheduler, seen = Scheduler(boot), []
        jobs = {name: Job(kind, name) for name, kind in (("poll", JobKind.REFRESH), ("old", JobKind.STALE))}
        for delay_s, job in enumerate([*jobs.values(), Job(JobKind.TELL, "unit"), Job(JobKind.EVERY, "beat")], 1):
            scheduler.set(job, delay_s, lambda job=job: seen.append(job.subject))
        pass_time(frozen, boot, 10)
        scheduler.collect()
        assert scheduler.at(jobs["poll"]) == scheduler.next_at() == 1001.0
        scheduler.clear(jobs["old"])
        scheduler.set(jobs["poll"], 5, lambda: seen.append("poll again"))
        for act in iter(scheduler.take, None):
            act()
        assert seen == ["beat", "unit"]
        pass_time(frozen, boot, 5)
        scheduler.collect()
        assert [act() for act in iter(scheduler.take, None)] == [None]
        assert seen[2:] == ["poll again"]
        assert scheduler.next_at() is None
