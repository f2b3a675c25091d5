"""The engine: one refresh at a time, no source that holds up another, and a failure that is told once."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from agent.cloud.verify import Verification
from agent.core.credential import Credential
from agent.core.errors import (
    BadAnswerError,
    CancelledError,
    KeyturnError,
    SourceUnavailableError,
    UsageError,
    VerifyRefusedError,
)
from agent.core.events import Cause, Trigger
from agent.core.outcome import Report
from agent.core.secret import Secret
from agent.core.settings import Duration
from agent.engine.attempts import Attempt
from agent.engine.refresher import MAX_ABANDONED
from agent.refresh.managed_credential import ManagedCredential
from agent.runtime.scheduler import Job, JobKind
from tests.support.bench import Bench
from tests.support.fakes import FakeDependent, Source, key
from tests.support.processes import eventually

MakeBench = Callable[..., Bench]
DOWN = SourceUnavailableError("credentials.a: the source is down", "wait")
LATE_S = 200.0
"""Beyond the deadline of one refresh: fetch, proof and grace."""


def source_of(managed: ManagedCredential) -> Source:
    assert isinstance(managed.provider, Source)
    return managed.provider


def holds(path: Path) -> str:
    return str(json.loads(path.read_text())["AccessKeyId"])


def ask(bench: Bench, name: str = "a") -> list[Report]:
    """Ask for a refresh without waiting for it."""
    reports: list[Report] = []
    asked = bench.engine.refresh(name, Cause(Trigger.OPERATOR))
    asked.add_done_callback(lambda done: reports.append(done.result()))
    return reports


# -- one in flight ------------------------------------------------------------------------------------


def test_a_request_during_a_refresh_gets_the_next_one(bench: Bench) -> None:
    """The one in flight may have asked the source before the request was made; many requests share the next."""
    managed = bench.managed()
    source = source_of(managed)
    gate = source.hold()
    bench.begin(managed)
    first = ask(bench)
    bench.until(lambda: source.calls == 1)
    source.value = key(2)
    second, third = ask(bench), ask(bench)
    gate.set()
    bench.until(lambda: first and second and third)
    assert source.calls == 2
    assert [reports[0].outcome.generation for reports in (first, second, third) if reports[0].outcome] == [1, 2, 2]
    assert holds(bench.sink()) == key(2).access_key_id


def test_a_refresh_of_a_name_that_is_gone_is_answered(bench: Bench) -> None:
    """Whoever waits gets a sentence, not silence."""
    (report,) = ask(bench.begin(), "nobody")
    assert isinstance(report.error, UsageError)


# -- sources that hang, lie and fail ------------------------------------------------------------------


def test_a_source_that_hangs_is_given_up_and_its_late_answer_thrown_away(bench: Bench) -> None:
    """The deadline passes, the next refresh goes on, and what comes in late is never published."""
    managed = bench.managed()
    source = source_of(managed)
    gate = source.hold()
    bench.begin(managed)
    reports = ask(bench)
    bench.until(lambda: source.calls == 1)
    bench.clock.move(LATE_S)
    bench.until(lambda: reports)
    assert isinstance(reports[0].error, SourceUnavailableError)
    source.gate, source.value = None, key(2)
    assert bench.refresh().outcome is not None
    gate.set()
    bench.settle_down()
    assert holds(bench.sink()) == key(2).access_key_id
    assert managed.state.published.generation == 1


def test_an_answer_that_is_here_is_not_given_up(bench: Bench) -> None:
    """It waits behind those of others while the deadline of its call passes: it counts, and nothing hangs."""
    managed = bench.managed()
    bench.begin(managed)
    (reports, slot) = ask(bench), bench.slots["a"]
    attempt = slot.attempt
    assert attempt is not None
    eventually(lambda: attempt.work is not None and attempt.work.is_over)
    bench.clock.move(LATE_S)
    bench.engine._refresher._overrun(slot, attempt)
    bench.until(lambda: reports)
    assert reports[0].outcome is not None
    assert slot.hanging() == 0


def test_what_a_reload_threw_away_is_not_asked_for(bench: Bench) -> None:
    """It waited for its turn behind a thousand others: the config may not name its source any more."""
    managed = bench.managed()
    bench.begin(managed)
    source, slot = source_of(managed), bench.slots["a"]
    attempt = Attempt(Cause(Trigger.POLL))
    slot.begin(attempt)
    slot.throw_away()
    with pytest.raises(CancelledError):
        bench.engine._refresher._ask(managed, attempt, bench.clock.now(), bench.clock.boottime())
    assert source.calls == 0


def test_a_source_that_hangs_for_ever_gets_no_more_workers_and_stops_nobody(bench: Bench) -> None:
    """After three abandoned calls none is added until one of them is back; the others go on."""
    a, b = bench.managed("a"), bench.managed("b")
    source = source_of(a)
    gate = source.hold()
    bench.begin(a, b)
    for number in range(1, MAX_ABANDONED + 1):
        reports = ask(bench)
        bench.until(lambda: source.calls == number)  # noqa: B023
        bench.clock.move(LATE_S)
        bench.until(lambda: reports)  # noqa: B023
    refused = bench.refresh("a")
    assert "3 earlier calls to the source still hang" in str(refused.error)
    assert source.calls == MAX_ABANDONED
    assert bench.refresh("b").outcome is not None
    gate.set()
    bench.settle_down()
    assert bench.refresh("a").outcome is not None


@pytest.mark.parametrize("answer", [ValueError("canary-secret"), "canary-secret", key(1, access_key_id=""), None])
def test_whatever_a_provider_does_is_a_bad_answer_in_one_sentence(bench: Bench, answer: Any) -> None:
    """Any exception, any rubbish: named by credential, without what it held; the value in use stays."""
    managed = bench.managed()
    bench.begin(managed).publish(managed, 1)
    source_of(managed).value = answer
    error = bench.refresh().error
    assert isinstance(error, BadAnswerError)
    assert "credentials.a" in str(error)
    assert "canary-secret" not in str(error)
    assert "canary-secret" not in str(bench.records())
    assert holds(bench.sink()) == key(1).access_key_id


def test_failures_back_off_and_are_recorded_once_per_reason(bench: Bench) -> None:
    """One fetch_failed for a run of failures with one reason, one for the next reason, one recovered at the end."""
    managed = bench.managed()
    bench.begin(managed).publish(managed, 1)
    source_of(managed).value = DOWN
    for _ in range(7):
        bench.refresh()
        delay_s = (managed.next_refresh_at or 0.0) - bench.clock.boottime()
        assert 29.9 < delay_s <= 60.0
    assert len(bench.records("fetch_failed")) == 1
    source_of(managed).value = SourceUnavailableError("credentials.a: something else", "wait")
    bench.refresh()
    assert len(bench.records("fetch_failed")) == 2
    source_of(managed).value = key(1)
    bench.refresh()
    bench.refresh()
    (record,) = bench.records("recovered")
    assert record["outcome"] == "after 8 failures"
    assert managed.state.health.last_error == ""


def test_a_failed_refresh_is_tried_again_by_itself(bench: Bench) -> None:
    """Nobody has to ask."""
    managed = bench.managed()
    source_of(managed).value = DOWN
    bench.begin(managed).refresh()
    source_of(managed).value = key(1)
    bench.clock.move(61.0)
    bench.until(lambda: managed.state.published.generation == 1)


def test_a_value_without_expiry_is_polled(bench: Bench) -> None:
    """Every poll interval, with a tenth of jitter."""
    managed = bench.managed(source=Source("a", poll_s=100.0))
    source = source_of(managed)
    bench.begin(managed).publish(managed, 1)
    assert 90.0 <= (managed.next_refresh_at or 0.0) - bench.clock.boottime() <= 110.0
    source.value = key(2)
    bench.clock.move(111.0)
    bench.until(lambda: managed.state.published.generation == 2)
    assert bench.records("published")[-1]["trigger"] == "poll"


def test_staleness_is_an_alarm_that_is_raised_once(bench: Bench) -> None:
    """No success for max_staleness: audited, shown by status; over with the next success."""
    managed = bench.managed(max_staleness=Duration(3600))
    bench.begin(managed).publish(managed, 1)
    source_of(managed).value = DOWN
    bench.refresh()
    bench.clock.move(3601.0)
    bench.until(lambda: managed.state.health.is_stale)
    bench.clock.move(3601.0)
    bench.refresh()
    (record,) = bench.records("stale")
    assert record["error"] == str(DOWN)
    assert managed.condition(bench.clock.now()) == "stale"
    source_of(managed).value = key(1)
    bench.refresh()
    assert managed.condition(bench.clock.now()) == "fresh"
    assert len(bench.records("recovered")) == 1


# -- values -------------------------------------------------------------------------------------------


def session(bench: Bench, number: int, life_s: float) -> Any:
    expiration = bench.clock.now() + timedelta(seconds=life_s)
    return key(number, security_token=Secret(f"token{number}"), version_id="", expiration=expiration)


def test_a_session_that_expires_sooner_than_the_one_in_use_is_refused(bench: Bench) -> None:
    """The value in use is better; the source's answer is an error, not a step back."""
    managed = bench.managed()
    source_of(managed).value = session(bench, 1, 3600.0)
    bench.begin(managed).refresh()
    source_of(managed).value = session(bench, 2, 1800.0)
    error = bench.refresh().error
    assert "expires before the value in use" in str(error)
    assert holds(bench.sink()) == key(1).access_key_id


