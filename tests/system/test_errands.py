"""Several questions at once, and one deadline for all."""

from __future__ import annotations

import threading
import time

import pytest

from agent.core.errors import KeyturnError, SourceUnavailableError, UsageError
from agent.system.errands import MOST_AT_ONCE, Errands
from tests.support.processes import PATIENCE_S


def test_they_are_asked_at_the_same_time() -> None:
    """Each waits for the other, so neither alone would ever answer."""
    errands, both = Errands(PATIENCE_S), threading.Barrier(2)
    asked = [errands.ask(lambda: both.wait(PATIENCE_S)) for _ in range(2)]
    assert sorted(errands.answer(one) for one in asked) == [0, 1]


def test_what_hangs_is_left_behind_and_the_rest_is_heard() -> None:
    """Also what answered before the deadline and is looked at behind it."""
    errands, never = Errands(0.3), threading.Event()
    hangs, answers = errands.ask(lambda: never.wait(PATIENCE_S)), errands.ask(lambda: "here")
    with pytest.raises(SourceUnavailableError):
        errands.answer(hangs)
    assert errands.answer(answers) == "here"
    never.set()


def test_more_questions_than_threads_are_all_answered() -> None:
    """One after the other."""
    errands = Errands(PATIENCE_S)
    before = threading.active_count()
    asked = [errands.ask(lambda n=number: time.sleep(0.001) or n) for number in range(10 * MOST_AT_ONCE)]
    assert threading.active_count() - before <= MOST_AT_ONCE
    assert [errands.answer(one) for one in asked] == list(range(10 * MOST_AT_ONCE))


@pytest.mark.parametrize("error", [UsageError("no"), TimeoutError("canary"), SystemExit("canary")])
def test_what_a_question_raises_comes_out_as_one_of_the_family(error: BaseException) -> None:
    """Its own timeout is not taken for the deadline, and what is no error of ours loses its text, which may be a secret."""
    errands = Errands(PATIENCE_S)

    def fail() -> None:
        raise error

    with pytest.raises(KeyturnError) as caught:
        errands.answer(errands.ask(fail))
    assert not isinstance(caught.value, SourceUnavailableError)
    assert (caught.value is error) is isinstance(error, KeyturnError)
    assert "canary" not in str(caught.value)
