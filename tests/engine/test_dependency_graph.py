"""Credentials that build on others: the right order, in one go, and the right one blamed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from agent.app.refresh_now import RefreshNow
from agent.core.credential import Credential
from agent.core.errors import SourceRefusedError, SourceUnavailableError
from agent.core.events import Cause, Trigger
from agent.engine.dependency_graph import in_order
from agent.refresh.managed_credential import ManagedCredential
from agent.runtime.scheduler import Job, JobKind
from tests.support.bench import Bench
from tests.support.fakes import FakeDependent, Source, key

DOWN = SourceUnavailableError("credentials.a: the source is down", "wait")


def source_of(managed: ManagedCredential) -> Source:
    assert isinstance(managed.provider, Source)
    return managed.provider


class Made:
    """A source that makes its value of its base's, and counts."""

    def __init__(self) -> None:
        self.of: list[str] = []

    def __call__(self, base: Credential) -> Credential:
        self.of.append(base.access_key_id)
        return key(100 + len(self.of), access_key_id=f"of-{base.access_key_id}-{len(self.of)}")


def chained(bench: Bench, name: str, base: str) -> tuple[ManagedCredential, Made]:
    made = Made()
    source = Source(name, base=base, bases=bench.parts.bases)
    source.value = made
    return bench.managed(name, source=source), made


def settle(bench: Bench, done: Callable[[], object]) -> None:
    bench.until(lambda: done() and all(slot.attempt is None for slot in bench.slots.values()))


def test_a_start_asks_bases_first_and_each_once(bench: Bench) -> None:
    """However the config is ordered: c builds on b builds on a, and each is asked one time."""
    c, of_b = chained(bench, "c", "b")
    b, of_a = chained(bench, "b", "a")
    a = bench.managed("a")
    bench.begin(c, b, a)
    assert in_order(bench.slots) == ["a", "b", "c"]
    bench.engine.start_all()
    settle(bench, lambda: c.state.published.generation)
    assert (source_of(a).calls, source_of(b).calls, source_of(c).calls) == (1, 1, 1)
    assert of_a.of == [key(1).access_key_id] and of_b.of == [f"of-{key(1).access_key_id}-1"]


def test_a_base_that_rotates_renews_the_whole_chain_in_one_go(bench: Bench) -> None:
    """One poll of the base finds the rotation; what builds on it follows at once, in order, made of the new value."""
    a = bench.managed("a")
    b, of_a = chained(bench, "b", "a")
    c, of_b = chained(bench, "c", "b")
    bench.begin(a, b, c).engine.start_all()
    settle(bench, lambda: c.state.published.generation)
    bench.clock.move(30.0)
    source_of(a).value = key(2)
    bench.refresh("a")
    settle(bench, lambda: c.state.published.generation == 2)
    published = [(one["credential"], one["generation"]) for one in bench.records("published")]
    assert published[3:] == [("a", 2), ("b", 2), ("c", 2)]
    assert of_a.of[-1] == key(2).access_key_id and of_b.of[-1] == b.state.published.access_key_id
    assert source_of(a).calls == 2, "the base that has just answered is not asked again for each follower"
    reasons = [one.get("reason") for one in bench.records("published")[4:]]
    assert reasons == ["credentials.a changed"] * 2


def test_a_dependant_refreshes_its_base_first(bench: Bench) -> None:
    """A renewal is signed by the newest value, found at that moment: not by one that a poll ago was the newest."""
    a = bench.managed("a")
    b, of_a = chained(bench, "b", "a")
    bench.begin(a, b).engine.start_all()
    settle(bench, lambda: b.state.published.generation)
    bench.clock.move(30.0)
    source_of(a).value = key(2)
    report = bench.refresh("b", Trigger.OPERATOR)
    assert report.error is None and of_a.of[-1] == key(2).access_key_id
    settle(bench, lambda: True)
    assert a.state.published.generation == 2 and len(of_a.of) == 2, "and it is renewed once for it, not twice"


