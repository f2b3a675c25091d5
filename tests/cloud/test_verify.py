"""The proof of a new value against an emulated STS; time is the test's, the calls are real."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from secrets import token_hex

import pytest

from agent.cloud.transport import Transport
from agent.cloud.verify import Verification, Verifier
from agent.core.credential import Credential
from agent.core.errors import CancelledError, VerifyRefusedError
from agent.core.secret import Secret
from providers.emulator import Cloud, EmulatorServer, Fault


class World:
    """An emulated STS with one key, and a clock that moves only when somebody waits."""

    def __init__(self, directory: Path) -> None:
        self.passed_s = 0.0
        self.pauses: list[float] = []
        self.cancel_after: int | None = None
        self.cloud = Cloud()
        self.cloud.add_user("uploader")
        key = self.cloud.add_access_key("uploader")
        self.key_id = key.access_key_id
        self.value = Credential(access_key_id=key.access_key_id, access_key_secret=Secret(key.access_key_secret))
        self.server = EmulatorServer(self.cloud, directory)
        self.endpoint = self.server.endpoint
        self.ca_file: str | None = str(self.server.ca_file)
        self.skew = timedelta(0)

    def wait(self, seconds: float) -> bool:
        self.pauses.append(seconds)
        self.passed_s += seconds
        return self.cancel_after is not None and len(self.pauses) >= self.cancel_after

    def verify(self, timeout_s: float = 60.0, chance: float = 0.5) -> Verification:
        return Verifier(Transport(self.ca_file, proxies=False), self.endpoint).verify(
            self.value,
            timeout_s=timeout_s,
            wait=self.wait,
            monotonic=lambda: self.passed_s,
            now=lambda: datetime.now(UTC) + self.skew,
            chance=lambda: chance,
        )


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A running emulator."""
    made = World(tmp_path / "emulator")
    with made.server:
        yield made


def test_a_good_key_is_verified_at_once(world: World) -> None:
    """One call, no wait, and it is known whose key it is."""
    proof = world.verify()
    assert (proof.outcome, proof.attempts, proof.detail) == ("verified", 1, "")
    assert proof.arn.endswith(":user/uploader")
    assert proof.account_id == world.cloud.account_id
    assert world.pauses == []


def test_a_key_that_is_still_spreading_is_waited_for(world: World) -> None:
    """Refusals of a new key are asked again: soon at first, then every two seconds."""
    world.cloud.fail_next(404, "InvalidAccessKeyId.NotFound", times=6)
    proof = world.verify()
    assert (proof.outcome, proof.attempts) == ("verified", 7)
    assert world.pauses == pytest.approx([0.2, 0.4, 0.8, 1.6, 2.0, 2.0])


@pytest.mark.parametrize("chance", [0.3, 0.999])
def test_pauses_are_jittered(world: World, chance: float) -> None:
    """A fleet that gets its new key at one moment does not ask in step: a pause is drawn from its whole range."""
    world.cloud.fail_next(404, "InvalidAccessKeyId.NotFound")
    world.verify(chance=chance)
    assert world.pauses == [pytest.approx(0.4 * chance)]


@pytest.mark.parametrize(
    ("status", "code"),
    [(404, "InvalidAccessKeyId.NotFound"), (403, "InvalidAccessKeyId.Inactive"), (400, "SignatureDoesNotMatch"),
     (400, "InvalidSecurityToken.Expired"), (403, "NoPermission")],
)  # fmt: skip
def test_a_key_that_stays_refused_is_refused(world: World, status: int, code: str) -> None:
    """After `verify_timeout` the refusal counts, and names the key and the code."""
    world.cloud.fail_next(status, code, times=1000)
    with pytest.raises(VerifyRefusedError) as caught:
        world.verify(timeout_s=60.0)
    assert caught.value.code == code
    assert world.key_id in caught.value.problem
    assert code in caught.value.problem
    assert world.passed_s == pytest.approx(60.0)


def test_an_unreachable_sts_does_not_hold_a_publish_up(world: World) -> None:
    """An STS that is away is tried for 10 s, not for the whole of `verify_timeout`."""
    world.server.stop()
    proof = world.verify(timeout_s=60.0)
    assert proof.outcome == "unreachable"
    assert proof.attempts > 3
    assert world.endpoint in proof.detail
    assert world.passed_s == pytest.approx(10.0)


