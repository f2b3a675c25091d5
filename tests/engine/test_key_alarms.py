"""Alarms about keys: each raised once, seen everywhere, over restarts too, and ended by what mends it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from agent.app import status
from agent.core.client_keys import ClientKeyEnd
from agent.core.errors import LeakedKeyError, VerifyRefusedError
from agent.core.events import Cause, Trigger
from agent.core.settings import Duration
from agent.refresh.managed_credential import ManagedCredential
from tests.support.bench import Bench
from tests.support.fakes import Source, key

DAY_S = 86_400.0
DAY = timedelta(days=1)
PATH = "/etc/keyturn/clientKey.json"
Said = list[dict[str, Any]]


class Signing(Source):
    """A source that signs with ClientKeys."""

    client_keys: tuple[ClientKeyEnd, ...] | None = None


@pytest.fixture
def said() -> Iterator[Said]:
    """Every line of the log."""
    with capture_logs() as lines:
        yield lines


def signing(bench: Bench, name: str, days: float, key_id: str = "KAAP.1") -> ManagedCredential:
    """A credential whose ClientKey ends in so many days."""
    source = Signing(name, poll_s=DAY_S, label=name)
    source.client_keys = (ClientKeyEnd(key_id, PATH, bench.clock.now() + days * DAY),)
    return bench.managed(name, source=source, sinks=1)


def replaced(managed: ManagedCredential, key_id: str, expires_at: datetime) -> None:
    """Another ClientKey stands in the file."""
    assert isinstance(managed.provider, Signing)
    managed.provider.client_keys = (ClientKeyEnd(key_id, PATH, expires_at),)


def outcomes(bench: Bench) -> list[str]:
    return [record["outcome"] for record in bench.records("client_key_expires")]


def pass_days(bench: Bench, count: int) -> None:
    for _ in range(count):
        bench.move(DAY_S)


# -- the end of a ClientKey ---------------------------------------------------------------------------


def test_each_day_before_the_end_is_said_once(bench: Bench, said: Said) -> None:
    """180, 90, 30, 7 days before and at the end, ever more urgent; one ClientKey of many credentials is one alarm."""
    everyone = [signing(bench, name, 181) for name in "abc"]
    bench.begin(*everyone)
    for one in everyone:
        bench.publish(one, 1)
    seen: list[tuple[int, list[str]]] = []
    for days in (0, 1, 1, 90, 1, 60, 23, 7, 1):
        bench.clock.move(days * DAY_S)
        bench.settle_down()
        for one in everyone:
            bench.refresh(one.name)
        seen.append((days, outcomes(bench)))
    known = ["180 days before", "90 days before", "30 days before", "7 days before", "expired"]
    assert [len(told) for _days, told in seen] == [0, 1, 1, 2, 2, 3, 4, 5, 5]
    assert seen[-1][1] == known
    (first, *_rest) = bench.records("client_key_expires")
    assert first["access_key_id"] == "KAAP.1" and PATH in first["error"] and "credential" not in first
    levels = [line["log_level"] for line in said if line["event"] == "a ClientKey expires"]
    assert levels == ["warning", "warning", "error", "critical", "critical"]
    line = status.summary(bench.engine.snapshot())
    assert line.startswith("ClientKey KAAP.1 expired ")


def test_a_start_within_the_last_days_says_the_last_alarm_alone(bench: Bench) -> None:
    """What passed before anybody looked is not said one after the other."""
    one = signing(bench, "a", 5)
    bench.begin(one)
    bench.publish(one, 1)
    assert outcomes(bench) == ["7 days before"]


def test_a_restart_repeats_no_alarm_and_goes_on_with_the_next(make_bench: Callable[..., Bench]) -> None:
    """What was said stands on disk; a book that is damaged costs one alarm more, and nothing else."""
    bench = make_bench()
    end = 20.0
    one = signing(bench, "a", end)
    bench.begin(one)
    bench.publish(one, 1)
    for damaged in (False, True):
        if damaged:
            (bench.directory / "state" / "client-keys").write_text("{")
        bench = make_bench()
        one = signing(bench, "a", end)
        bench.begin(one)
        bench.refresh()
        assert outcomes(bench) == ["30 days before"] * (2 if damaged else 1)
    bench.move(14 * DAY_S)
    assert outcomes(bench)[-1] == "7 days before"


def test_another_client_key_ends_it(make_bench: Callable[..., Bench]) -> None:
    """Once no credential signs with the old one any more; also where it was replaced while no agent ran."""
    bench = make_bench()
    everyone = [signing(bench, name, 5) for name in "ab"]
    bench.begin(*everyone)
    for one in everyone:
        bench.publish(one, 1)
    far = bench.clock.now() + 365 * DAY
    for one in everyone:
        assert bench.records("recovered") == []
        replaced(one, "KAAP.2", far)
        bench.refresh(one.name)
    (record,) = bench.records("recovered")
    assert (record["access_key_id"], record["outcome"]) == ("KAAP.1", "from client_key_expires")
    assert [one.key_id for one in bench.engine.snapshot().client_keys] == ["KAAP.2"]
    bench.move(360 * DAY_S)
    assert outcomes(bench)[-1] == "7 days before"
    bench = make_bench()
    one = signing(bench, "a", 365, "KAAP.3")
    bench.begin(one)
    bench.refresh()
    assert [record["access_key_id"] for record in bench.records("recovered")] == ["KAAP.1", "KAAP.2"]


def test_what_is_not_known_yet_ends_nothing(bench: Bench) -> None:
    """A ClientKey that cannot be opened just now is still the one that expires; one that does not end is no alarm."""
    one = signing(bench, "a", 5)
    assert isinstance(one.provider, Signing)
    bench.begin(one)
    bench.publish(one, 1)
    one.provider.client_keys = None
    bench.refresh()
    assert len(bench.engine.snapshot().client_keys) == 1
    one.provider.client_keys = ()
    bench.refresh()
    assert bench.engine.snapshot().client_keys == () and len(bench.records("recovered")) == 1


def test_a_wrong_clock_that_is_set_right_takes_it_back(bench: Bench) -> None:
    """A clock a year ahead raised it; by the right one it lies ahead, and is raised when it is time."""
    one = signing(bench, "a", 200)
    bench.begin(one)
    bench.publish(one, 1)
    bench.clock._now += 300 * DAY
    bench.parts.planner.stepped(bench.slots.values())
    bench.settle_down()
    assert outcomes(bench) == ["expired"]
    bench.clock._now -= 300 * DAY
    bench.parts.planner.stepped(bench.slots.values())
    bench.settle_down()
    assert len(bench.records("recovered")) == 1 and not bench.engine.snapshot().client_keys[0].said
    bench.move(21 * DAY_S)
    assert outcomes(bench) == ["expired", "180 days before"]


# -- max_age ------------------------------------------------------------------------------------------


def aging(bench: Bench, days: float | None = 90) -> ManagedCredential:
    limit = Duration(days * DAY_S) if days is not None else None
    return bench.managed(source=Source("a", poll_s=36_500 * DAY_S), max_age=limit, max_staleness=Duration(3.2e9))


def too_old(bench: Bench, name: str = "a") -> list[str]:
    seen = bench.engine.look(name)
    assert seen is not None
    return [alarm.access_key_id for alarm in seen.key_alarms]


def test_a_key_older_than_max_age_is_an_alarm_until_the_next_key(make_bench: Callable[..., Bench], said: Said) -> None:
    """By a timer, not by a poll; once, over a restart too; `recovered` with the rotation, and again for the next key."""
    bench = make_bench()
    one = aging(bench)
    bench.begin(one)
    bench.publish(one, 1)
    bench.move(89 * DAY_S)
    assert bench.records("key_too_old") == [] and too_old(bench) == []
    bench.move(1 * DAY_S)
    assert too_old(bench) == [key(1).access_key_id]
    assert "1 of 1 credentials fresh" in status.summary(bench.engine.snapshot())
    bench = make_bench()
    one = aging(bench)
    bench.begin(one)
    bench.refresh()
    (record,) = bench.records("key_too_old")
    assert record["access_key_id"] == key(1).access_key_id and "first published here" in record["error"]
    assert len([line for line in said if line["event"] == "the key is older than max_age"]) == 1
    bench.publish(one, 2)
    (record,) = bench.records("recovered")
    assert (record["access_key_id"], record["outcome"]) == (key(1).access_key_id, "from key_too_old")
    assert too_old(bench) == []
    bench.move(90 * DAY_S)
    assert [record["access_key_id"] for record in bench.records("key_too_old")] == [
        key(1).access_key_id,
        key(2).access_key_id,
    ]


def test_the_age_counts_from_when_the_source_says_that_the_key_was_made(bench: Bench) -> None:
    """Not from its publish here; what is too old when it comes is an alarm at once."""
    one = aging(bench)
    assert isinstance(one.provider, Source)
    bench.begin(one)
    one.provider.value = key(1, created_at=bench.clock.now() - 89 * DAY)
    bench.refresh()
    assert bench.records("key_too_old") == []
    bench.move(DAY_S)
    one.provider.value = key(2, created_at=bench.clock.now() - 100 * DAY)
    bench.refresh()
    first, second = bench.records("key_too_old")
    assert first["access_key_id"] == key(1).access_key_id and "was made at 2026-08-25T12:00:00Z" in first["error"]
    assert (second["access_key_id"], second["created_at"]) == (key(2).access_key_id, "2026-08-15T12:00:00Z")
    assert status.stamp(bench.engine.snapshot().credentials[0].key_made_at) == "2026-08-15T12:00:00Z"


@pytest.mark.parametrize("made_at", ["9999-12-31T23:59:59+00:00", "2030-01-01T00:00:00+00:00"])
def test_a_source_that_names_a_time_that_is_still_to_come_puts_no_alarm_off(bench: Bench, made_at: str) -> None:
    """The age counts from the publish then; and no time of a source's ends the loop."""
    one = aging(bench)
    assert isinstance(one.provider, Source)
    bench.begin(one)
    one.provider.value = key(1, created_at=datetime.fromisoformat(made_at))
    bench.refresh()
    assert bench.records("published", "key_too_old")[-1]["event"] == "published"
    bench.move(90 * DAY_S)
    (record,) = bench.records("key_too_old")
    assert "first published here" in record["error"]


