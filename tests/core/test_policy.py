"""When to refresh, and what an answer is: tables of scenarios."""

import random
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core import policy
from agent.core.credential import Credential
from agent.core.policy import Change, Standing, Window
from agent.core.secret import Secret

T0 = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)
CHANCE = st.floats(0, 1, exclude_max=True)


def key(name="A", secret="s", version="v1", minutes=None):
    expiration = T0 + timedelta(minutes=minutes) if minutes is not None else None
    return Credential(name, Secret(secret) if secret else None, version_id=version, expiration=expiration)


def session(life_s=3600.0, failures=0):
    return Standing(True, T0, T0 + timedelta(seconds=life_s), failures)


def polled(failures=0, poll_s=60.0):
    return Standing(True, None, None, failures, poll_s)


def watched(life_s=3600.0):
    return Standing(True, T0, T0 + timedelta(seconds=life_s), 0, 60.0, watched=True)


NOTHING = Standing()


def after(seconds):
    return T0 + timedelta(seconds=seconds)


JUDGEMENTS = {
    "nothing was published yet": (key(), None, Change.FIRST),
    "the same value again": (key(), key(), Change.SAME),
    "the same value, its secret unknown after a restart": (key(), key(secret=""), Change.SAME),
    "another AccessKey": (key("B"), key(), Change.NEW),
    "another secret under the same id": (key(secret="t"), key(), Change.NEW),
    "another version": (key(version="v2"), key(), Change.NEW),
    "a session that lives longer": (key(minutes=60), key(minutes=30), Change.NEW),
    "a session that dies sooner": (key("B", minutes=20), key(minutes=30), Change.WORSE),
    "a long-term key after a session": (key("B"), key(minutes=30), Change.NEW),
    "a session after a long-term key": (key("B", minutes=30), key(), Change.NEW),
}


@pytest.mark.parametrize("name", JUDGEMENTS)
def test_what_an_answer_is(name):
    """Each scenario has one judgement."""
    new, current, expected = JUDGEMENTS[name]
    assert policy.judge(new, current) is expected


def test_a_changed_config_may_shorten_a_life():
    """A role whose sessions live 1 h from now on is not held to the 12 h of the session before."""
    new, current = key("B", minutes=60), key(minutes=720)
    assert policy.judge(new, current) is Change.WORSE
    assert policy.judge(new, current, same_source=False) is Change.NEW


WINDOWS = {
    "nothing was published": (NOTHING, 0, Window.EXPIRED),
    "nothing was published, and the source is down": (Standing(failures=3), 0, Window.EXPIRED),
    "a polled value that is well": (polled(), 1e6, Window.FRESH),
    "a polled value whose source fails": (polled(failures=9), 1e6, Window.CALM),
    "a young session": (session(), 10, Window.FRESH),
    "a young session that could not be renewed by hand": (session(failures=1), 10, Window.CALM),
    "a session behind two thirds of its life": (session(), 2500, Window.CALM),
    "a session just before its last tenth": (session(failures=9), 3239, Window.CALM),
    "a session in its last tenth": (session(failures=9), 3241, Window.URGENT),
    "a session in its last tenth that nobody tried to renew": (session(), 3241, Window.URGENT),
    "a session at its end": (session(failures=9), 3600, Window.EXPIRED),
    "a session long dead": (session(failures=9), 1e6, Window.EXPIRED),
    "a session of 20 s with 3 s left": (session(20.0, 1), 17, Window.CALM),
    "a session of 20 s with 1 s left": (session(20.0, 1), 19, Window.URGENT),
}


@pytest.mark.parametrize("name", WINDOWS)
def test_how_urgent_it_is(name):
    """Each scenario lies in one window."""
    standing, seconds, expected = WINDOWS[name]
    assert policy.assess(standing, after(seconds)) is expected


NEXT = {
    "a polled value, a minute and a tenth either way": (polled(), 0, (54, 66)),
    "a poll each second": (polled(poll_s=1.0), 0, (0.9, 1.1)),
    "a session that somebody else replaces when they like": (watched(), 0, (54, 66)),
    "the same, near its end": (watched(), 3595, (0.9, 1.1)),
    "a session of an hour, two thirds and a twentieth either way": (session(), 0, (2220, 2580)),
    "a session of 15 minutes": (session(900.0), 0, (555, 645)),
    "a session of 12 hours": (session(43_200.0), 0, (26_640, 30_960)),
    "a session of 20 s": (session(20.0), 0, (12.3, 14.4)),
    "a session whose half is over": (session(), 1800, (420, 780)),
    "the same session again behind two thirds, 20 minutes left": (session(), 2600, (45, 55)),
    "the same session again, two minutes left": (session(), 3480, (5.4, 6.6)),
    "the same session again, its last seconds": (session(), 3595, (0.9, 1.1)),
    "a polled value, failed once: no sooner than half a poll": (polled(1), 0, (30, 60)),
    "a polled value, failed for hours: no later than a minute": (polled(500), 0, (30, 60)),
    "a poll each second, failed once": (polled(1, 1.0), 0, (0.5, 1)),
    "a poll each second, failed three times": (polled(3, 1.0), 0, (2, 4)),
    "a poll each hour, failed once: a minute at most": (polled(1, 3600.0), 0, (30, 60)),
    "a session of an hour, calm, failed once": (session(failures=1), 2500, (15, 30)),
    "a session of an hour, calm, failed often": (session(failures=9), 2500, (30, 60)),
    "a session of an hour, urgent": (session(failures=9), 3300, (0.1, 5)),
    "a session of an hour, its last eight seconds": (session(failures=9), 3592, (0.1, 2)),
    "a session of 20 s, calm": (session(20.0, 1), 14, (0.5, 1)),
    "a session of 20 s, urgent": (session(20.0, 3), 19, (0.1, 0.25)),
    "a session that died a moment ago: nothing left to guard": (session(failures=1), 3601, (0.1, 2)),
    "a session long dead": (session(failures=20), 9000, (0.1, 60)),
    "nothing was ever published, failed once": (Standing(failures=1), 0, (0.1, 2)),
    "nothing was ever published, down for hours": (Standing(failures=99), 0, (0.1, 60)),
}