def test_a_short_verify_timeout_is_obeyed_for_an_sts_that_is_away(world: World) -> None:
    """`verify_timeout` below 10 s bounds that wait too."""
    world.server.stop()
    assert world.verify(timeout_s=1.0).outcome == "unreachable"
    assert world.passed_s == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("status", "code"), [(429, "Throttling.User"), (503, "ServiceUnavailable"), (500, "InternalError")]
)
def test_a_busy_sts_is_asked_again(world: World, status: int, code: str) -> None:
    """Throttling and 5xx are no verdict: tried again, and verified when it recovers."""
    world.cloud.fail_next(status, code, times=2)
    assert world.verify().attempts == 3
    world.cloud.fail_next(status, code, times=1000)
    assert world.verify().outcome == "unreachable"


@pytest.mark.parametrize("fault", [Fault.RUBBISH, Fault.EMPTY, Fault.REDIRECT, Fault.WRONG_SHAPE, Fault.RESET])
def test_an_answer_that_is_not_stss_is_no_verdict(world: World, fault: Fault) -> None:
    """A captive portal does not get a key refused, and does not get it verified."""
    world.cloud.inject(fault, times=1000)
    assert world.verify(timeout_s=2.0).outcome == "unreachable"


def test_a_refusal_is_not_forgotten_when_sts_goes_away(world: World) -> None:
    """A refused key stays refused when the network fails afterwards."""
    world.cloud.fail_next(404, "InvalidAccessKeyId.NotFound")
    world.cloud.fail_next(503, "ServiceUnavailable", times=1000)
    with pytest.raises(VerifyRefusedError) as caught:
        world.verify(timeout_s=20.0)
    assert caught.value.code == "InvalidAccessKeyId.NotFound"
    assert world.passed_s > 15.0


def test_a_refusal_after_trouble_gets_the_whole_time(world: World) -> None:
    """An STS that was away and then refuses is asked for all of `verify_timeout`."""
    world.cloud.fail_next(503, "ServiceUnavailable", times=5)
    world.cloud.fail_next(404, "InvalidAccessKeyId.NotFound", times=10)
    assert world.verify(timeout_s=60.0).attempts == 16


def test_a_wrong_clock_is_no_verdict(world: World) -> None:
    """A refused timestamp says nothing of the key; it is not asked again, and the detail blames the clock."""
    world.skew = timedelta(hours=1)
    proof = world.verify()
    assert (proof.outcome, proof.attempts) == ("unreachable", 1)
    assert "clock is 60 min ahead" in proof.detail


def test_a_stranger_in_the_place_of_sts_is_no_verdict(world: World) -> None:
    """A certificate that is not trusted ends in "not verified", with the reason."""
    world.ca_file = None
    proof = world.verify()
    assert (proof.outcome, proof.attempts) == ("unreachable", 1)
    assert "certificate" in proof.detail


def test_a_stopping_agent_does_not_wait(world: World) -> None:
    """When `wait` says that the agent is stopping, the verification ends there."""
    world.cloud.fail_next(404, "InvalidAccessKeyId.NotFound", times=1000)
    world.cancel_after = 3
    with pytest.raises(CancelledError):
        world.verify()
    assert len(world.pauses) == 3


def test_a_refusal_shows_no_secret(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Neither the error nor any record at DEBUG has the secret, the token or a signature."""
    caplog.set_level(logging.DEBUG)
    world.value = Credential(
        access_key_id=world.key_id, access_key_secret=Secret(token_hex(15)), security_token=Secret(token_hex(30))
    )
    with pytest.raises(VerifyRefusedError) as caught:
        world.verify(timeout_s=1.0)
    said = caplog.text + str(caught.getrepr(showlocals=True, style="long")) + repr(caught.value)
    assert world.key_id in said
    assert world.value.access_key_secret is not None
    assert world.value.access_key_secret.reveal() not in said
    assert world.value.security_token is not None
    assert world.value.security_token.reveal() not in said
    assert "Signature=" not in said
