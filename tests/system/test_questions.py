"""Several questions at once, and one deadline for all."""

from __future__ import annotations

import threading
import time

import pytest

from agent.core.errors import KeyturnError, SourceUnavailableError, UsageError
from agent.system.questions import MOST_AT_ONCE, Questions
from tests.support.processes import PATIENCE_S


def test_they_are_asked_at_the_same_time() -> None:
    """Each waits for the other, so neither alone would ever answer."""
    questions, both = Questions(PATIENCE_S), threading.Barrier(2)
    asked = [questions.ask(lambda: both.wait(PATIENCE_S)) for _ in range(2)]
    assert sorted(questions.answer(one) for one in asked) == [0, 1]


def test_what_hangs_is_left_behind_and_the_rest_is_heard() -> None:
    """Also what answered before the deadline and is looked at behind it."""
    questions, never = Questions(0.3), threading.Event()
    hangs, answers = questions.ask(lambda: never.wait(PATIENCE_S)), questions.ask(lambda: "here")
    with pytest.raises(SourceUnavailableError):
        questions.answer(hangs)
    assert questions.answer(answers) == "here"
    never.set()


def test_more_questions_than_threads_are_all_answered() -> None:
    """One after the other."""
    questions = Questions(PATIENCE_S)
    before = threading.active_count()
    asked = [questions.ask(lambda n=number: time.sleep(0.001) or n) for number in range(10 * MOST_AT_ONCE)]
    assert threading.active_count() - before <= MOST_AT_ONCE
    assert [questions.answer(one) for one in asked] == list(range(10 * MOST_AT_ONCE))


@pytest.mark.parametrize("error", [UsageError("no"), TimeoutError("canary"), SystemExit("canary")])
def test_what_a_question_raises_comes_out_as_one_of_the_family(error: BaseException) -> None:
    """Its own timeout is not taken for the deadline, and what is no error of ours loses its text, which may be a secret."""
    questions = Questions(PATIENCE_S)

    def fail() -> None:
        raise error

    with pytest.raises(KeyturnError) as caught:
        questions.answer(questions.ask(fail))
    assert not isinstance(caught.value, SourceUnavailableError)
    assert (caught.value is error) is isinstance(error, KeyturnError)
    assert "canary" not in str(caught.value)