def test_a_base_that_fails_while_its_value_lives_holds_up_nobody(bench: Bench) -> None:
    """KMS may be down when a session is renewed: the key that is in use signs as well as before."""
    a = bench.managed("a")
    b, of_a = chained(bench, "b", "a")
    bench.begin(a, b).engine.start_all()
    settle(bench, lambda: b.state.published.generation)
    bench.clock.move(30.0)
    source_of(a).value = DOWN
    assert bench.refresh("b").error is None
    assert of_a.of == [key(1).access_key_id] * 2


def test_a_base_without_a_value_is_named_as_the_cause(bench: Bench) -> None:
    """Text and remedy are the base's, and so is whether trying again can help; it recovers by itself."""
    a = bench.managed("a")
    b, _of_a = chained(bench, "b", "a")
    source_of(a).value = DOWN
    bench.begin(a, b).engine.start_all()
    settle(bench, lambda: b.state.health.failures)
    assert b.state.health.last_error == "credentials.b: its base credentials.a failed: the source is down; wait"
    source_of(a).value = SourceRefusedError("KMS has no such secret", "correct the name")
    bench.clock.move(60.0)
    error: Any = bench.refresh("b").error
    assert type(error) is SourceRefusedError
    assert str(error) == "credentials.b: its base credentials.a failed: KMS has no such secret; correct the name"
    bench.clock.move(60.0)
    source_of(a).value = key(3)
    bench.refresh("a")
    settle(bench, lambda: b.state.published.generation == 1)


def test_a_base_that_comes_back_unchanged_frees_what_waits_for_it(make_bench: Callable[..., Bench]) -> None:
    """The base's value is the same as before the outage, yet what builds on it was failing: it is tried at once."""
    bench = make_bench()
    a = bench.managed("a")
    bench.begin(a).refresh("a")
    bench = make_bench()  # a restart: the base's secret is not known
    a = bench.managed("a", source=Source("a"))
    b, _of_a = chained(bench, "b", "a")
    source_of(a).value = DOWN
    bench.begin(a, b)
    bench.refresh("b")
    assert b.state.health.failures == 1
    bench.clock.move(60.0)
    source_of(a).value = key(1)
    bench.refresh("a")
    settle(bench, lambda: b.state.published.generation == 1)
    assert a.state.published.generation == 1


def test_an_operators_rotation_of_the_base_is_left_alone_by_what_builds_on_it(bench: Bench) -> None:
    """While `rotate` works on the base nobody else asks its source: the publish there is the operator's."""
    a = bench.managed("a")
    b, of_a = chained(bench, "b", "a")
    bench.begin(a, b).engine.start_all()
    settle(bench, lambda: b.state.published.generation)
    bench.clock.move(30.0)
    bench.engine.hold(a.name, Cause(Trigger.EMERGENCY, None, "leak"))
    assert bench.refresh("b").error is None
    assert source_of(a).calls == 1 and len(of_a.of) == 2


def live_session(bench: Bench, number: int) -> Credential:
    return key(number, expiration=bench.clock.now() + timedelta(hours=1))


def test_a_dependant_that_fails_does_not_make_its_base_take_sessions(bench: Bench) -> None:
    """A typo in one credential must not restart another one's units: a session that lives and is not due serves."""
    a = bench.managed("a")
    source_of(a).value = live_session(bench, 1)
    b, _of_a = chained(bench, "b", "a")
    source_of(b).value = lambda base: (_ for _ in ()).throw(
        SourceRefusedError("credentials.b: no such role", "mend it")
    )
    bench.begin(a, b).engine.start_all()
    settle(bench, lambda: b.state.health.failures)
    for _ in range(10):
        bench.move(61.0)
    assert b.state.health.failures > 5 and source_of(a).calls == 1