def test_a_session_is_renewed_at_two_thirds_of_its_life(bench: Bench) -> None:
    """With a twentieth of jitter."""
    managed = bench.managed()
    source_of(managed).value = session(bench, 1, 3600.0)
    bench.begin(managed).refresh()
    due_s = (managed.next_refresh_at or 0.0) - bench.clock.boottime()
    assert 3600 * (2 / 3 - 0.05) <= due_s <= 3600 * (2 / 3 + 0.05)


def test_the_same_key_under_a_new_version_changes_nothing_on_disk(bench: Bench) -> None:
    """No new file, no generation, nobody told; only the version is remembered."""
    managed = bench.managed(notify=[FakeDependent("web")])
    bench.begin(managed).publish(managed, 1)
    managed.state.ledger.replace(())
    before = [bench.sink("a", number).stat() for number in (0, 1)]
    source_of(managed).value = key(1, version_id="v9")
    report = bench.refresh()
    after = [bench.sink("a", number).stat() for number in (0, 1)]
    assert report.outcome is not None
    assert report.outcome.result == "unchanged"
    assert [(s.st_ino, s.st_mtime_ns) for s in before] == [(s.st_ino, s.st_mtime_ns) for s in after]
    assert (managed.state.published.version_id, managed.state.published.generation) == ("v9", 1)
    assert managed.state.debts == ()