def test_a_limit_that_is_raised_or_a_clock_that_is_set_right_takes_it_back(bench: Bench) -> None:
    """A reload with another `max_age`, and a step of the wall clock."""
    one = aging(bench, 10)
    bench.begin(one)
    bench.publish(one, 1)
    bench.move(10 * DAY_S)
    bench.engine.reload([aging(bench, 20)], 2.0)
    bench.settle_down()
    assert len(bench.records("recovered")) == 1 and too_old(bench) == []
    bench.clock._now += 15 * DAY
    bench.parts.planner.stepped(bench.slots.values())
    bench.settle_down()
    assert len(bench.records("key_too_old")) == 2
    bench.clock._now -= 15 * DAY
    bench.parts.planner.stepped(bench.slots.values())
    bench.settle_down()
    assert len(bench.records("recovered")) == 2
    bench.engine.reload([], 2.0)
    bench.move(100 * DAY_S)
    assert len(bench.records("key_too_old")) == 2


def test_a_session_has_no_age(bench: Bench) -> None:
    """It ends by itself; and without a limit no key is too old."""
    one = aging(bench, 1)
    assert isinstance(one.provider, Source)
    bench.begin(one)
    one.provider.value = key(1, expiration=bench.clock.now() + 365 * DAY)
    bench.refresh()
    bench.move(2 * DAY_S)
    assert bench.records("key_too_old") == [] and one.key_made_at is None


