"""`rotate --disable-old` over a fleet, host by host: what holds the end of the old key up, and what lets it go on."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.core.secret import Secret
from agent.core.settings import FleetSettings
from agent.emergency.procedure import Patience, Result
from agent.emergency.report import OldKey
from agent.fleet import client as clients
from agent.fleet import rotation as rotations
from agent.fleet.board import Board
from agent.fleet.client import opened
from agent.fleet.entries import HostState, proof
from agent.fleet.rotation import FleetRotation
from tests.support.processes import eventually
from tests.support.redis_server import RedisServer
from tests.support.station import Station

QUICK = Patience(follow_s=60.0, ask_s=60.0, refusal_s=60.0, told_s=60.0, fleet_s=0.6)
NAME = "uploader"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as running:
        yield running


class Others:
    """The other hosts, as far as the board shows them."""

    def __init__(self, station: Station, server: RedisServer) -> None:
        self.station, self.server = station, server
        self.board: Board = self.open()
        self.board._client.flushall()
        server.grow_old()

    def open(self) -> Board:
        return opened(FleetSettings(url=self.server.url))

    def rotation(self, name: str) -> FleetRotation:
        return FleetRotation(self.open(), "web-1", "m1", name)

    def rotate(self, **request: Any) -> Result:
        return self.station.rotate(
            disable_old=True, patience=QUICK, open_fleet=request.pop("open_fleet", self.rotation), **request
        )

    def say(self, host: str, *, age_s: float = 0.0, **values: Any) -> None:
        said = {"version_id": "old", "generation": 1, "access_key_id_tail": "", "owed": 0, "machine": host}
        self.board.post(host, {NAME: HostState(**{**said, **values})})
        if age_s:
            self.board._client.zadd(self.board.key(NAME, "seen"), {host: time.time() - age_s})

    def move(self, host: str, version_id: str, nonce: str, **values: Any) -> None:
        """What a host says once it has followed."""
        secret = Secret(self.station.cloud.current_key("uploader-ak").access_key_secret)
        mac = proof(secret, NAME, host, version_id, nonce)
        self.say(host, version_id=version_id, nonce=nonce, mac=mac, **values)

    @contextmanager
    def following(self, *hosts: str, **values: Any) -> Iterator[None]:
        """These hosts follow what is announced."""
        ending = threading.Event()
        thread = threading.Thread(target=self._follow, args=(hosts, values, ending))
        thread.start()
        yield
        ending.set()
        thread.join()

    def _follow(self, hosts: tuple[str, ...], values: dict[str, Any], ending: threading.Event) -> None:
        board, since = self.open(), "0-0"
        while not ending.is_set():
            for _name, entry, news in board.hear({NAME: since}, 0.1):
                since = entry
                for host in hosts if news is not None else ():
                    self.move(host, news.version_id, news.nonce, **values)


@pytest.fixture
def others(station: Station, server: RedisServer) -> Others:
    station.start()
    return Others(station, server)


def states(result: Result) -> dict[str, tuple[str, bool]]:
    return {row["host"]: (row["state"], row["moved"]) for row in result.fleet or ()}


def left(result: Result) -> list[str]:
    return [one.dependent for one in result.left_behind]


def test_the_old_key_ends_once_every_live_host_has_proved_the_new_one(others: Others) -> None:
    others.say("web-2")
    others.say("web-3")
    with others.following("web-2", "web-3"):
        result = others.rotate()
    assert (result.error, result.safe, result.all_moved) == (None, True, True)
    assert states(result) == {"web-2": ("live", True), "web-3": ("live", True)}
    names = [step["name"] for step in result.steps]
    assert names.index("announce") < names.index("notify") < names.index("fleet") < names.index("disable_old")
    assert all(row["at_ms"] > 0 for row in result.fleet or ())


def test_how_many_have_moved_is_said_as_it_grows(others: Others) -> None:
    """With the straggler by name and why; and the last step says it once more."""
    shown: list[dict[str, Any]] = []
    others.say("web-2")
    others.say("web-3")
    with others.following("web-2"):
        others.rotate(show=shown.append)
    waits = [one["detail"] for one in shown if one["outcome"] == "waiting" and "other hosts" in one["detail"]]
    assert waits and all("web-3" in detail for detail in waits)
    (ended,) = [one for one in shown if one["name"] == "fleet"]
    assert ended["outcome"] == "warning" and "1 of 2" in ended["detail"] and "web-3" in ended["detail"]


STRAGGLERS: dict[str, Callable[[Others], object]] = {
    "it has not fetched": lambda others: others.say("web-3"),
    "it could not publish": lambda others: others.say("web-3", failed="publish_failed"),
    "it says rubbish": lambda others: others.board._client.hset(others.board.key(NAME, "state"), "web-3", "rubbish"),
    "another machine by this host's name": lambda others: others.say("web-1", machine="another"),
}


@pytest.mark.parametrize("straggle", STRAGGLERS.values(), ids=STRAGGLERS.keys())
def test_a_live_host_that_has_not_moved_keeps_the_old_key_alive(
    others: Others, straggle: Callable[[Others], object]
) -> None:
    """It is named, and why; the same command takes the rotation up and ends it; `--force` does not wait to be asked twice."""
    others.say("web-2")
    others.say("web-3")
    straggle(others)
    with others.following("web-2"):
        result = others.rotate()
    straggler = "web-1" if "web-1" in states(result) else "web-3"
    assert (result.old_key, result.safe, result.exit_code, result.all_moved) == (OldKey.ACTIVE, False, 1, False)
    assert f"host {straggler}" in left(result)
    old = result.old_access_key_id
    with others.following("web-2", "web-3", "web-1" if straggler == "web-1" else "web-3"):
        forced = others.rotate(force=True)
    assert (forced.safe, forced.old_access_key_id) == (True, old)


def test_a_host_that_owes_has_not_moved(others: Others) -> None:
    """Its proof is not made while it owes; one with a proof and debts is not believed either."""
    others.say("web-2")
    with others.following("web-2", owed=1):
        result = others.rotate()
    assert states(result) == {"web-2": ("live", False)} and not result.safe


def test_an_absent_host_is_not_waited_for_and_not_run_over(others: Others) -> None:
    others.say("web-2")
    others.say("web-3", age_s=3600)
    with others.following("web-2"):
        result = others.rotate()
        assert (result.safe, left(result)) == (False, ["host web-3"])
        assert states(result) == {"web-2": ("live", True), "web-3": ("absent", False)}
        result = others.rotate(allow_absent=("web-3",))
    assert (result.error, result.safe) == (None, True)
    assert any("web-3" in note for note in result.notes)


def test_allow_absent_lets_no_live_host_go(others: Others) -> None:
    others.say("web-2")
    result = others.rotate(allow_absent=("web-2",))
    assert (result.safe, left(result)) == (False, ["host web-2"])


def test_without_the_board_the_fleet_is_not_known(others: Others, tmp_path: Path) -> None:
    """Rotated and published here; not disabled, but for who says that nobody else has the key, or that it matters more."""

    def away(name: str) -> FleetRotation:
        return FleetRotation(opened(FleetSettings(url="redis://127.0.0.1:1/0")), "web-1", "m1", name)

    result = others.rotate(open_fleet=away)
    assert (result.exit_code, result.safe, bool(result.new_access_key_id)) == (1, False, True)
    assert others.rotate(open_fleet=away, force=True).all_moved is False
    result = others.rotate(open_fleet=away, fleet=False)
    assert result.safe or result.error is not None


def test_fleet_where_there_is_none_is_a_mistake(others: Others) -> None:
    before = others.station.rotations
    assert others.rotate(open_fleet=lambda _name: None, fleet=True).exit_code == 2
    assert others.station.rotations == before  # refused before anything was done


def test_a_later_announcement_of_the_same_version_is_answered_as_well(others: Others) -> None:
    """Another host's announcement comes between: the proofs are about its nonce, and as fresh."""
    others.say("web-2")
    rotation = others.rotation(NAME)
    rotation.announce("v9", time.time() + 60)
    rotation_of_another = others.rotation(NAME)
    rotation_of_another.announce("v9", time.time() + 60)
    newest = others.board.recent([NAME], 1)[NAME][0][1]
    assert newest is not None
    others.move("web-2", "v9", newest.nonce)
    secret = Secret(others.station.cloud.current_key("uploader-ak").access_key_secret)
    assert [one.has_moved for one in rotation.look(secret)] == [True]