@pytest.mark.parametrize("how", ["changed", "removed"])
def test_drift_is_put_right_under_the_same_generation_and_told(bench: Bench, how: str) -> None:
    """Somebody edits or removes one sink: repaired at the next pass, audited with the sink's name, told."""
    web = FakeDependent("web")
    managed = bench.managed(notify=[web])
    bench.begin(managed).publish(managed, 1)
    managed.state.ledger.replace(())
    untouched = bench.sink("a", 0).stat().st_ino
    bench.sink("a", 1).write_text("{}") if how == "changed" else bench.sink("a", 1).unlink()
    assert bench.refresh().outcome.result == "repaired"  # type: ignore[union-attr]
    (record,) = bench.records("drift_repaired")
    assert (record["sinks"], record["generation"], record["trigger"]) == ([str(bench.sink("a", 1))], 1, "drift")
    assert holds(bench.sink("a", 1)) == key(1).access_key_id
    assert bench.sink("a", 0).stat().st_ino == untouched
    bench.clock.move(2.1)
    bench.until(lambda: web.generations[-1:] == [1])


# -- publishing that fails ----------------------------------------------------------------------------


def test_a_sink_that_cannot_be_written_is_a_failure_that_ends_by_itself(bench: Bench) -> None:
    """publish_failed once, then the directory is made, and the next try succeeds."""
    managed = bench.managed()
    managed.sinks[1].settings = type(managed.sinks[1].settings)(type="json", path=str(bench.directory / "no" / "x"))
    bench.begin(managed)
    assert isinstance(bench.refresh().error, KeyturnError)
    bench.refresh()
    assert len(bench.records("publish_failed")) == 1
    assert not bench.sink("a", 0).exists()
    (bench.directory / "no").mkdir()
    bench.clock.move(61.0)
    bench.until(lambda: managed.state.published.generation == 1)


def test_a_fault_of_keyturn_in_a_publish_does_not_take_the_credential_out_of_service(bench: Bench) -> None:
    """A sink that raises what it must not: reported in a sentence, and the next refresh works."""
    managed = bench.managed()
    sink: Any = managed.sinks[0]
    sink.render = lambda *_: 1 / 0
    error = bench.begin(managed).refresh().error
    assert "a fault of keyturn itself (ZeroDivisionError)" in str(error)
    del sink.render
    assert bench.refresh().error is None


# -- reload -------------------------------------------------------------------------------------------


def test_a_reload_keeps_what_is_remembered_and_refreshes_what_changed(bench: Bench) -> None:
    """Generation and value stay; the new settings' source is asked; an unchanged value changes nothing."""
    managed = bench.managed()
    bench.begin(managed).publish(managed, 1)
    old, new = source_of(managed), Source("a", label="other")
    bench.engine.reload([bench.managed(source=new)], 2.0)
    bench.until(lambda: new.calls == 1 and bench.slots["a"].attempt is None)
    assert old.closed
    assert managed.state.published.generation == 1
    assert len(bench.records("published")) == 1


def test_a_reload_that_changes_nothing_asks_nobody_at_once(bench: Bench) -> None:
    """A fleet that is reloaded at once does not ask its source at once: each looks within one poll."""
    managed = bench.managed()
    bench.begin(managed).publish(managed, 1)
    bench.engine.reload([bench.managed(source=Source("a"))], 2.0)
    bench.settle_down()
    assert source_of(managed).calls == 1 and not source_of(managed).closed
    assert managed.next_refresh_at is not None and managed.next_refresh_at - bench.clock.boottime() <= 60.0