# -- restricted keys ----------------------------------------------------------------------------------


def leaked(key_id: str) -> LeakedKeyError:
    return LeakedKeyError("ram refuses the key that signed", "rotate it", code="Forbidden", restricted_key=key_id)


def test_a_fetch_that_a_restricted_key_signed_is_the_alarm_of_who_publishes_that_key(
    make_bench: Callable[..., Bench], said: Said
) -> None:
    """The follower fails, its base has the alarm, once, over a restart too, until another key is published there."""
    bench = make_bench()
    base, follower = bench.managed("base"), bench.managed("follower", source=Source("follower", label="f"))
    bench.begin(base, follower)
    bench.publish(base, 1)
    assert isinstance(follower.provider, Source)
    follower.provider.value = leaked(key(1).access_key_id)
    bench.refresh("follower")
    bench.refresh("follower")
    assert too_old(bench, "base") == [key(1).access_key_id] and too_old(bench, "follower") == []
    bench = make_bench()
    base, follower = bench.managed("base"), bench.managed("follower", source=Source("follower", label="f"))
    assert isinstance(follower.provider, Source)
    follower.provider.value = leaked(key(1).access_key_id)
    bench.begin(base, follower)
    bench.refresh("base")
    bench.refresh("follower")
    (record,) = bench.records("key_restricted")
    assert (record["credential"], record["access_key_id"]) == ("base", key(1).access_key_id)
    assert len([line for line in said if line["log_level"] == "critical"]) == 1
    assert status.summary(bench.engine.snapshot()).startswith(f"restricted as leaked: base ({key(1).access_key_id})")
    bench.publish(base, 2)
    assert too_old(bench, "base") == []
    assert [record["outcome"] for record in bench.records("recovered")] == ["from key_restricted"]


