"""What is waited for is said while it lasts, with try, cause and next try, and even where nobody knows what it is."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from agent.core.errors import CancelledError
from agent.system.waiting import BUSY, Activity, Silence
from tests.support.vm import eventually

FIRST_S, AGAIN_S = 0.05, 0.1


def silence(describe: Any, said: list[dict[str, Any]]) -> Silence:
    return Silence(describe, said.append, first_s=FIRST_S, again_s=AGAIN_S)


def test_a_silence_is_broken_again_and_again_until_it_ends() -> None:
    """First after `first_s`, then every `again_s`, in the form of a step; nothing comes after its end."""
    said: list[dict[str, Any]] = []
    with silence(lambda: "the moon", said):
        eventually(lambda: len(said) >= 3)
    count = len(said)
    time.sleep(3 * AGAIN_S)
    assert len(said) <= count + 1  # one may have been on its way
    assert {(each["name"], each["outcome"], each["detail"]) for each in said} == {("wait", "waiting", "the moon")}
    assert said[0]["ms"] < said[1]["ms"] < said[2]["ms"]


def test_what_is_heard_meanwhile_begins_the_silence_anew() -> None:
    """Steps that follow each other quickly are all that is said."""
    said: list[dict[str, Any]] = []
    with Silence(lambda: "x", said.append, first_s=5.0, again_s=5.0) as quiet:
        began = quiet._due
        time.sleep(0.02)
        quiet.heard()
        assert quiet._due > began
    assert not said


@pytest.mark.parametrize("error", [CancelledError("the agent is busy"), RuntimeError("no thread")])
def test_a_wait_that_cannot_be_described_is_said_all_the_same(error: Exception) -> None:
    """A loop that hangs on a dead disk answers nobody: that is what is waited for."""

    def describe() -> str:
        raise error

    said: list[dict[str, Any]] = []
    with silence(describe, said):
        eventually(lambda: bool(said))
    assert said[0]["detail"] == BUSY


def test_whoever_says_what_he_waits_for_is_given_longer() -> None:
    """One who says every 8 s what he waits for is not called silent after 5 s."""
    said: list[dict[str, Any]] = []
    with Silence(lambda: "x", said.append, first_s=FIRST_S, again_s=60.0) as quiet:
        quiet.heard(of_a_wait=True)
        time.sleep(4 * FIRST_S)
    assert not said


def test_a_listener_that_fails_ends_nothing() -> None:
    """A closed terminal: it is tried again the next time, and whoever waits does not hear of it."""
    heard: list[int] = []

    def say(_step: dict[str, Any]) -> None:
        heard.append(1)
        raise BrokenPipeError

    with Silence(lambda: "x", say, first_s=FIRST_S, again_s=AGAIN_S):
        eventually(lambda: len(heard) >= 2)


def test_an_activity_names_the_try_the_cause_and_the_next_try() -> None:
    """While it pauses: which try failed and why; while it tries: which try it is, and why the one before failed."""
    activity, pausing = Activity(), threading.Event()
    seen: list[str] = []
    activity.begin("KMS")
    assert str(activity) == "KMS"
    activity.failed("503")
    activity.pausing(lambda _s: (seen.append(str(activity)), pausing.set()))(2.0)
    assert seen[0].startswith("KMS: try 1 failed (503), next try in ")
    assert str(activity) == "KMS: try 2; the one before failed (503)"
    with activity.asking(lambda: "credentials.uploader: its source"):
        assert str(activity).endswith("; credentials.uploader: its source")
    activity.begin("RAM")
    assert str(activity) == "RAM"
