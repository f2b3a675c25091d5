"""What is known of a pickup; and the wait for one ends when there is newer news, which would otherwise wait behind it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from agent.app.status import notify_rows
from agent.core.settings import FilePath, PickupSettings
from agent.dispatch import delivery
from agent.engine.snapshot import snapshot_of
from agent.notifiers.interface import NoEffect, Pickup
from agent.notifiers.known_readers import of_a_kept_process
from agent.refresh.managed_credential import ManagedCredential
from agent.sinks.formats.directory import DirectorySettings, DirectorySink, member_of
from agent.sinks.formats.env_file import EnvFile, EnvFileSettings
from agent.sinks.interface import Sink
from agent.system.clock import Clock
from tests.support.bench import Bench
from tests.support.fakes import FakeDependent

NEVER_SAYS_YES = PickupSettings(command=("false",))


def shown_of(managed: ManagedCredential) -> list[dict[str, Any]]:
    """What `status` shows of its dependents."""
    return notify_rows(snapshot_of(managed, Clock()))


def test_newer_news_is_told_although_the_one_before_is_not_picked_up(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However patient the probe of generation 1 is, generation 2 is told `settle` after its publish."""
    monkeypatch.setattr(delivery, "PICKUP_PATIENCE_S", 10_000.0)
    web = FakeDependent("web", pickup=NEVER_SAYS_YES)
    managed = bench.managed(notify=[web])
    bench.begin(managed).publish(managed, 1)
    bench.clock.move(2.5)
    bench.until(lambda: web.generations == [1])
    bench.publish(managed, 2)
    bench.clock.move(2.5)
    bench.until(lambda: web.generations == [1, 2])
    bench.parts.dispatcher._dependents[("fake", "web")]._overtaken.set()  # and let the second one go


def test_a_probe_that_is_overtaken_has_found_nothing_out() -> None:
    """Neither confirmed nor missing: the probe spoke of another generation by then."""
    web, now, overtaken = FakeDependent("web", pickup=NEVER_SAYS_YES), datetime.now(UTC), threading.Event()
    overtaken.set()
    assert delivery.look_for_pickup(web, now, threading.Event(), overtaken) is Pickup.ASSUMED


def test_a_probe_that_says_no_until_the_end_is_a_missing_pickup(monkeypatch: pytest.MonkeyPatch) -> None:
    """With no newer news, patience decides."""
    monkeypatch.setattr(delivery, "PICKUP_PATIENCE_S", 0.0)
    web, now = FakeDependent("web", pickup=NEVER_SAYS_YES), datetime.now(UTC)
    assert delivery.look_for_pickup(web, now, threading.Event(), threading.Event()) is Pickup.NOT_PICKED_UP


def test_a_probe_that_somebody_else_can_replace_is_not_run_and_not_waited_for(tmp_path: Path) -> None:
    """It would run with keyturn's rights; the log says why it did not."""
    probe = tmp_path / "probe"
    probe.write_text("#!/bin/sh\n")
    probe.chmod(0o755)
    tmp_path.chmod(0o777)
    web = FakeDependent("web", pickup=PickupSettings(command=(str(probe),)))
    with capture_logs() as lines:
        found = delivery.look_for_pickup(web, datetime.now(UTC), threading.Event(), threading.Event())
    assert found is Pickup.NOT_PICKED_UP
    assert "everybody can replace it" in next(line["why"] for line in lines)


class Reloaded(FakeDependent):
    """Its process keeps running when it is told."""

    def hindered(self, sink_types: frozenset[str]) -> NoEffect | None:
        return of_a_kept_process(sink_types, "its environment stays; restart it", "restart it")


def env_file(bench: Bench) -> EnvFile:
    return EnvFile(EnvFileSettings(type="env_file", path=FilePath(bench.directory / "a.env")))


def directory_of_an_env_file(bench: Bench) -> DirectorySink:
    files = (member_of(EnvFile)(type="env_file", name="a.env"),)
    return DirectorySink(DirectorySettings(type="directory", path=FilePath(bench.directory / "set"), files=files))


