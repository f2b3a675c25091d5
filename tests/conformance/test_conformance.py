"""What every provider promises, held by every provider: the same cases for each rig (rig.py), none left out in silence.

A case that a source cannot have is declared in its rig, with the reason.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

import providers
from agent.cloud.openapi import Sts
from agent.cloud.transport import Transport
from agent.core import policy
from agent.core.credential import Credential, Kind
from agent.core.errors import KeyturnError
from agent.core.policy import Change
from tests.support.canaries import Listener, shown
from tests.support.rigs.every import RIGS
from tests.support.rigs.rig import FAILING, Case, Rig

NAME = "rigged"
UNHURRIED_S = 60.0
"""For a fetch that ends by itself."""
ENDLESS = (Case.HANG, Case.DRIP, Case.RESET)
MARGIN_S = 15.0
"""How late a bounded fetch may be on a machine that has other things to do; a hang is longer."""
KINDS = {"key": Kind.ACCESS_KEY, "session": Kind.STS, "bearer": Kind.BEARER}

Bring = Callable[[type[Rig]], Any]


def pairs(cases: tuple[Case, ...]) -> list[Any]:
    """Every (rig, case) that can be."""
    return [
        pytest.param(rig, case, id=f"{rig.title}: {case.name.lower()}")
        for rig in RIGS
        for case in cases
        if case in rig.cases()
    ]


def each_rig() -> Any:
    return pytest.mark.parametrize("kind", RIGS, ids=lambda rig: rig.title)


def fetch(bench: Any, timeout_s: float = UNHURRIED_S) -> Credential:
    value: Credential = bench.provider.fetch(datetime.now(UTC), timeout_s)
    return value


def parts(value: Credential) -> list[str]:
    held = (value.access_key_secret, value.security_token, value.bearer_token)
    return [secret.reveal() for secret in held if secret is not None]


ASKS_NOBODY = {"ram_user": "its fetch reads the sinks of this host back; what asks RAM is tested in tests/ram_rotation"}


def test_every_provider_has_a_rig_and_every_gap_a_reason() -> None:
    """Each built-in type is here; what a rig leaves out is a case, is not run, and says why; no case is left out by all."""
    assert {rig.type_name for rig in RIGS} >= set(providers.BUILT_IN) - set(ASKS_NOBODY)
    assert len({rig.title for rig in RIGS}) == len(RIGS)
    for rig in RIGS:
        assert set(rig.lacks) <= set(Case), rig.title
        assert set(rig.cases()) == set(Case) - set(rig.lacks), rig.title
        assert set(rig.verdicts) <= set(FAILING), rig.title
        for case, reason in rig.lacks.items():
            assert len(reason) > 10, f"{rig.title}, {case}: a gap needs a reason"
    for case in Case:
        assert any(case in rig.cases() for rig in RIGS), case
    for type_name in set(providers.BUILT_IN) - set(ASKS_NOBODY):
        kinds = [rig for rig in RIGS if rig.type_name == type_name]
        assert all(case in {run for rig in kinds for run in rig.cases()} for case in (Case.FETCH, Case.CHANGED)), kinds


@each_rig()
def test_a_value_is_fetched_and_works(kind: type[Rig], bench: Bring) -> None:
    """It is of the kind that the rig gives, lives, and STS knows it as whom it belongs to."""
    held = bench(kind)
    value = fetch(held)
    assert value.kind is KINDS[kind.gives]
    assert value.expiration is None or value.expiration > datetime.now(UTC)
    if value.kind is not Kind.BEARER:
        sts = Sts(Transport(str(held.world.ca_file)), held.world.front.endpoint)
        assert sts.get_caller_identity(value, now=datetime.now(UTC)).arn.endswith(held.rig.owner())


@each_rig()
def test_an_unchanged_source_gives_an_equal_value(kind: type[Rig], bench: Bring) -> None:
    """A second look is the same value; where each answer is a new session, it is one that lives as long at least."""
    held = bench(kind)
    first = fetch(held)
    second = fetch(held)
    assert policy.judge(second, first) is (Change.NEW if kind.makes_sessions else Change.SAME)


@each_rig()
def test_a_changed_source_gives_the_new_value(kind: type[Rig], bench: Bring) -> None:
    """What the source changed is found by the same provider, without a restart, and stays until the next change."""
    held = bench(kind)
    first = fetch(held)
    held.rig.change()
    second = fetch(held)
    assert policy.judge(second, first) is Change.NEW
    assert parts(second) != parts(first)
    if not kind.makes_sessions:
        assert policy.judge(fetch(held), second) is Change.SAME


@each_rig()
def test_nothing_is_asked_before_the_first_fetch(kind: type[Rig], bench: Bring) -> None:
    """A source that is down keeps no agent from starting, and `check --offline` sends nothing and finds nothing wrong."""
    held = bench(kind)
    held.world.go()
    assert [found.text for found in held.provider.inspect() if found.level != "ok"] == []
    assert held.rig.cloud.calls == []


@pytest.mark.parametrize(("kind", "case"), pairs(FAILING))
def test_a_failure_is_told_in_time_and_in_silence_and_passes(
    kind: type[Rig], case: Case, bench: Bring, listener: Listener, capfd: pytest.CaptureFixture[str]
) -> None:
    """One sentence with the credential and a remedy, of the right family, in time, without a secret; then all is well."""
    held = bench(kind)
    if kind.warm:
        fetch(held)
    held.rig.suffer(case)
    bound_s = kind.bound_s if case in ENDLESS else UNHURRIED_S
    started = time.monotonic()
    with pytest.raises(KeyturnError) as caught:
        fetch(held, bound_s)
    assert time.monotonic() - started < bound_s + MARGIN_S
    tells_what_to_do(caught.value, kind, case)
    canaries = held.rig.canaries()
    held.rig.heal()
    value = fetch(held)
    printed = capfd.readouterr()
    said = everything(caught.value, value) + listener.said + printed.out + printed.err
    finds_no_secret(said, [*canaries, *held.rig.canaries(), *parts(value)])


def tells_what_to_do(error: KeyturnError, kind: type[Rig], case: Case) -> None:
    verdict = kind.verdict(case)
    assert (error.retryable, error.exit_code) == (verdict.retryable, verdict.exit_code), f"{type(error)}: {error}"
    text = str(error)
    assert text.isprintable(), text
    assert f"credentials.{NAME}" in text
    assert error.remedy
    assert len(text) < 1000


def everything(error: BaseException, value: Credential) -> str:
    return shown(error) + repr(value) + str(value)


def finds_no_secret(said: str, canaries: list[str]) -> None:
    assert f"credentials.{NAME}" in said, "the search would find something"
    for canary in {*canaries, "Signature=", "SignatureNonce=", "Authorization", "?code=", "SecurityToken="}:
        place = said.find(canary)
        assert place < 0, f"{canary[:12]}… stands in: …{said[max(0, place - 200) : place]}"
