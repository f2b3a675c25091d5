"""The canary on an engine: when it looks, at what, and what a refusal leads to. Time stands still until it is moved."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from agent.canary import pace
from agent.canary.canary import SERVED, Canary
from agent.cloud.openapi import CallerIdentity
from agent.core.credential import Credential
from agent.core.errors import (
    KeyturnError,
    LeakedKeyError,
    NotPermittedError,
    SourceRefusedError,
    SourceUnavailableError,
)
from agent.core.events import Cause, Trigger
from agent.core.settings import FilePath, ServeSettings
from agent.engine import key_alarms
from agent.refresh.managed_credential import ManagedCredential
from agent.sinks.formats.template import Template, TemplateSettings
from tests.support.bench import Bench
from tests.support.fakes import FakeDependent, Source, key

REFUSED = SourceRefusedError("sts refuses the key that signed", code="InvalidAccessKeyId.NotFound")
RESTRICTED = LeakedKeyError("ram refuses the key that signed: restricted as leaked", code="Forbidden")


class FakeCloud:
    """STS and RAM that say what a test puts into `says` and `ram_says`, by key; `signed` has who asked STS, in order."""

    def __init__(self) -> None:
        self.sts = self.ram = self
        self.says: dict[str, KeyturnError] = {}
        self.ram_says: dict[str, KeyturnError] = {}
        self.signed: list[str] = []
        self.asked_ram: list[str] = []
        self.before: Callable[[], None] = lambda: None

    def get_caller_identity(self, value: Credential, *, now: datetime, timeout_s: float) -> CallerIdentity:
        self.before()
        self.signed.append(value.access_key_id)
        if (error := self.says.get(value.access_key_id)) is not None:
            raise error
        return CallerIdentity("acs:ram::1:user/a", "1")

    def see_own_keys(self, value: Credential, *, now: datetime, timeout_s: float) -> None:
        self.asked_ram.append(value.access_key_id)
        if (error := self.ram_says.get(value.access_key_id)) is not None:
            raise error


class Aviary:
    """A bench with a canary."""

    def __init__(self, bench: Bench) -> None:
        self.bench, self.cloud = bench, FakeCloud()
        self.changes = 0
        self.is_behind = False
        self.offers: dict[str, Credential] = {}
        self.canary = Canary(
            bench.engine, bench.audit, self.offers.get, lambda *_: self.is_behind, self._changed, chance=lambda: 0.5
        )

    def _changed(self) -> None:
        self.changes += 1

    def begin(self, *credentials: ManagedCredential) -> Aviary:
        self.bench.begin(*credentials)
        self.canary.follow(self.cloud)  # type: ignore[arg-type]
        return self

    def seconds(self, count: int) -> None:
        """Let so many seconds pass, one by one."""
        for _ in range(count):
            self.bench.move(1.0)

    def looks(self) -> dict[str, int]:
        figures = self.canary.figures("a")
        assert figures is not None
        return {name: count for name, count in figures.items() if count}

    def shown(self, name: str = "a") -> dict[str, Any]:
        seen = self.canary.as_json(name)
        assert seen is not None
        return seen

    def restricted(self, name: str = "a") -> list[str]:
        """The keys about which there is an alarm."""
        seen = self.bench.engine.look(name)
        assert seen is not None
        return [alarm.access_key_id for alarm in seen.key_alarms]

    def calm(self) -> None:
        """Until nothing is new any more."""
        self.bench.clock.move(pace.HURRIED_AT_MOST.total_seconds())
        self.bench.settle_down()
        self.seconds(2)
        self.cloud.signed.clear()


@pytest.fixture
def aviary(bench: Bench) -> Aviary:
    return Aviary(bench)


def managed(bench: Bench, name: str = "a", **more: Any) -> ManagedCredential:
    return bench.managed(name, canary=True, **more)


def test_who_asks_for_none_has_none(aviary: Aviary) -> None:
    """No call, no figures, and nothing planned that would wake the loop."""
    bench = aviary.bench
    one = bench.managed()
    aviary.begin(one)
    bench.publish(one, 1)
    aviary.seconds(5)
    assert aviary.cloud.signed == []
    assert aviary.canary.figures("a") is None and aviary.canary.as_json("a") is None
    assert not any(job.kind == "every" for job in bench.parts.scheduler._at)


def test_a_new_key_is_signed_with_each_second_and_then_each_minute(aviary: Aviary) -> None:
    """From the publish for a minute, since everybody has it; then once a minute."""
    one = managed(aviary.bench)
    aviary.begin(one)
    aviary.bench.publish(one, 1)
    aviary.seconds(10)
    assert 9 <= len(aviary.cloud.signed) <= 11
    aviary.seconds(50)
    before = len(aviary.cloud.signed)
    aviary.seconds(125)
    assert len(aviary.cloud.signed) - before in (2, 3)
    assert set(aviary.cloud.signed) == {key(1).access_key_id}
    assert aviary.looks() == {"accepted": len(aviary.cloud.signed)}


def test_as_long_as_a_dependent_has_not_heard_the_key_is_new(aviary: Aviary) -> None:
    """For ten minutes at most."""
    dependent = FakeDependent("web", retry_for=3600)
    dependent.broken = True
    one = managed(aviary.bench, notify=[dependent])
    aviary.begin(one)
    aviary.bench.publish(one, 1)
    aviary.bench.move(120.0)
    aviary.cloud.signed.clear()
    aviary.seconds(5)
    assert len(aviary.cloud.signed) >= 4
    aviary.calm()
    aviary.seconds(5)
    assert aviary.cloud.signed == []


def test_sinks_take_turns_and_so_does_the_socket(aviary: Aviary) -> None:
    """Each place is looked at in its turn, and shown with what was seen there."""
    one = managed(aviary.bench, serve=ServeSettings(users=("root",)))
    aviary.begin(one)
    aviary.offers["a"] = key(1)
    aviary.bench.publish(one, 1)
    aviary.seconds(4)
    paths = [str(aviary.bench.sink(number=number)) for number in range(2)]
    assert [look["where"] for look in aviary.shown()["looks"]] == [*paths, SERVED]


def test_a_credential_that_is_served_only_is_looked_at_there(aviary: Aviary) -> None:
    """What is handed out signs; while a process may still use the key before, each second."""
    one = managed(aviary.bench, sinks=0, serve=ServeSettings(users=("root",)))
    aviary.begin(one)
    aviary.offers["a"] = key(1)
    aviary.is_behind = True
    aviary.bench.publish(one, 1)
    aviary.bench.move(120.0)
    aviary.cloud.signed.clear()
    aviary.seconds(5)
    assert len(aviary.cloud.signed) >= 4
    assert [look["where"] for look in aviary.shown()["looks"]] == [SERVED]


def test_what_stands_in_the_file_is_what_signs(aviary: Aviary) -> None:
    """Not what was published: somebody put an older file back."""
    one = managed(aviary.bench, sinks=1)
    aviary.begin(one)
    aviary.bench.publish(one, 1)
    old = aviary.bench.sink().read_bytes()
    aviary.bench.publish(one, 2)
    aviary.bench.sink().write_bytes(old)
    aviary.cloud.signed.clear()
    aviary.seconds(2)
    assert aviary.cloud.signed[-1] == key(1).access_key_id


def test_a_refused_key_leads_to_one_refresh(aviary: Aviary) -> None:
    """At once, with the reason in the audit, where one record says that it was refused; then the new key is accepted."""
    source = Source("a", poll_s=3600.0)
    one = managed(aviary.bench, source=source)
    aviary.begin(one)
    aviary.bench.publish(one, 1)
    aviary.calm()
    source.value, calls = key(2), source.calls
    aviary.cloud.says[key(1).access_key_id] = REFUSED
    aviary.seconds(70)
    assert source.calls == calls + 1
    (refused,) = aviary.bench.records("verify_failed")
    assert (refused["outcome"], refused["access_key_id"]) == ("refused", key(1).access_key_id)
    published = aviary.bench.records("published")[-1]
    assert published["trigger"] == "poll" and "InvalidAccessKeyId.NotFound" in published["reason"]
    assert aviary.looks()["refused"] == 1
    assert {look["outcome"] for look in aviary.shown()["looks"]} == {"accepted"}


def test_a_key_that_stays_refused_is_asked_for_ever_more_rarely(aviary: Aviary) -> None:
    """A source that knows no other: after 0, 10, 30 and 70 s, then each minute, and told once."""
    source = Source("a", poll_s=36_000.0)
    one = managed(aviary.bench, sinks=1, source=source)
    aviary.begin(one)
    aviary.cloud.says[key(1).access_key_id] = REFUSED
    aviary.bench.publish(one, 1)
    calls = source.calls
    aviary.seconds(60)
    assert source.calls - calls == 3
    assert len(aviary.bench.records("verify_failed")) == 1


@pytest.mark.parametrize(
    "error",
    [SourceUnavailableError("sts cannot answer"), SourceRefusedError("the clock", code="IllegalTimestamp")],
    ids=["away", "clock"],
)
def test_an_sts_that_cannot_judge_leads_to_nothing(aviary: Aviary, error: KeyturnError) -> None:
    """It is counted, asked again every 5 s, and neither a refusal nor a reason to ask the source."""
    source = Source("a", poll_s=3600.0)
    one = managed(aviary.bench, source=source)
    aviary.begin(one)
    aviary.cloud.says[key(1).access_key_id] = error
    aviary.bench.publish(one, 1)
    calls = source.calls
    aviary.seconds(20)
    assert source.calls == calls and aviary.bench.records("verify_failed") == []
    assert set(aviary.looks()) == {"unanswered"}
    assert 3 <= aviary.looks()["unanswered"] <= 5


def test_an_emergency_is_watched_each_second_and_left_alone(aviary: Aviary) -> None:
    """A refusal while `rotate` runs is counted; the refreshes are its own."""
    source = Source("a", poll_s=3600.0)
    one = managed(aviary.bench, source=source)
    aviary.begin(one)
    aviary.bench.publish(one, 1)
    aviary.calm()
    calls = source.calls
    aviary.cloud.says[key(1).access_key_id] = REFUSED
    aviary.bench.engine.hold("a", Cause(Trigger.EMERGENCY, reason="leaked"))
    aviary.seconds(5)
    assert aviary.looks()["refused"] >= 4
    assert source.calls == calls


def test_a_torn_and_a_missing_file_are_unreadable_and_the_others_go_on(aviary: Aviary) -> None:
    """No refusal, no refresh; what can be read is looked at in its turn."""
    source = Source("a", poll_s=3600.0)
    one = managed(aviary.bench, sinks=3, source=source)
    aviary.begin(one)
    aviary.bench.publish(one, 1)
    calls = source.calls
    aviary.bench.sink(number=0).write_text('{"Code": "Success", "AccessKey')
    aviary.bench.sink(number=1).unlink()
    aviary.seconds(9)
    seen = {look["where"]: look["outcome"] for look in aviary.shown()["looks"]}
    paths = [str(aviary.bench.sink(number=number)) for number in range(3)]
    assert [seen[path] for path in paths] == ["unreadable", "unreadable", "accepted"]
    assert source.calls == calls


def test_a_template_alone_gives_nothing_to_sign_with(aviary: Aviary, tmp_path: Path) -> None:
    """Nothing is asked; that it is blind is said once, by `check` too."""
    one = managed(aviary.bench, sinks=1)
    (tmp_path / "template").write_text("{{ access_key_id }}")
    settings = TemplateSettings(
        type="template", path=FilePath(tmp_path / "out"), source=FilePath(tmp_path / "template")
    )
    one.sinks = (Template(settings),)
    aviary.begin(one)
    aviary.bench.publish(one, 1)
    aviary.seconds(65)
    assert aviary.cloud.signed == [] and aviary.canary.as_json("a") is None
    assert aviary.looks() == {}


def test_a_key_that_is_restricted_raises_one_alarm_until_it_is_gone(
    aviary: Aviary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told once, shown while the key stands; RAM is asked every ten minutes; the next key ends it. Nothing is rotated."""
    said: list[str] = []
    monkeypatch.setattr(key_alarms.log, "critical", lambda event, **_more: said.append(event), raising=False)
    source = Source("a", poll_s=36_000.0)
    one = managed(aviary.bench, source=source)
    aviary.begin(one)
    aviary.cloud.ram_says[key(1).access_key_id] = RESTRICTED
    aviary.bench.publish(one, 1)
    calls = source.calls
    aviary.seconds(30)
    assert len(said) == 1 and len(aviary.cloud.asked_ram) == 1 and source.calls == calls
    assert aviary.restricted() == [key(1).access_key_id]
    assert aviary.shown()["leak"] == "restricted" and aviary.shown()["restricted"] == [key(1).access_key_id]
    (record,) = aviary.bench.records("key_restricted")
    assert record["access_key_id"] == key(1).access_key_id and str(aviary.bench.sink()) in record["error"]
    aviary.cloud.ram_says[key(1).access_key_id] = NotPermittedError("no", code="NoPermission")
    aviary.bench.move(pace.LEAK_S)
    aviary.seconds(120)
    assert len(aviary.cloud.asked_ram) == 2 and aviary.restricted()
    aviary.bench.publish(one, 2)
    aviary.seconds(5)
    assert aviary.restricted() == [] and aviary.shown()["leak"] == "clear"
    assert len(said) == 1
    assert [record["access_key_id"] for record in aviary.bench.records("recovered")] == [key(1).access_key_id]


