"""Several gateways for one secret: what is said of those that are passed over, and how often."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from agent.core.errors import KeyturnError, SourceUnavailableError
from providers.kms.failover import Order, Question

QUESTION = Question("uploader-ak", "ACSCurrent")
REFUSED, SLOW = "127.0.0.1:1: connection refused", "127.0.0.1:1: no answer within {:.1f} s"


class Region:
    """Answers, or fails with `problem`."""

    def __init__(self, name: str, problem: str = "") -> None:
        self.name, self.problem = name, problem

    def ask(self, question: Question, timeout_s: float) -> Mapping[str, object]:
        if self.problem:
            raise SourceUnavailableError(self.problem)
        return {"SecretName": question.secret_name}


def warned(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The warnings since the last look."""
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    caplog.clear()
    return said


def test_a_region_that_is_away_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """An outage of a region is one warning, another reason one more, and so is the next outage; with the credential named."""
    first, order = Region("region cn-a", REFUSED), Order("uploader")
    for _ in range(5):
        order.first_answer([first, Region("region cn-b")], QUESTION, 30.0)
    said = [vars(record)["credential"] for record in caplog.records if record.levelno >= logging.WARNING]
    assert said == ["uploader"]
    assert warned(caplog) == [f"region cn-a is passed over: {REFUSED}"]
    for waited_s in (9.8, 9.9):
        first.problem = SLOW.format(waited_s)
        order.first_answer([first, Region("region cn-b")], QUESTION, 30.0)
    assert len(warned(caplog)) == 1
    for problem in ("", REFUSED):
        first.problem = problem
        order.first_answer([first, Region("region cn-b")], QUESTION, 30.0)
    assert len(warned(caplog)) == 1


def test_of_a_single_region_the_fetch_error_tells(caplog: pytest.LogCaptureFixture) -> None:
    """Where one region is all there is, nothing is passed over: the error says it, and the log has it from there."""
    with pytest.raises(KeyturnError, match="connection refused"):
        Order("uploader").first_answer([Region("region cn-a", REFUSED)], QUESTION, 30.0)
    assert warned(caplog) == []


def test_a_provider_remembers_between_two_fetches(kms: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Polls through a region that is down warn once, not at each poll."""
    down = kms.settings().regions[0].__class__(region_id="cn-x", endpoint="127.0.0.1:1")
    provider = kms.provider(regions=(down, *kms.settings().regions))
    for _ in range(3):
        assert provider.fetch(datetime.now(UTC)).version_id
    assert len(warned(caplog)) == 1
