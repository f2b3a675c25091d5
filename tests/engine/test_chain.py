"""Credentials that build on others: the right order, in one go, and the right one blamed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fakes import Source, key
from workbench import Bench

from agent.chain import in_order
from agent.core.credential import Credential
from agent.core.errors import SourceRefusedError, SourceUnavailableError
from agent.core.events import Trigger
from agent.managed import Managed

DOWN = SourceUnavailableError("credentials.a: the source is down", "wait")


def source_of(managed: Managed) -> Source:
    assert isinstance(managed.provider, Source)
    return managed.provider


class Made:
    """A source that makes its value of its base's, and counts."""

    def __init__(self) -> None:
        self.of: list[str] = []

    def __call__(self, base: Credential) -> Credential:
        self.of.append(base.access_key_id)
        return key(100 + len(self.of), access_key_id=f"of-{base.access_key_id}-{len(self.of)}")


def chained(bench: Bench, name: str, base: str) -> tuple[Managed, Made]:
    made = Made()
    source = Source(name, base=base, shelf=bench.engine.shelf)
    source.value = made
    return bench.managed(name, source=source), made


def settle(bench: Bench, done: Callable[[], object]) -> None:
    bench.until(lambda: done() and all(desk.attempt is None for desk in bench.engine.desks.values()))


def test_a_start_asks_bases_first_and_each_once(bench: Bench) -> None:
    """However the config is ordered: c builds on b builds on a, and each is asked one time."""
    c, of_b = chained(bench, "c", "b")
    b, of_a = chained(bench, "b", "a")
    a = bench.managed("a")
    bench.begin(c, b, a)
    assert in_order(bench.engine.desks) == ["a", "b", "c"]
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
    settle(bench, lambda: b.state.consecutive_failures)
    assert b.state.last_error == "credentials.b: its base credentials.a failed: the source is down; wait"
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
    assert b.state.consecutive_failures == 1
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
    from agent.stages import Cause

    bench.engine.begin_emergency(a, Cause(Trigger.EMERGENCY, None, "leak"))
    assert bench.refresh("b").error is None
    assert source_of(a).calls == 1 and len(of_a.of) == 2