@pytest.mark.parametrize("sink", [env_file, directory_of_an_env_file])
def test_a_notification_that_cannot_take_effect_is_shown_with_its_reason(
    bench: Bench, capsys: pytest.CaptureFixture[str], sink: Callable[[Bench], Sink]
) -> None:
    """An env file and a reload: told, not picked up, and `status` says why; told all the same for `rotate` and exit codes."""
    web = Reloaded("web")
    managed = bench.managed(notify=[web])
    managed.sinks = (sink(bench),)
    bench.begin(managed).publish(managed, 1)
    bench.move(2.5)
    bench.until(lambda: not managed.state.debts)
    (shown,) = shown_of(managed)
    assert (shown["pickup"], shown["last_outcome"]) == (
        "not picked up",
        "told, but its environment stays; restart it",
    )
    assert "its environment stays" in capsys.readouterr().out
    (record,) = bench.records("notified")
    assert record["outcome"] == "told"
    bench.parts.dispatcher.owe_again(managed)
    assert managed.state.debts == (), "it was told: an emergency does not tell it again"


def test_what_was_seen_of_the_last_generation_is_not_shown_of_this_one(bench: Bench) -> None:
    """`confirmed` goes with the publish of the next value, before anybody is told of that."""
    web = FakeDependent("web")
    web.evidence = Pickup.CONFIRMED
    managed = bench.managed(notify=[web])
    bench.begin(managed).publish(managed, 1)
    bench.move(2.5)
    bench.until(lambda: not managed.state.debts)
    assert shown_of(managed)[0]["pickup"] == "confirmed"
    bench.publish(managed, 2)
    assert managed.state.debts
    assert shown_of(managed)[0]["pickup"] != "confirmed"


def test_the_log_gives_the_reason_once_and_not_at_each_publish(bench: Bench) -> None:
    """The journal of a dependent that is told every hour stays short; `not picked up` and its warning stay."""
    web = Reloaded("web")
    managed = bench.managed(notify=[web])
    managed.sinks = (env_file(bench),)
    bench.begin(managed)
    with capture_logs() as lines:
        for generation in (1, 2, 3):
            bench.publish(managed, generation)
            bench.move(2.5)
            bench.until(lambda: not managed.state.debts)
    notified = [line for line in lines if line["event"] == "notified"]
    assert [line["but"] for line in notified] == ["its environment stays; restart it", None, None]
    assert [(line["pickup"], line["log_level"]) for line in notified] == [(Pickup.NOT_PICKED_UP, "warning")] * 3
    assert shown_of(managed)[0]["last_outcome"] == "told, but its environment stays; restart it"


def test_evidence_counts_more_than_what_is_known_of_readers(bench: Bench) -> None:
    """A process that is seen to use the new value is not doubted."""
    web = Reloaded("web")
    web.evidence = Pickup.CONFIRMED
    managed = bench.managed(notify=[web])
    managed.sinks = (env_file(bench),)
    bench.begin(managed).publish(managed, 1)
    bench.move(2.5)
    bench.until(lambda: not managed.state.debts)
    (shown,) = shown_of(managed)
    assert (shown["pickup"], shown["last_outcome"]) == ("confirmed", "told")


def test_two_credentials_of_one_dependent_are_doubted_each_by_its_own_sinks(bench: Bench) -> None:
    """One call tells both; the one with an env file may not arrive, the one with a file that is read again does."""
    a, b = bench.managed("a", notify=[Reloaded("web")]), bench.managed("b", notify=[Reloaded("web")])
    a.sinks = (env_file(bench),)
    bench.begin(a, b).publish(a, 1)
    bench.publish(b, 1)
    bench.move(2.5)
    bench.until(lambda: not a.state.debts and not b.state.debts)
    assert [shown_of(one)[0]["pickup"] for one in (a, b)] == ["not picked up", "assumed"]
