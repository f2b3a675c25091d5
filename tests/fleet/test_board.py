"""The board on a real redis-server: what one host writes another reads, and a stranger's rubbish is passed over."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from agent.core.secret import Secret
from agent.core.settings import FleetSettings
from agent.fleet import board as boards
from agent.fleet.board import Board
from agent.fleet.client import opened
from agent.fleet.convergence import standings
from agent.fleet.entries import Announcement, HostState, Why, host_state, proof
from agent.fleet.errors import FleetError, FleetRefusedError
from tests.support.redis_server import RedisServer

NONCE = "0" * 32
NEWS = Announcement("", "v2", NONCE, Why.EMERGENCY, 1.8e9, "web-1")
SECRET = Secret("the new secret of a key")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture
def raw(server: RedisServer) -> Iterator[Any]:
    """What a stranger with the server's address can do."""
    client: Any = redis.Redis(port=server.port)
    client.flushall()
    with client:
        yield client


@pytest.fixture
def board(server: RedisServer, raw: Any) -> Board:
    return opened(FleetSettings(url=server.url))


def state(**values: Any) -> HostState:
    return HostState(**{"version_id": "v2", "generation": 7, "access_key_id_tail": "abcd", "owed": 0, **values})


def moved(host: str, credential: str = "uploader", secret: Secret = SECRET) -> HostState:
    return state(nonce=NONCE, mac=proof(secret, credential, host, "v2", NONCE))


def judged(board: Board, own: str = "web-1", machine: str = "m1") -> dict[str, tuple[bool, bool]]:
    found = standings(board.hosts("uploader"), own, machine, "uploader", "v2", {NONCE}, SECRET)
    return {one.host: (one.is_live, one.has_moved) for one in found}


def test_an_announcement_is_read_up_by_a_host_that_was_away(board: Board) -> None:
    first = board.announce("uploader", NEWS)
    second = board.announce("uploader", NEWS)
    heard = board.hear({"uploader": "0-0", "other": "0-0"}, 1.0)
    assert [(name, entry) for name, entry, _news in heard] == [("uploader", first), ("uploader", second)]
    news = heard[0][2]
    assert news is not None and (news.version_id, news.nonce, news.why, news.by) == (
        "v2",
        NONCE,
        Why.EMERGENCY,
        "web-1",
    )
    recent = board.recent(["uploader", "other"], 1)
    assert [entry for entry, _news in recent["uploader"]] == [second] and recent["other"] == []
    assert [one.entry for one in board.since("uploader", second, 10)] == [second]
    assert board.hear({"uploader": second}, 0.01) == []


def test_the_proof_alone_counts(board: Board) -> None:
    """One that has moved, one that says so without the secret, one with another host's proof, one that owes."""
    board.post("web-1", {"uploader": state(machine="m1")})
    board.post("web-2", {"uploader": moved("web-2")})
    board.post("false", {"uploader": moved("false", secret=Secret("a guess"))})
    board.post("thief", {"uploader": moved("web-2")})
    board.post("owes", {"uploader": state(owed=2, nonce=NONCE)})
    board.post("old", {"uploader": state(version_id="v1")})
    assert judged(board) == {
        "web-2": (True, True), "false": (True, False), "thief": (True, False), "owes": (True, False), "old": (True, False),
    }  # fmt: skip


def test_an_old_proof_with_the_debts_struck_is_no_answer(board: Board) -> None:
    """Who can write the board and has no key makes no host that owes into one that does not."""
    board.post(
        "web-2", {"uploader": state(owed=0, nonce=NONCE, mac=proof(SECRET, "uploader", "web-2", "v2", "1" * 32))}
    )
    assert judged(board) == {"web-2": (True, False)}


def test_a_host_that_is_silent_is_absent_and_then_forgotten(board: Board, raw: Any) -> None:
    board.post("web-2", {"uploader": moved("web-2")})
    for age_s, expected in ((100, {"web-2": (False, True)}), (25 * 3600, {})):
        raw.zadd(board.key("uploader", "seen"), {"web-2": time.time() - age_s})
        assert judged(board) == expected


def test_a_heartbeat_says_what_the_board_has(board: Board, raw: Any) -> None:
    """So a host sees that the server lost its state, and that another machine goes by its name."""
    assert board.beat("web-1", ["uploader"]) == {"uploader": None}
    board.post("web-1", {"uploader": state(machine="m2")})
    found = board.beat("web-1", ["uploader"])["uploader"]
    assert found is not None and found.machine == "m2"
    assert judged(board) == {"web-1": (True, False)}, "another machine by this host's name is another host"
    assert board.forget("web-1", ["uploader"]) == 1 and board.hosts("uploader") == []


def test_rubbish_of_a_stranger_is_passed_over(board: Board, raw: Any) -> None:
    board.post("web-2", {"uploader": moved("web-2")})
    stream, hosts, seen = (board.key("uploader", what) for what in ("announce", "state", "seen"))
    for fields in ({"x": "y"}, {**NEWS.fields(), "nonce": "short"}, {**NEWS.fields(), "by": "a|b"},
                   {**NEWS.fields(), "deadline": "nan"}, {**NEWS.fields(), "version_id": "v" * 9000}):  # fmt: skip
        raw.xadd(stream, fields)
    raw.hset(
        hosts,
        mapping={
            "web-3": b"\xff",
            "a|b": moved("a|b").encoded(),
            "long": b'"' + b"x" * 9000 + b'"',
        },
    )
    for rubbish in ({"failed": "what a stranger says"}, {"version_id": "v" * 129}, {"owed": 10**900}, {"owed": -1}):
        assert host_state(b"web-3", state(**rubbish).encoded()) is None, rubbish
    raw.zadd(seen, {"web-3": time.time(), "a|b": time.time(), b"\xff": time.time()})
    assert [news for _name, _entry, news in board.hear({"uploader": "0-0"}, 1.0)] == [None] * 5
    assert judged(board) == {"web-2": (True, True), "web-3": (True, False)}


def test_a_key_of_another_kind_is_an_error_of_the_board(board: Board, raw: Any) -> None:
    raw.set(board.key("uploader", "state"), "x")
    with pytest.raises(FleetError):
        board.hosts("uploader")


def test_more_hosts_than_any_fleet_has_are_not_read(board: Board, raw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boards, "MAX_HOSTS", 3)
    for number in range(4):
        board.post(f"web-{number}", {"uploader": state()})
    with pytest.raises(FleetError):
        board.hosts("uploader")


def test_a_server_that_is_away_or_refuses(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("wrong\n")
    password.chmod(0o600)
    with RedisServer(tmp_path / "data", "--requirepass", "right") as server:
        settings = FleetSettings(url=server.url, username="default", password_from_file_path=str(password))  # type: ignore[arg-type]
        with pytest.raises(FleetRefusedError):
            opened(settings).recent(["uploader"], 1)
        password.write_text("right\n")
        assert opened(settings).recent(["uploader"], 1) == {"uploader": []}
        server.kill()
        with pytest.raises(FleetError):
            opened(settings).recent(["uploader"], 1)