def test_a_value_that_was_switched_while_it_was_looked_at_is_no_refusal(aviary: Aviary) -> None:
    """The file was read before the switch, and the old key died behind it: the new one is looked at instead."""
    one = managed(aviary.bench)
    aviary.begin(one)
    aviary.bench.publish(one, 1)
    aviary.calm()
    aviary.cloud.says[key(1).access_key_id] = REFUSED
    begun: list[bool] = []

    def switch() -> None:
        begun.append(True)
        aviary.cloud.before = lambda: None
        published.wait(60)

    published = threading.Event()
    aviary.cloud.before = switch
    aviary.bench.clock.move(70.0)
    aviary.bench.until(lambda: begun)
    aviary.bench.publish(one, 2)
    published.set()
    aviary.seconds(3)
    assert aviary.cloud.signed[0] == key(1).access_key_id and "refused" not in aviary.looks()
    assert aviary.cloud.signed[-1] == key(2).access_key_id


def test_one_look_is_under_way_for_each_credential_and_holds_up_nobody(aviary: Aviary) -> None:
    """An STS that hangs: no second look is begun, and a publish and its news go on meanwhile."""
    gate = threading.Event()
    dependent = FakeDependent("web")
    one = managed(aviary.bench, notify=[dependent])
    aviary.begin(one)
    aviary.cloud.before = lambda: gate.wait(60) and None
    aviary.bench.publish(one, 1)
    aviary.bench.clock.move(1.0)
    aviary.bench.until(lambda: aviary.bench.loop.busy() == 1)
    for number in (2, 3):
        aviary.bench.publish(one, number)
        aviary.bench.clock.move(30.0)
        aviary.bench.until(lambda wanted=number: dependent.generations[-1:] == [wanted])
    assert aviary.bench.loop.busy() == 1 and aviary.cloud.signed == []
    gate.set()
    aviary.bench.settle_down()


