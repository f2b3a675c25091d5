"""When to refresh, and what an answer is: tables of scenarios."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core import policy
from agent.core.credential import Credential
from agent.core.policy import Change
from agent.core.secret import Secret

T0 = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)
CHANCE = st.floats(0, 1, exclude_max=True)


def key(name="A", secret="s", version="v1", minutes=None):
    expiration = T0 + timedelta(minutes=minutes) if minutes is not None else None
    return Credential(name, Secret(secret) if secret else None, version_id=version, expiration=expiration)


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
}


@pytest.mark.parametrize("name", JUDGEMENTS)
def test_what_an_answer_is(name):
    """Each scenario has one judgement."""
    new, current, expected = JUDGEMENTS[name]
    assert policy.judge(new, current) is expected


@given(st.integers(0, 10_000), CHANCE)
def test_backoff_stays_between_a_tenth_and_a_minute(failures, chance):
    """However long a source is down, the next try is at most a minute away, and never a busy loop."""
    assert 0.1 <= policy.backoff(failures, chance) <= policy.BACKOFF_CAP_S


def test_backoff_grows():
    """The ceiling doubles with each failure until the cap."""
    assert [policy.backoff(n, 0.999999) for n in (1, 2, 3, 10)] == pytest.approx([2, 4, 8, 60], rel=1e-3)


@given(st.floats(1, 1e6), CHANCE)
def test_polls_are_jittered_by_a_tenth(interval_s, chance):
    """The next poll lies within ten percent of the interval."""
    assert 0.9 * interval_s <= policy.next_poll(interval_s, chance) <= 1.1 * interval_s


@given(st.integers(20, 43_200), CHANCE)
def test_a_session_is_renewed_at_two_thirds_of_its_life(life_s, chance):
    """Within five percent of two thirds, counted from when it was obtained."""
    due_s = policy.next_renewal(T0, T0 + timedelta(seconds=life_s), T0, chance)
    assert life_s * 2 / 3 * 0.92 <= due_s <= life_s * 2 / 3 * 1.08


@given(st.integers(0, 3600), CHANCE)
def test_an_overdue_session_is_asked_for_soon_and_never_in_a_busy_loop(age_s, chance):
    """A source that hands the same session out again is asked within a minute, and not twice in a second."""
    due_s = policy.next_renewal(T0, T0 + timedelta(hours=1), T0 + timedelta(seconds=age_s), chance)
    assert due_s > 0
    if age_s > 2700:
        assert 0.9 <= due_s <= 66


@given(st.integers(1, 100), CHANCE, st.integers(1, 3600))
def test_a_retry_never_outlives_the_expiry_it_guards(failures, chance, left_s):
    """With a session still alive, the next try comes before it dies (or within a second of trying)."""
    delay_s = policy.next_retry(failures, chance, T0, key(minutes=left_s / 60), 3600.0)
    assert delay_s <= max(1.0, left_s / 2)


def test_the_last_tenth_is_urgent():
    """Inside the last tenth of a session's life no wait is longer than five seconds."""
    assert policy.next_retry(20, 0.999, T0, key(minutes=5), 3600.0) <= policy.URGENT_CAP_S
    assert policy.next_retry(20, 0.999, T0, key(minutes=30), 3600.0) > policy.URGENT_CAP_S