@pytest.mark.parametrize("kind", [LeakedKeyError, VerifyRefusedError])
def test_a_key_that_nobody_publishes_is_the_alarm_of_whose_refresh_failed(bench: Bench, kind: Any) -> None:
    """Such as the AccessKey of an inline base, or a new value that STS does not take: until a refresh succeeds."""
    one = bench.managed()
    assert isinstance(one.provider, Source)
    bench.begin(one)
    bench.publish(one, 1)
    one.provider.value = kind("refused", code="Forbidden", restricted_key="LTAI5tOfTheBase")
    bench.refresh()
    assert too_old(bench) == ["LTAI5tOfTheBase"]
    one.provider.value = key(1)
    bench.refresh()
    assert too_old(bench) == []
    assert [record["access_key_id"] for record in bench.records("recovered", "key_restricted")] == [
        "LTAI5tOfTheBase",
        key(1).access_key_id,
        "LTAI5tOfTheBase",
    ]


def test_an_authoritys_key_is_an_alarm_until_an_emergency_succeeds(bench: Bench) -> None:
    """A refresh that goes well says nothing of the authority."""
    one = bench.managed()
    bench.begin(one)
    bench.publish(one, 1)
    cause = Cause(Trigger.EMERGENCY, reason="leak")
    for error in (leaked("LTAI5tOps"), None):
        bench.engine.hold("a", cause).note_authority(error, cause)
        bench.parts.loop.post(lambda: bench.engine._release("a"))
        bench.settle_down()
        bench.refresh()
        assert too_old(bench) == (["LTAI5tOps"] if error else [])
    (record,) = bench.records("key_restricted")
    assert (record["trigger"], record["reason"]) == ("emergency", "leak")


def test_what_cannot_be_recorded_is_an_alarm_all_the_same(bench: Bench) -> None:
    """A full disk under the audit log hides no leaked key."""
    one = bench.managed()
    bench.begin(one)
    bench.publish(one, 1)
    bench.break_audit()
    bench.engine.key_restricted("a", key(1).access_key_id, "refused", Cause(Trigger.POLL))
    assert too_old(bench) == [key(1).access_key_id]
    bench.mend_audit()