@pytest.mark.parametrize("name", NEXT)
def test_when_the_next_refresh_comes(name):
    """Each scenario has a least and a greatest delay in seconds, and both are reached."""
    standing, seconds, (least, greatest) = NEXT[name]
    delays = [policy.next_refresh(standing, after(seconds), chance / 1000) for chance in range(1000)]
    assert min(delays) == pytest.approx(least, rel=0.02, abs=0.01)
    assert max(delays) == pytest.approx(greatest, rel=0.02, abs=0.01)


FIRST = {
    "nothing on disk: at once": (NOTHING, 0, (0, 0)),
    "a dead session on disk: at once": (session(), 3600, (0, 0)),
    "a polled value on disk: within half a minute": (polled(), 0, (0, 30)),
    "a value that is polled each second": (polled(poll_s=1.0), 0, (0, 1)),
    "a value that is polled each hour: likewise": (polled(poll_s=3600.0), 0, (0, 30)),
    "a session that is watched": (watched(), 600, (0, 30)),
    "a young session: when it is due": (session(), 600, (1620, 1980)),
    "a session that is overdue, 16 minutes left": (session(), 2640, (0, 240)),
    "a session that is overdue, ten seconds left": (session(), 3590, (0, 2.5)),
    "a session of 12 h that is overdue: spread over five minutes": (session(43_200.0), 36_000, (0, 300)),
}


@pytest.mark.parametrize("name", FIRST)
def test_when_the_first_refresh_after_a_start_comes(name):
    """A start with nothing that serves asks at once; a fleet that starts at once is spread."""
    standing, seconds, (least, greatest) = FIRST[name]
    delays = [policy.first_refresh(standing, after(seconds), chance / 1000) for chance in range(1000)]
    assert min(delays) == pytest.approx(least, rel=0.02, abs=0.01)
    assert max(delays) == pytest.approx(greatest, rel=0.02, abs=0.01)


@pytest.mark.parametrize("life_s", [20.0, 900.0, 3600.0, 43_200.0])
def test_sts_down_for_a_quarter_of_a_life_costs_no_session(life_s):
    """However the dice fall, and whenever the outage begins, the renewal comes before the session dies."""
    dice = random.Random(7)
    for _ in range(500):
        begins_s = dice.uniform(0, life_s * (policy.RENEW_AT + policy.RENEW_JITTER))
        standing, at_s, failures = session(life_s), 0.0, 0
        at_s += policy.next_refresh(standing, T0, dice.random())
        while begins_s <= at_s < begins_s + life_s / 4:
            failures += 1
            at_s += policy.next_refresh(session(life_s, failures), after(at_s), dice.random())
        assert at_s < life_s * 0.995


@given(st.integers(1, 100), CHANCE, st.floats(1, 3600))
def test_a_retry_never_outlives_the_expiry_it_guards(failures, chance, left_s):
    """With a session still alive, the next try comes before a quarter of what is left has passed."""
    delay_s = policy.next_refresh(session(failures=failures), after(3600 - left_s), chance)
    assert 0.05 <= delay_s <= max(0.1, left_s / 4)


@given(st.integers(0, 10_000), CHANCE)
def test_backoff_stays_between_a_tenth_and_a_minute(failures, chance):
    """However long a source is down, the next try is at most a minute away, and never a busy loop."""
    assert 0.1 <= policy.backoff(failures, chance) <= policy.BACKOFF_CAP_S


def test_backoff_grows():
    """The ceiling doubles with each failure until the cap."""
    assert [policy.backoff(n, 0.999999) for n in (1, 2, 3, 10)] == pytest.approx([2, 4, 8, 60], rel=1e-3)


@given(st.builds(Standing, st.booleans(), st.none(), st.none(), st.integers(0, 99), st.floats(1, 86_400)), CHANCE)
def test_nothing_is_ever_planned_in_the_past_or_in_a_busy_loop(standing, chance):
    """Whatever the standing, a refresh that has just ended is followed by a pause."""
    assert policy.next_refresh(standing, T0, chance) >= 0.1
    assert policy.first_refresh(standing, T0, chance) >= 0.0
