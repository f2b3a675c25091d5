"""One look at one place: real signed calls to an emulated STS and RAM."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.canary.look import Leak, Look, Place, Verdict, look
from agent.cloud.openapi import Cloud as Services
from agent.cloud.openapi import Ims, Kms, Ram, Sts
from agent.cloud.transport import Transport
from agent.core.credential import Credential
from agent.core.errors import SinkError
from agent.core.secret import Secret
from providers.emulator import Cloud, EmulatorServer, Fault


def utc() -> datetime:
    return datetime.now(UTC)


class World:
    """An account with one key of an application, which may do nothing in RAM."""

    def __init__(self, directory: Path) -> None:
        self.cloud = Cloud()
        self.cloud.add_user("app")
        self.key = self.cloud.add_access_key("app")
        self.server = EmulatorServer(self.cloud, directory)
        transport = Transport(str(self.server.ca_file), proxies=False)
        ends = {product: self.server.endpoint_of(product) for product in ("kms", "ram", "sts")}
        self.services = Services(
            Kms(transport, ends["kms"]),
            Ram(transport, ends["ram"]),
            Sts(transport, ends["sts"]),
            Ims(transport, ends["ram"]),
        )

    @property
    def value(self) -> Credential:
        return Credential(self.key.access_key_id, Secret(self.key.access_key_secret))

    def look(self, *known: str, now: Callable[[], datetime] = utc, value: Credential | None = None) -> Look:
        return look(Place("/srv/app.ini", lambda: value or self.value), self.services, now, known)

    @property
    def asked(self) -> list[str]:
        return [call.action for call in self.cloud.calls]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    with made.server:
        yield made


def test_a_key_that_works_is_accepted(world: World) -> None:
    """Its name is told, and that RAM, which it may not call, does not say whether it is restricted."""
    assert world.look() == Look(Verdict.ACCEPTED, "/srv/app.ini", world.key.access_key_id, leak=Leak.UNKNOWN)
    world.cloud.allow("app", "ram:ListAccessKeys")
    assert world.look().leak is Leak.CLEAR


def test_ram_is_not_asked_about_a_key_that_is_known(world: World) -> None:
    """The pace is the caller's."""
    assert world.look(world.key.access_key_id).leak is None
    assert world.asked == ["GetCallerIdentity"]


def test_a_session_is_not_asked_about(world: World) -> None:
    """The restriction is of long-term keys."""
    world.cloud.add_role("r")
    world.cloud.allow("app", "sts:AssumeRole")
    caller = world.cloud.authenticate(world.key.access_key_id)
    role = f"acs:ram::{world.cloud.account_id}:role/r"
    made = world.cloud.assume_role(role, "here", 900, caller=caller)
    session = Credential(made.access_key_id, Secret(made.access_key_secret), Secret(made.security_token))
    found = world.look(value=session)
    assert (found.verdict, found.leak) == (Verdict.ACCEPTED, None)


@pytest.mark.parametrize("may", [False, True])
def test_a_key_that_is_restricted_as_leaked_is_known_by_ram_alone(world: World, may: bool) -> None:
    """STS takes it as before; RAM refuses it, whether or not it has the permission."""
    if may:
        world.cloud.allow("app", "ram:*")
    world.cloud.restrict_access_key(world.key.access_key_id)
    assert world.look(world.key.access_key_id).verdict is Verdict.ACCEPTED
    found = world.look()
    assert (found.verdict, found.leak, found.code) == (Verdict.RESTRICTED, Leak.RESTRICTED, "Forbidden")
    assert "restricted it as leaked" in found.detail and not found.may_be_old


def test_sts_may_say_it_too(world: World) -> None:
    """The list of blocked operations changes; the sentence is what counts, whatever the code."""
    sentence = "There is a risk of leakage of this AccessKey."
    world.cloud.fail_next(403, "Forbidden.Whatever", action="GetCallerIdentity", message=sentence)
    found = world.look()
    assert (found.verdict, found.leak) == (Verdict.RESTRICTED, Leak.RESTRICTED)


@pytest.mark.parametrize("end", ["disabled", "deleted", "wrong secret"])
def test_a_dead_key_is_refused_and_worth_a_refresh(world: World, end: str) -> None:
    """InvalidAccessKeyId.Inactive and .NotFound, and a secret of another key."""
    value = world.value
    if end == "disabled":
        world.cloud.set_status(world.key.access_key_id, "Inactive")
    elif end == "deleted":
        world.cloud.delete_access_key(world.key.access_key_id)
    else:
        value = Credential(world.key.access_key_id, Secret("secretOfAnotherKey"))
    found = world.look(value=value)
    assert found.verdict is Verdict.REFUSED and found.may_be_old
    assert value.access_key_secret is not None and value.access_key_secret.reveal() not in str(found)
    assert world.asked == ["GetCallerIdentity"]


def test_an_sts_that_cannot_judge_is_no_refusal(world: World) -> None:
    """Throttling, a 5xx, rubbish, a broken connection, this machine's clock."""
    world.cloud.fail_next(429, "Throttling.User", action="GetCallerIdentity")
    world.cloud.fail_next(503, action="GetCallerIdentity")
    world.cloud.inject(Fault.RUBBISH, action="GetCallerIdentity")
    world.cloud.inject(Fault.RESET, action="GetCallerIdentity")
    seen = [world.look().verdict for _ in range(4)]
    seen.append(world.look(now=lambda: utc() - timedelta(hours=1)).verdict)
    assert seen == [Verdict.UNANSWERED] * 5


def test_a_ram_that_is_away_spoils_no_look(world: World) -> None:
    """The key is accepted; whether it is restricted is not known."""
    world.cloud.fail_next(503, action="ListAccessKeys")
    found = world.look()
    assert (found.verdict, found.leak) == (Verdict.ACCEPTED, Leak.UNKNOWN)


def raising(error: Exception) -> Callable[[], Credential | None]:
    def read() -> Credential | None:
        raise error

    return read


@pytest.mark.parametrize(
    "read",
    [
        lambda: None,
        lambda: Credential(bearer_token=Secret("token")),
        raising(OSError(errno.EACCES, "no")),
        raising(SinkError("/srv/app.ini: is no file of this format")),
    ],
    ids=["nothing whole", "bearer", "not readable", "not its format"],
)
def test_what_holds_no_whole_key_is_unreadable_and_signs_nothing(
    world: World, read: Callable[[], Credential | None]
) -> None:
    """A torn or missing file is no refusal."""
    found = look(Place("/srv/app.ini", read), world.services, utc)
    assert found.verdict is Verdict.UNREADABLE and found.detail and not found.may_be_old
    assert world.asked == []
