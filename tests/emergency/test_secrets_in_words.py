"""A secret that an operator pastes into the words of a command is written down nowhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent.core.errors import UsageError
from agent.core.events import Actor, Event
from agent.core.secret import SHOWN
from agent.emergency.request import emergency_request
from agent.logs.redaction import mask
from tests.support.bench import Bench

ME = Actor(1000, "alice", 4242)
SECRET = "abCD12efGH34ijKL56mnOP78qrST90"


def asked(**words: object) -> dict[str, object]:
    return {"credential": "uploader", "reason": "leaked", **words}


def test_a_reason_that_holds_a_secret_is_marked() -> None:
    """By its shape, for nobody knows yet that it is one."""
    assert emergency_request(asked(reason=f"pasted: {SECRET}."), ME).reason == f"pasted: {SHOWN}."


def test_a_value_in_use_is_marked_whatever_its_shape() -> None:
    """By its value."""
    mask(["short-and-odd"], of="words")
    assert "short-and-odd" not in emergency_request(asked(reason="it is short-and-odd"), ME).reason


@pytest.mark.parametrize("leaked", [SECRET, "in-use-and-odd"])
def test_a_secret_in_the_place_of_an_id_is_refused(leaked: str) -> None:
    """Before anything is recorded, and without repeating it."""
    mask(["in-use-and-odd"], of="leaked")
    with pytest.raises(UsageError) as caught:
        emergency_request(asked(leaked=leaked), ME)
    assert leaked not in str(caught.value)


def test_no_audit_record_holds_a_value_in_use(tmp_path: Path) -> None:
    """Whichever field it comes in by, lists and objects included."""
    bench = Bench(tmp_path)
    mask([SECRET], of="audit")
    bench.audit.record(
        Event.FETCH_FAILED, error=f"refused {SECRET}", reason=SECRET, sinks=[SECRET], actor={"user": SECRET}
    )
    (record,) = bench.records()
    assert SECRET not in json.dumps(record)
    assert record["sinks"] == [SHOWN]
    bench.close()