def test_a_base_whose_key_was_refused_is_asked_for_another(bench: Bench) -> None:
    """The session was cut off at the service: it lives by the clock, but signs no more."""
    a = bench.managed("a")
    source_of(a).value = live_session(bench, 1)
    b, of_a = chained(bench, "b", "a")
    refused = SourceRefusedError("credentials.b: STS refuses the key", "wait", code="InvalidSecurityToken.Expired")
    source_of(b).value = lambda base: (_ for _ in ()).throw(refused)
    bench.begin(a, b).engine.start_all()
    settle(bench, lambda: b.state.health.failures)
    bench.clock.move(30.0)
    source_of(a).value, source_of(b).value = live_session(bench, 2), of_a
    assert bench.refresh("b").error is None
    assert source_of(a).calls == 2 and of_a.of[0] == key(2).access_key_id


def test_a_changed_base_signs_with_nothing_of_its_old_source(bench: Bench) -> None:
    """After a reload what builds on it waits for the new source's answer, however fresh the old one's was."""
    a = bench.managed("a")
    b, of_a = chained(bench, "b", "a")
    bench.begin(a, b).engine.start_all()
    settle(bench, lambda: b.state.published.generation)
    new_a = Source("a", label="other")
    new_a.value = key(7)
    new_b = Source("b", label="other", base="a", bases=bench.parts.bases)
    new_b.value = of_a
    bench.engine.reload([bench.managed("a", source=new_a), bench.managed("b", source=new_b)], 2.0)
    settle(bench, lambda: b.state.published.generation == 2)
    assert of_a.of == [key(1).access_key_id, key(7).access_key_id]


def test_a_base_that_comes_back_is_followed_at_once(bench: Bench) -> None:
    """Not by the back-off of whoever waits for it: by its own return."""
    a = bench.managed("a")
    b, _of_a = chained(bench, "b", "a")
    source_of(a).value = DOWN
    bench.begin(a, b)
    bench.refresh("b")
    source_of(a).value = key(1)
    bench.parts.scheduler.clear(Job(JobKind.REFRESH, "b"))
    bench.refresh("a")
    settle(bench, lambda: b.state.published.generation == 1)


def test_signals_leave_a_credential_alone_that_an_operator_rotates(bench: Bench) -> None:
    """SIGUSR1, a reload and a base that changes ask nobody behind the back of `rotate`."""
    a = bench.managed("a")
    b, of_a = chained(bench, "b", "a")
    bench.begin(a, b).engine.start_all()
    settle(bench, lambda: b.state.published.generation)
    bench.clock.move(30.0)
    bench.engine.hold(b.name, Cause(Trigger.EMERGENCY, None, "leak"))
    source_of(a).value = key(2)
    bench.engine.refresh_all(Trigger.SIGNAL)
    bench.engine.reload([a, b], 2.0)
    settle(bench, lambda: a.state.published.generation == 2)
    assert len(of_a.of) == 1


def test_a_named_refresh_waits_for_everybody_whom_it_touches(bench: Bench) -> None:
    """`once b` also refreshes the base, and `once a` what builds on it: all of it is told and reported before it ends."""
    hooks = {name: FakeDependent(f"hook-{name}") for name in "ab"}
    a = bench.managed("a", notify=[hooks["a"]])
    source = Source("b", base="a", bases=bench.parts.bases)
    of_a = source.value = Made()
    b = bench.managed("b", source=source, notify=[hooks["b"]])
    bench.begin(a, b)
    for names, generation in ((["b"], 1), (["a"], 2)):
        bench.clock.move(30.0)
        source_of(a).value = key(generation)
        answer = asked_for(bench, names)
        assert answer["exit_code"] == 0
        assert {row["credential"]: row["generation"] for row in answer["credentials"]} == dict.fromkeys(
            "ab", generation
        )
        assert [hook.generations[-1] for hook in hooks.values()] == [generation] * 2
    assert len(of_a.of) == 2


def asked_for(bench: Bench, names: list[str]) -> dict[str, Any]:
    """The answer of `keyturn once` or `refresh`, whose thread is not the engine's."""
    answers: list[dict[str, Any]] = []

    def ask() -> None:
        answers.append(RefreshNow(bench.engine, Cause(Trigger.OPERATOR)).run(names))
        bench.parts.loop.post(lambda: None)

    worker = threading.Thread(target=ask)
    worker.start()
    bench.until(lambda: answers)
    worker.join()
    return answers[0]
