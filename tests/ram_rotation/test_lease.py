"""A fleet's lease over the rotation of a RAM user: on a real redis-server, with an emulated RAM, and another host that takes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
import redis

from agent.core.errors import BusyError
from agent.core.lease import LeaseLostError
from agent.core.settings import FleetSettings
from agent.fleet.client import opened
from agent.fleet.lease import RamUserLease
from agent.ram_rotation.view import Rest, Wanted
from agent.state.ram_record import GUESSED
from tests.support.ram_station import RamStation
from tests.support.redis_server import RedisServer
from tests.support.station import Crash, steps

KEY = "keyturn:{fleet}:ram_user:batch:lease"
CHANGES = ("create_access_key", "update_access_key", "delete_access_key")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as running:
        yield running


class Board:
    """What happens on the board behind the back of the host that rotates."""

    def __init__(self, server: RedisServer) -> None:
        self.server = server
        self.raw: Any = redis.Redis(port=server.port)
        self.raw.flushall()
        self.other = RamUserLease(opened(FleetSettings(url=server.url)), "batch", "web-2", "another machine")

    def is_lost(self) -> None:
        """This host was silent for a minute, and another one that has the key, too, took the lease."""
        self.raw.hset(KEY, "until", "1")
        assert self.other.take(may_follow=True, floor=0).is_ours

    def is_back(self) -> None:
        """That one let go of it."""
        self.other.release()

    def holder(self) -> str:
        return self.other.look().host


@pytest.fixture
def board(server: RedisServer) -> Iterator[Board]:
    made = Board(server)
    yield made
    made.raw.close()
    with suppress(OSError):
        server._answers() or server.start()


AT_ONCE = 'disable_after = "0s"\ndelete_after = "0s"'


@pytest.fixture
def make_station(
    make_vm: Callable[..., Any], board: Board, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], RamStation]]:
    """Makes a host of a fleet whose config names no owner; the board is empty then."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    made: list[RamStation] = []

    def make(name: str) -> RamStation:
        board.raw.flushall()
        made.append(RamStation(make_vm(name), AT_ONCE, board.server.url))
        return made[-1]

    yield make
    for each in made:
        each.stop()


@pytest.fixture
def station(make_station: Callable[[str], RamStation]) -> RamStation:
    """One such host."""
    return make_station("vm")


def test_who_has_the_lease_rotates_and_its_number_is_written_down(station: RamStation, board: Board) -> None:
    """The record has it before RAM hears of a new key; a look renews it."""
    station.start()
    number = station.record.fence
    assert board.holder() == "web-1" and number == board.other.look().number > 0
    assert isinstance(station.errand(Wanted.DUE), Rest)
    assert station.keys[station.published] == "Active" and station.record.fence == number


def test_who_does_not_have_it_asks_ram_for_nothing(station: RamStation, board: Board) -> None:
    """Neither by the schedule nor by an operator; who has it is named. Free again, it is taken, and the rotation goes on."""
    before = station.start().published
    board.is_lost()
    asked = _asked_of_ram(station)
    rest = station.errand(Wanted.DUE)
    assert isinstance(rest, Rest) and "web-2" in rest.text and not rest.is_wrong and rest.until is not None
    result = station.rotate(disable_old=True)
    assert result.exit_code == BusyError.exit_code and "web-2" in str(result.error)
    assert _asked_of_ram(station) == asked
    board.is_back()
    assert station.rotate(disable_old=True).safe
    assert station.published != before and station.record.fence > 0


def test_a_board_that_is_away_lets_no_rotation_begin_but_an_operators(station: RamStation, board: Board) -> None:
    """`--no-fleet` says that nobody else rotates; without it the emergency is refused before anything is made."""
    before = station.start().published
    board.server.kill()
    rest = station.errand(Wanted.DUE)
    assert isinstance(rest, Rest) and rest.remedy and station.keys == {before: "Active"}
    refused = station.rotate(disable_old=True)
    assert refused.error and "--no-fleet" in refused.error and station.keys == {before: "Active"}
    result = station.rotate(disable_old=True, fleet=False)
    assert result.safe and station.published != before
    assert steps(result)["disable_old"] == "done"


def test_a_host_without_the_key_leaves_all_as_it_is(station: RamStation, board: Board) -> None:
    """It may take a lease that nobody had, finds a key that it did not make, and stops; it follows no other host."""
    theirs = station.cloud.add_access_key("batch")
    station.start(publish=False)
    rest = station.errand()
    assert isinstance(rest, Rest) and rest.is_wrong and theirs.access_key_id in rest.text
    board.is_lost()
    board.is_back()
    rest = station.errand()
    assert isinstance(rest, Rest) and "web-2" in rest.text and "fleet leave" in rest.remedy
    assert station.keys == {theirs.access_key_id: "Active"}
    assert not station.cloud.calls_of("CreateAccessKey")


class Interrupted:
    """RAM's client: before, or after, one of its calls something happens."""

    def __init__(self, ram: Any, happens: Callable[[], None], call: int, when: str) -> None:
        self._ram, self._happens, self._call, self._when = ram, happens, call, when
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._ram, name)
        if name not in {*CHANGES, "call"}:  # what only looks is asked by `call`
            return real

        def call(*args: Any, **options: Any) -> Any:
            self.calls.append(name)
            is_it = len(self.calls) == self._call
            if is_it and self._when == "before":
                self._happens()
            answer = real(*args, **options)
            if is_it and self._when == "after":
                self._happens()
            return answer

        return call


MOST_CALLS = 40