def test_after_a_start_the_looks_of_many_are_spread_over_a_minute(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not one burst: at most `PER_TICK` begin in a tick, and every credential comes to its turn."""
    monkeypatch.setattr(pace, "PER_TICK", 3)
    aviary = Aviary(bench)
    many = [managed(bench, f"a{number}", sinks=1) for number in range(10)]
    aviary.begin(*many)
    for one in many:
        bench.publish(one, 1)
    aviary.cloud.signed.clear()
    bench.move(1.0)
    assert len(aviary.cloud.signed) <= 3
    aviary.seconds(4)
    assert all(aviary.canary.as_json(one.name) for one in many)


def test_a_reload_takes_the_canary_away_and_brings_it_back(aviary: Aviary) -> None:
    """Its figures go with it; it begins anew from the files, as after a restart."""
    bench = aviary.bench
    one = managed(bench)
    aviary.begin(one)
    bench.publish(one, 1)
    aviary.seconds(2)
    assert aviary.canary.figures("a") is not None
    bench.engine.reload([bench.managed()], 2.0)
    bench.settle_down()
    assert aviary.canary.figures("a") is None
    before = len(aviary.cloud.signed)
    aviary.seconds(3)
    assert len(aviary.cloud.signed) == before
    bench.engine.reload([managed(bench)], 2.0)
    aviary.seconds(3)
    assert len(aviary.cloud.signed) > before


def test_after_a_restart_the_files_sign_before_the_source_was_asked(tmp_path: Path) -> None:
    """What an earlier process published is enough."""
    (tmp_path / "state").mkdir()
    first = Bench(tmp_path)
    one = managed(first)
    first.begin(one)
    first.publish(one, 1)
    first.close()
    second = Bench(tmp_path, first.clock)
    aviary, source = Aviary(second), Source("a", poll_s=3600.0)
    aviary.begin(managed(second, source=source))
    aviary.seconds(3)
    assert source.calls == 0 and set(aviary.cloud.signed) == {key(1).access_key_id}
    second.close()


def test_no_secret_is_in_what_it_shows_and_records(aviary: Aviary) -> None:
    """Ids only, in status, figures and audit."""
    one = managed(aviary.bench)
    aviary.begin(one)
    aviary.cloud.says[key(1).access_key_id] = REFUSED
    aviary.bench.publish(one, 1)
    aviary.seconds(5)
    secret = key(1).access_key_secret
    assert secret is not None
    places = [
        aviary.bench.audit_path.read_text(),
        str(aviary.shown()),
        str(aviary.canary.figures("a")),
        repr(vars(aviary.canary)),
    ]
    assert all(secret.reveal() not in place for place in places)
