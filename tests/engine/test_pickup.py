"""The wait for a pickup ends when there is newer news, which would otherwise wait behind it."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import pytest
from fakes import Dependent
from workbench import Bench

from agent import dispatch
from agent.core.settings import PickupSettings
from agent.notifiers.interface import Pickup

NEVER_SAYS_YES = PickupSettings(command=("false",))


def test_newer_news_is_told_although_the_one_before_is_not_picked_up(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However patient the probe of generation 1 is, generation 2 is told `settle` after its publish."""
    monkeypatch.setattr(dispatch, "PICKUP_PATIENCE_S", 10_000.0)
    web = Dependent("web", pickup=NEVER_SAYS_YES)
    managed = bench.managed(notify=[web])
    bench.begin(managed).publish(managed, 1)
    bench.clock.move(2.5)
    bench.until(lambda: web.generations == [1])
    bench.publish(managed, 2)
    bench.clock.move(2.5)
    bench.until(lambda: web.generations == [1, 2])
    bench.engine.dispatcher._lines[("fake", "web")].overtaken.set()  # and let the second one go


def test_a_probe_that_is_overtaken_has_found_nothing_out() -> None:
    """Neither confirmed nor missing: the probe spoke of another generation by then."""
    web, now, overtaken = Dependent("web", pickup=NEVER_SAYS_YES), datetime.now(UTC), threading.Event()
    overtaken.set()
    assert dispatch.look_for_pickup(web, now, threading.Event(), overtaken) is Pickup.ASSUMED


def test_a_probe_that_says_no_until_the_end_is_a_missing_pickup(monkeypatch: pytest.MonkeyPatch) -> None:
    """With no newer news, patience decides."""
    monkeypatch.setattr(dispatch, "PICKUP_PATIENCE_S", 0.0)
    web, now = Dependent("web", pickup=NEVER_SAYS_YES), datetime.now(UTC)
    assert dispatch.look_for_pickup(web, now, threading.Event(), threading.Event()) is Pickup.NOT_PICKED_UP