def _interrupt(station: RamStation, happens: Callable[[], None], call: int, when: str) -> Interrupted:
    """Have something happen at that call to RAM of the next errand."""
    found: list[Interrupted] = []

    def change(real: Any) -> Any:
        found.append(Interrupted(real.ram, happens, call, when))
        return replace(real, ram=found[-1])

    station.changed_cloud = change
    with suppress(Crash):
        station.errand(Wanted.DUE)
    station.changed_cloud = lambda real: real
    return found[0]


def _asked_of_ram(station: RamStation) -> int:
    return sum("AccessKey" in one.action for one in station.cloud.calls)


def _is_well(station: RamStation) -> None:
    """One key in use that works and that the files hold; whatever else there is, is ours or waits to be seen as a lost reply's."""
    assert station.keys[station.published] == "Active"
    assert station.vm.holds(station.published)
    ours = {one.access_key_id for one in station.record.keys}
    assert set(station.keys) <= ours or station.record.lost


def _lost_at(station: RamStation, board: Board, call: int, when: str) -> bool:
    """Lose the lease at one call of a rotation; return whether there was such a call."""
    old = station.published
    told = _interrupt(station, board.is_lost, call, when)
    reached = len(told.calls) >= call
    if reached:
        at = told.calls[call - 1 :]
        late = [name for name in at[1:] if name in CHANGES]
        assert late == [], (call, when, told.calls)
        assert station.keys[station.published] == "Active" and station.vm.holds(station.published)
        asked = _asked_of_ram(station)
        rest = station.errand()
        assert isinstance(rest, Rest) and "web-2" in rest.text
        assert _asked_of_ram(station) == asked
        board.is_back()
    rest = station.errand(Wanted.DUE if station.published == old else Wanted.NO)
    assert isinstance(rest, Rest) and not rest.is_wrong and "web-2" not in rest.text, (call, when, rest)
    for _ in range(3):
        station.errand()
    _is_well(station)
    assert set(station.keys) == {station.published} or station.record.lost
    return reached


@pytest.mark.parametrize(("call", "when"), [(2, "before"), (2, "after"), (4, "before")])
def test_a_lease_that_is_lost_in_a_rotation_stops_it_before_the_next_change(
    station: RamStation, board: Board, call: int, when: str
) -> None:
    """A sample of the next test."""
    station.start()
    assert _lost_at(station, board, call, when)


@pytest.mark.crash
@pytest.mark.parametrize("when", ["before", "after"])
def test_the_lease_lost_at_each_call_of_a_rotation(
    make_station: Callable[[str], RamStation], board: Board, when: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is changed without it; with it again the rotation goes on, and leaves one key that works."""
    call = 1
    while _lost_at(_started(make_station(f"vm{call}")), board, call, when):
        call += 1
        assert call < MOST_CALLS
    with capsys.disabled():
        print(f"\nthe lease was lost {when} each of {call - 1} calls")
    assert call > 8


@pytest.mark.crash
@pytest.mark.parametrize("other", ["no other host", "another host meanwhile"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_death_at_each_call_of_a_rotation_with_the_lease(
    make_station: Callable[[str], RamStation], board: Board, when: str, other: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The next process has the lease still, by the machine's name, and goes on; after another host as well."""

    def dies() -> None:
        raise Crash

    call, is_reached = 0, True
    while is_reached:
        call += 1
        assert call < MOST_CALLS
        station = _started(make_station(f"vm{call}"))
        old = station.published
        is_reached = len(_interrupt(station, dies, call, when).calls) >= call
        station.restart()
        if other == "another host meanwhile":
            board.is_lost()
            rest = station.errand()
            assert isinstance(rest, Rest) and "web-2" in rest.text
            board.is_back()
        rest = station.errand()
        assert isinstance(rest, Rest) and not rest.is_wrong and "web-2" not in rest.text, (call, rest)
        waits = station.record.lost or any(one.origin == GUESSED for one in station.record.keys)
        rest = station.errand(Wanted.DUE if station.published == old and not waits else Wanted.NO)
        assert isinstance(rest, Rest) and not rest.is_wrong, (call, rest)
        _is_well(station)
        station.stop()
    with capsys.disabled():
        print(f"\na death {when} each of {call - 1} calls, {other}")
    assert call > 8


def _started(station: RamStation) -> RamStation:
    station.start()
    return station


def test_the_lease_is_asked_for_after_the_sign_in_and_with_the_number_of_the_look(
    station: RamStation, board: Board
) -> None:
    """A sign-in that takes longer than the lease lives: another host has it by then, so no key is made."""
    before = station.start().published
    provider = station.application.factory.rotator("uploader")  # type: ignore[union-attr]
    assert provider is not None

    class Slow:
        type_name = provider.type_name

        def fetch(self, now: Any) -> Any:
            if lost:
                lost.pop()
                board.is_lost()
                board.is_back()
                board.raw.hset(KEY, "until", "1")
                assert (
                    RamUserLease(opened(FleetSettings(url=board.server.url)), "batch", "web-3", "m3")
                    .take(may_follow=True, floor=0)
                    .is_ours
                )
            return provider.fetch(now)

    lost = [False]
    assert station.ram_rotations is not None
    means = station.ram_rotations._means_of

    def slow(name: str) -> Any:
        return Slow(), means(name)[1]

    station.errand()
    lost.clear()
    station.ram_rotations._means_of = slow
    lost.append(True)
    found = station.errand(Wanted.DUE)
    assert isinstance(found, LeaseLostError | Rest), found
    assert station.keys == {before: "Active"}
    assert station.record.intent is None and not station.record.lost
