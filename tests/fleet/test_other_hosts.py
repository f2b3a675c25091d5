"""The other hosts in a plan: who is there, who is absent, and what of them would hold up the end of an old key."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import pytest

from agent.app.other_hosts import OtherHosts
from agent.core.errors import EXIT_FAILED, EXIT_USAGE
from agent.core.events import Actor
from agent.emergency.request import Request
from agent.fleet.board import Host
from agent.fleet.entries import HostState
from agent.fleet.errors import FleetError
from agent.system.questions import Questions

STATE = HostState(version_id="v1", generation=1, access_key_id_tail="abcd", owed=2)
BOARD = [Host("web-2", STATE, 3.0), Host("web-3", None, 3600.0), Host("web-4", STATE, 7200.0)]
DISABLES = Request("uploader", "a test", Actor(0, "root", 1), disable_old=True)


def away() -> Sequence[Host]:
    raise FleetError("fleet: the board cannot be reached (test)", "see that it runs")


def hanging() -> Sequence[Host]:
    time.sleep(5)
    return BOARD


def looked(ask: Any, request: Request | None = DISABLES, deadline_s: float = 5.0) -> tuple[Any, list[dict[str, Any]]]:
    hosts = OtherHosts("uploader", ask, Questions(deadline_s))
    return hosts.as_json(), [one.as_json() for one in hosts.obstacles(request)]


def test_each_host_is_named_with_its_age_and_version() -> None:
    shown, in_the_way = looked(lambda: BOARD)
    assert shown["problem"] is None
    rows = [(one["host"], one["state"], one["age_s"], one["version_id"], one["owed"]) for one in shown["hosts"]]
    assert rows == [
        ("web-2", "live", 3.0, "v1", 2), ("web-3", "absent", 3600.0, None, None), ("web-4", "absent", 7200.0, "v1", 2)
    ]  # fmt: skip
    (one,) = in_the_way
    assert (one["step"], one["exit_code"]) == ("fleet", EXIT_FAILED)
    assert "web-3" in one["problem"] and "web-4" in one["problem"] and "web-2" not in one["problem"]


IN_THE_WAY: dict[str, tuple[Any, dict[str, Any], list[int]]] = {
    "absent hosts that were let go": (lambda: BOARD, {"allow_absent": ("web-3", "web-4")}, []),
    "one that was not": (lambda: BOARD, {"allow_absent": ("web-3",)}, [EXIT_FAILED]),
    "live hosts": (lambda: BOARD[:1], {}, []),
    "force": (lambda: BOARD, {"force": True}, []),
    "nothing is disabled": (lambda: BOARD, {"disable_old": False}, []),
    "no other host has it": (away, {"fleet": False}, []),
    "the board is away": (away, {}, [EXIT_FAILED]),
    "the board is away, and force": (away, {"force": True}, []),
    "a fleet where there is none": (None, {"fleet": True}, [EXIT_USAGE]),
    "no fleet": (None, {}, []),
}


@pytest.mark.parametrize(("ask", "changes", "codes"), IN_THE_WAY.values(), ids=IN_THE_WAY.keys())
def test_what_would_hold_up_the_end_of_the_old_key(ask: Any, changes: dict[str, Any], codes: list[int]) -> None:
    request = dataclasses.replace(DISABLES, **changes)
    assert [one["exit_code"] for one in looked(ask, request)[1]] == codes


def test_a_board_that_hangs_is_not_waited_for() -> None:
    """The plan says that the fleet is not known, and why."""
    began = time.monotonic()
    shown, in_the_way = looked(hanging, None, 0.05)
    assert shown["hosts"] is None and shown["problem"] and len(in_the_way) == 1
    assert time.monotonic() - began < 4
