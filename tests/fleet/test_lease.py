"""The lease of a RAM user's rotation on a real redis-server: one host has it, and its number only grows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis

from agent.core.lease import Lease
from agent.core.settings import FleetSettings
from agent.fleet.client import opened
from agent.fleet.errors import FleetError
from agent.fleet.lease import RamUserLease
from tests.support.redis_server import RedisServer

KEY = "keyturn:{fleet}:ram_user:batch:lease"
Host = Callable[..., RamUserLease]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture
def raw(server: RedisServer) -> Iterator[Any]:
    client: Any = redis.Redis(port=server.port)
    client.flushall()
    with client:
        yield client


@pytest.fixture
def host(server: RedisServer, raw: Any) -> Host:
    def made(name: str, machine: str = "", user: str = "batch") -> RamUserLease:
        return RamUserLease(opened(FleetSettings(url=server.url)), user, name, machine or f"machine of {name}")

    return made


def taken(by: RamUserLease, *, may_follow: bool = True, floor: int = 0) -> Lease:
    return by.take(may_follow=may_follow, floor=floor)


def over(raw: Any) -> None:
    """Its life is over, as after a minute without a renewal."""
    raw.hset(KEY, "until", "1")


def test_one_host_has_it_and_the_number_grows_with_each_other_holder(host: Host, raw: Any) -> None:
    one, two = host("web-1"), host("web-2")
    first = taken(one)
    assert first.is_ours and first.left_s > 59 and not taken(two).is_ours
    assert taken(one).number == one.renew(first.number).number == first.number
    over(raw)
    second = taken(two)
    assert second.is_ours and second.number > first.number and second.host == "web-2"
    assert not one.renew(first.number).is_ours and not taken(one).is_ours
    over(raw)
    assert taken(one).number > second.number


def test_nobody_else_took_it_so_who_was_slow_goes_on_under_its_number(host: Host, raw: Any) -> None:
    one = host("web-1")
    first = taken(one)
    over(raw)
    assert one.renew(first.number).is_ours and one.look().left_s > 59
    assert not one.renew(first.number - 1).is_ours


def test_of_many_that_want_it_at_once_one_has_it(host: Host) -> None:
    hosts = [host(f"web-{number}") for number in range(16)]
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(taken, hosts))
    assert sum(one.is_ours for one in found) == 1 and len({one.number for one in found}) == 1


def test_a_host_without_the_key_does_not_follow_another(host: Host, raw: Any) -> None:
    """Neither when its life is over, nor when it was let go; only once the holder is taken off the board."""
    one, two = host("web-1"), host("web-2")
    first = taken(one, may_follow=False)
    assert first.is_ours
    over(raw)
    one.release()
    found = taken(two, may_follow=False)
    assert (found.is_ours, found.host, found.left_s) == (False, "web-1", 0)
    assert host("web-1", "none").forget() and not host("web-1", "none").forget()
    assert taken(two, may_follow=False).number > first.number


def test_a_lease_that_was_let_go_is_free_for_who_has_the_key(host: Host) -> None:
    one, two = host("web-1"), host("web-2")
    first = taken(one)
    two.release()  # not its own
    assert one.renew(first.number).is_ours
    one.release()
    assert not one.look().is_ours and taken(two).is_ours


def test_an_owner_takes_it_from_whoever_has_it_and_keeps_it_while_it_is_away(host: Host, raw: Any) -> None:
    """Two owners: the one that was there first stays it, until it was not heard for a minute and a half."""
    one, two, three = host("web-1"), host("web-2"), host("web-3")
    first = taken(two)
    claimed = one.claim()
    assert claimed.is_ours and claimed.is_claimed and claimed.number > first.number
    assert not two.renew(first.number).is_ours and not taken(two).is_ours
    assert not three.claim().is_ours and one.claim().number == claimed.number
    raw.hset(KEY, "seen", "1")
    assert not taken(two).is_ours  # a restart of the owner is no reason
    assert three.claim().is_ours
    assert taken(three).number > claimed.number and not three.look().is_claimed  # its config says it no more


def test_the_number_grows_over_a_server_that_forgot_everything(host: Host, raw: Any) -> None:
    """By the server's clock, and by what the host has written down where that clock went back."""
    one = host("web-1")
    first = taken(one)
    raw.flushall()
    assert not one.renew(first.number).is_ours
    time.sleep(0.002)  # the server's clock, by which it grows, has milliseconds
    again = taken(one)
    assert again.number > first.number
    raw.flushall()
    assert taken(one, floor=again.number + 10**9).number > again.number + 10**9


def test_two_machines_of_one_name_are_two(host: Host) -> None:
    one, twin = host("web-1", "a"), host("web-1", "b")
    assert taken(one).is_ours and not taken(twin).is_ours
    twin.release()
    assert one.look().is_ours


def test_each_user_has_its_own(host: Host) -> None:
    assert taken(host("web-1")).is_ours and taken(host("web-2", user="other")).is_ours


def test_what_a_stranger_wrote_is_no_fault_of_ours(host: Host, raw: Any) -> None:
    """A name that is none is not shown; a key of another type is an error of the board."""
    raw.hset(KEY, mapping={"host": b"\x1b[31m\xff", "machine": "m", "until": "9" * 15, "number": "no number"})
    found = taken(host("web-1"))
    assert (found.is_ours, found.host, found.number) == (False, "?", 0)
    assert 59 < found.left_s <= 60
    raw.delete(KEY)
    raw.set(KEY, "text")
    with pytest.raises(FleetError):
        taken(host("web-1"))


@pytest.mark.parametrize("field", ["number", "until", "seen"])
@pytest.mark.parametrize("written", ["nan", "inf", "-inf", "1e308", "-1e300", "9" * 40, "9007199254740993"])
def test_a_number_that_is_none_or_endless_is_borne(host: Host, raw: Any, field: str, written: str) -> None:
    one, two = host("web-1"), host("web-2")
    first = taken(one)
    raw.hset(KEY, field, written)
    for found in (one.look(), two.look(), one.renew(first.number), taken(two), taken(one, floor=first.number)):
        assert 0 <= found.left_s <= 60 and 0 <= found.silent_s <= 1e10
    assert taken(one).is_ours and one.renew(taken(one).number).is_ours
    assert two.claim().is_ours and not taken(one).is_ours


def test_over_a_clock_that_went_back_a_lease_of_a_dead_host_ends(host: Host, raw: Any) -> None:
    """Once another wants it, a minute later at the latest; who has it and lives just renews it."""
    one, two = host("web-1"), host("web-2")
    first = taken(one)
    ahead = int(time.time() * 1000) + 3_600_000
    raw.hset(KEY, mapping={"until": ahead + 60_000, "seen": ahead})
    assert not taken(two).is_ours
    ends = int(raw.hget(KEY, "until"))
    assert ends < ahead - 3_500_000
    time.sleep(0.002)
    assert not taken(two).is_ours and int(raw.hget(KEY, "until")) == ends  # looking does not prolong it
    assert one.renew(first.number).is_ours
    over(raw)
    assert taken(two).is_ours