def test_the_board_goes_away_while_it_is_waited_for(others: Others, server: RedisServer) -> None:
    """Nobody waits for ever, and nothing is disabled."""
    others.say("web-2")
    threading.Timer(0.3, server.kill).start()
    try:
        result = others.rotate()
        assert (result.safe, result.exit_code) == (False, 1)
    finally:
        server.kill()
        server.start()


# -- what an attacker, or a server without memory, does to it (docs/fleet.md) --------------------------


def test_a_board_that_has_just_begun_is_no_fleet_without_hosts(others: Others, server: RedisServer) -> None:
    """Its server lost its memory a moment ago: who is missing there may only not be back yet, so nothing is disabled."""
    others.board._client.flushall()
    result = others.rotate()
    assert (result.old_key, result.safe, bool(result.new_access_key_id)) == (OldKey.ACTIVE, False, True)
    server.grow_old()
    others.say("web-2")
    with others.following("web-2"):
        again = others.rotate()
    assert (again.error, again.safe, again.old_access_key_id) == (None, True, result.old_access_key_id)


def test_a_server_that_forgets_while_it_is_waited_for(others: Others, server: RedisServer) -> None:
    """The live host that has not moved is gone from the board: it is not taken for one that left."""
    others.say("web-2")
    threading.Timer(0.3, others.board._client.flushall).start()
    result = others.rotate()
    assert (result.old_key, result.safe) == (OldKey.ACTIVE, False)


