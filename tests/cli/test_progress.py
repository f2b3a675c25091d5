"""How far a command is: a counter on a terminal, which what comes of it overwrites; in a pipe nothing but the outcome."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from agent.cli.refresh_output import RefreshProgress, refreshed
from agent.cli.rotate_output import RotateProgress
from agent.system.waiting import BEGUN, WAITING
from tests.support.terminal_pictures import on_a_terminal, settled

BEGIN = {"name": "refresh", "outcome": BEGUN, "done": 0, "of": 2}
TOLD = {"type": "exec", "target": "/bin/true", "owed": False, "last_outcome": "told", "pickup": None}


def ended(name: str, done: int, of: int = 2, **changes: Any) -> dict[str, Any]:
    row = {"credential": name, "outcome": "published", "generation": 1, "access_key_id": "LTAI", "notify": [TOLD]}
    return {"name": name, "done": done, "of": of, **row, **changes}


def test_each_of_several_is_printed_as_it_ends_and_told_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    """In the order in which they end; an error is on standard error; a single one is printed as a whole."""
    progress = RefreshProgress()
    progress(BEGIN)
    progress(ended("b", 1, error="the source is away", outcome="failed"))
    said = capsys.readouterr()
    assert said.out.startswith("b: failed") and said.err == "keyturn: the source is away\n"
    progress({"name": "wait", "outcome": WAITING, "detail": "a", "at_ms": 5000})
    progress(ended("a", 2))
    progress.end()
    refreshed({"credentials": [ended("a", 2), ended("b", 1)]}, progress.said)
    said = capsys.readouterr()
    assert said.out.splitlines() == [
        "a: published, generation 1, LTAI",
        "a: exec /bin/true: told",
        "b: exec /bin/true: told",
    ]
    assert "waits for a" in said.err
    alone = RefreshProgress()
    alone({**BEGIN, "of": 1})
    alone(ended("a", 1, of=1))
    refreshed({"credentials": [ended("a", 1)]}, alone.said)
    assert capsys.readouterr().out.splitlines() == ["a: published, generation 1, LTAI", "  exec /bin/true: told"]


def test_for_json_nothing_is_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    """It is for the one object."""
    for progress in (RefreshProgress(silent=True), RotateProgress(silent=True)):
        progress(
            BEGIN
            if isinstance(progress, RefreshProgress)
            else {"name": "begin", "outcome": BEGUN, "detail": "rotate", "at_ms": 1}
        )
        progress(
            ended("a", 1)
            if isinstance(progress, RefreshProgress)
            else {"name": "rotate", "outcome": "done", "at_ms": 1}
        )
        progress.end()
    assert capsys.readouterr() == ("", "")


SHOWS: dict[str, Callable[[], str]] = {
    "refresh": lambda: (
        f"progress = RefreshProgress(); [progress(one) for one in {[BEGIN, ended('a', 1), ended('b', 2)]!r}]"
    ),
    "rotate": lambda: (
        "progress = RotateProgress(); [progress(one) for one in ["
        + "{'name': 'begin', 'outcome': 'begun', 'detail': 'rotate', 'at_ms': 1},"
        + "{'name': 'wait', 'outcome': 'waiting', 'detail': 'KMS', 'at_ms': 4000},"
        + "{'name': 'rotate', 'outcome': 'done', 'at_ms': 5000, 'detail': 'version 7'}]]"
    ),
}


@pytest.mark.parametrize(
    ("what", "passed_by", "stays"),
    [
        (
            "refresh",
            ["0 of 2 refreshed", "1 of 2 refreshed"],
            ["a: published, generation 1, LTAI", "b: published, generation 1, LTAI", ""],
        ),
        (
            "rotate",
            ["    0.0 s  has the key replaced at its source ..."],
            ["    4.0 s  waits for KMS", "    5.0 s  rotate        done  version 7", ""],
        ),
    ],
)
def test_on_a_terminal_what_goes_on_now_is_seen_until_it_ends(
    what: str, passed_by: list[str], stays: list[str]
) -> None:
    """The counter or the step that has begun stands in the last line; only what came of it stays."""
    program = (
        "from agent.cli.refresh_output import RefreshProgress; from agent.cli.rotate_output import RotateProgress; "
        f"from agent.system.terminal import choose_colour; choose_colour('never'); {SHOWS[what]()}; progress.end()"
    )
    written = on_a_terminal([sys.executable, "-c", program], {"PYTHONPATH": ":".join(filter(None, sys.path))})
    assert all(one in written for one in passed_by), written
    assert settled(written) == stays