def test_a_reload_tries_at_once_what_fails(bench: Bench) -> None:
    """An operator who mended a file and reloads is not made to wait for a back-off."""
    managed = bench.managed()
    bench.begin(managed)
    source_of(managed).value = DOWN
    bench.refresh()
    source_of(managed).value = key(1)
    bench.engine.reload([bench.managed(source=Source("a"))], 2.0)
    bench.until(lambda: bench.sink().exists())


def test_a_reload_throws_away_what_the_old_source_was_asked(bench: Bench) -> None:
    """The old answer may be another secret's: it must not reach the new sinks. Who waited gets the new one."""
    managed = bench.managed()
    old = source_of(managed)
    gate = old.hold()
    bench.begin(managed)
    reports = ask(bench)
    bench.until(lambda: old.calls == 1)
    new = Source("a", label="other")
    new.value = key(7)
    bench.engine.reload([bench.managed(source=new)], 2.0)
    gate.set()
    bench.until(lambda: reports)
    bench.settle_down()
    assert holds(bench.sink()) == key(7).access_key_id
    assert [record["access_key_id"] for record in bench.records("published")] == [key(7).access_key_id]


def test_a_reload_lets_go_of_what_left_the_config(bench: Bench) -> None:
    """Its source is closed, nothing of it is due any more, and whoever waits for it is answered."""
    a, b = bench.managed("a"), bench.managed("b")
    gate = source_of(a).hold()
    bench.begin(a, b)
    reports = ask(bench, "a")
    bench.until(lambda: source_of(a).calls == 1)
    bench.engine.reload([bench.managed("b")], 2.0)
    assert isinstance(reports[0].error, UsageError)
    gate.set()
    bench.settle_down()
    assert source_of(a).closed
    assert not bench.sink("a").exists()
    kinds = (JobKind.REFRESH, JobKind.OVERRUN, JobKind.STALE, JobKind.RETRY)
    assert [bench.parts.scheduler.at(Job(kind, "a")) for kind in kinds] == [None] * 4


def test_a_reload_brings_new_credentials_to_work(bench: Bench) -> None:
    """Asked and published at once."""
    bench.begin(bench.managed("a"))
    bench.engine.reload([bench.managed("a"), bench.managed("b")], 2.0)
    bench.until(lambda: bench.sink("b").exists())


def test_the_first_pass_is_over_when_every_credential_was_tried(bench: Bench) -> None:
    """Whatever its outcome: READY does not wait for a source that is down."""
    a, b = bench.managed("a"), bench.managed("b")
    source_of(b).value = DOWN
    passes: list[bool] = []
    bench.engine.when_passed(lambda: passes.append(True))
    bench.begin(a, b).engine.refresh_all(Trigger.START)
    bench.until(lambda: passes)
    bench.refresh("a")
    assert passes == [True]


def test_a_source_that_never_answered_is_an_alarm_too(bench: Bench) -> None:
    """Without any success, max_staleness counts from the first failure."""
    managed = bench.managed(max_staleness=Duration(3600))
    source = managed.provider
    assert isinstance(source, Source)
    source.value = SourceUnavailableError("down")
    bench.begin(managed)
    bench.refresh()
    for _ in range(4):
        bench.move(1000)
    bench.until(lambda: managed.state.health.is_stale)
    assert len(bench.records("stale")) == 1


def test_a_fault_of_one_ring_ends_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the scheduler set off may fail in any way: the engine turns on, and the next refresh works."""
    managed = bench.managed()
    bench.begin(managed).publish(managed, 1)

    def fault() -> None:
        raise RuntimeError("can't start new thread")

    bench.engine.after(1.0, fault)
    bench.move(2)
    assert bench.refresh().error is None


def test_the_same_id_with_another_secret_is_proved_after_a_restart(make_bench: MakeBench) -> None:
    """This process does not know the secret in use, and the sinks hold another: STS is asked before anything is written."""
    before = make_bench()
    managed = before.managed()
    before.begin(managed).publish(managed, 1)
    after = make_bench()
    again = after.managed()
    asked: list[str] = []

    class Refuses:
        def verify(self, credential: Credential, **_options: object) -> Verification:
            asked.append(credential.access_key_id)
            raise VerifyRefusedError("refused", code="SignatureDoesNotMatch")

    again.verifier = Refuses()  # type: ignore[assignment]
    source = again.provider
    assert isinstance(source, Source)
    source.value = replace(key(1), access_key_secret=Secret("TYPO" * 8))
    content = after.sink("a").read_bytes()
    after.begin(again)
    assert isinstance(after.refresh().error, VerifyRefusedError)
    assert asked == [key(1).access_key_id]
    assert after.sink("a").read_bytes() == content
    source.value = key(1)
    assert after.refresh().error is None
    assert asked == [key(1).access_key_id]