def test_an_announcement_that_is_lost_is_made_again(others: Others, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the same nonce: who heard it the first time has proved enough."""
    monkeypatch.setattr(rotations, "AGAIN_S", 0.0)
    rotation = others.rotation(NAME)
    rotation.announce("v9", time.time() + 60)
    before = others.board.recent([NAME], 1)[NAME][0][1]
    others.board._client.delete(others.board.key(NAME, "announce"))
    rotation.look(Secret("x"))
    after = others.board.recent([NAME], 10)[NAME]
    assert [news.nonce for _entry, news in after if news] == [before.nonce if before else None]


def test_a_stranger_can_hold_it_up_with_a_host_that_is_none(others: Others) -> None:
    """And with a sign of life in the future: it is live until it is taken off the board."""
    others.say("web-2")
    others.board._client.zadd(others.board.key(NAME, "seen"), {"false": time.time() + 9e6})
    with others.following("web-2"):
        result = others.rotate()
        assert (states(result)["false"], result.safe) == (("live", False), False)
        assert others.board.forget("false", [NAME]) == 1
        assert others.rotate().safe


def test_a_stranger_can_make_a_host_absent_or_unknown(others: Others) -> None:
    """Absent: the operator is asked. Removed altogether: the one thing that cannot be seen, so the docs say to count."""
    others.say("web-2")
    others.board._client.zadd(others.board.key(NAME, "seen"), {"web-2": time.time() - 1000})
    result = others.rotate()
    assert (result.safe, states(result)) == (False, {"web-2": ("absent", False)})
    others.board._client.zrem(others.board.key(NAME, "seen"), "web-2")
    result = others.rotate()
    assert (result.safe, result.fleet) == (True, [])


def test_a_host_with_the_new_key_can_lie_and_speak_for_another(others: Others) -> None:
    """It has the key that all have: its proofs cannot be told from true ones."""
    others.say("web-2")
    others.say("web-3")
    with others.following("web-2", "web-3"):  # both by one hand
        assert others.rotate().safe


def test_a_stream_that_a_stranger_has_closed_is_a_fleet_that_is_not_known(others: Others) -> None:
    """The last possible id is taken, so nothing can be announced until the key is deleted."""
    others.say("web-2")
    last = "18446744073709551615-18446744073709551615"
    others.board._client.xadd(others.board.key(NAME, "announce"), {"x": "y"}, id=last)
    result = others.rotate()
    assert (result.safe, result.old_key, bool(result.new_access_key_id)) == (False, OldKey.ACTIVE, True)
    others.board._client.delete(others.board.key(NAME, "announce"))
    with others.following("web-2"):
        assert others.rotate().safe


def test_a_server_that_never_answers_holds_up_no_dependent_here(
    others: Others, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One try, then the new key goes to everybody on this host; only the end of the old one waits."""
    monkeypatch.setattr(clients, "ANSWER_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        result = others.rotate(
            open_fleet=lambda name: FleetRotation(opened(FleetSettings(url=url)), "web-1", "m1", name)
        )
    names = [step["name"] for step in result.steps]
    assert (result.safe, names.count("announce")) == (False, 2)
    assert names.index("announce") < names.index("notify") < len(names) - 1 - names[::-1].index("announce")


def test_every_connection_is_given_back(others: Others) -> None:
    """On the way to success, to a refusal, and to an error."""
    others.say("web-2")
    clients_before = len(others.board._client.client_list())
    others.rotate()
    with others.following("web-2"):
        others.rotate()
        others.rotate(leaked="LTAI5tNobody")
    eventually(lambda: len(others.board._client.client_list()) <= clients_before)
