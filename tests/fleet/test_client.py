"""The connection over TLS to a real redis-server, with the user that docs/fleet.md makes, and what each of its rules is for."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from agent.core.errors import KeyturnError
from agent.core.settings import FleetSettings
from agent.fleet.board import ABSENT_S, Board
from agent.fleet.client import opened
from agent.fleet.entries import Announcement, HostState, Why
from agent.fleet.errors import FleetError, FleetRefusedError
from agent.fleet.lease import RamUserLease
from providers.emulator.pki import CertificateKind, server_context
from tests.support.processes import ROOT
from tests.support.redis_server import RedisServer

NAME, PASSWORD = "uploader", "canary-of-the-password-of-redis"
STATE = HostState(version_id="v2", generation=7, access_key_id_tail="abcd", owed=0, machine="m1")
RULES = re.search(r"ACL SETUSER keyturn on >A-LONG-PASSWORD (.*)", (ROOT / "docs/fleet.md").read_text())


def everything(board: Board, raw: Any) -> None:
    """All that keyturn ever does on a board."""
    entry = board.announce(NAME, Announcement("", "v2", "0" * 32, Why.ROTATION, 1.8e9, "web-1"))
    assert board.recent([NAME], 1)[NAME] and board.since(NAME, entry, 10)
    assert board.hear({NAME: "0-0"}, 0.1)
    board.post("web-1", {NAME: STATE})
    assert board.beat("web-1", [NAME])[NAME] == STATE
    assert board.kept_for_s(NAME) >= 0.0
    assert [one.name for one in board.hosts(NAME)] == ["web-1"]
    raw.zadd(board.key(NAME, "seen"), {"web-1": raw.time()[0] - ABSENT_S - 60})
    board.sweep([NAME])
    assert board.hosts(NAME) == []
    lease = RamUserLease(board, "reporter", "web-1", "m1")
    assert lease.take(may_follow=True, floor=0).number
    board.post("web-1", {NAME: STATE})
    assert board.forget("web-1", [NAME]) == 1


def grant(raw: Any, rules: str) -> None:
    raw.execute_command("ACL", "DELUSER", "keyturn")
    raw.execute_command("ACL", "SETUSER", "keyturn", "on", f">{PASSWORD}", *rules.split())


@pytest.fixture
def password(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.touch(mode=0o600)
    path.write_text(PASSWORD + "\n")
    return path


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


def as_keyturn(server: RedisServer, password: Path, database: int = 1) -> Board:
    url = f"redis://127.0.0.1:{server.port}/{database}"
    return opened(FleetSettings(url=url, username="keyturn", password_from_file_path=str(password)))  # type: ignore[arg-type]


def test_the_documented_rules_suffice(plain: RedisServer, password: Path) -> None:
    """On database 0 and on another; and nothing outside its keys, and no other command."""
    assert RULES is not None
    for database in (0, 1):
        with redis.Redis(port=plain.port, db=database) as raw:
            grant(raw, RULES[1])
            everything(as_keyturn(plain, password, database), raw)
    board = as_keyturn(plain, password)
    for command in (
        ("GET", "x"),
        ("HSET", "x", "y", "z"),
        ("KEYS", "*"),
        ("DEL", board.key(NAME, "state")),
        ("FLUSHALL",),
    ):
        with pytest.raises(redis.exceptions.NoPermissionError):
            board._client.execute_command(*command)


def test_each_documented_rule_is_needed(plain: RedisServer, password: Path) -> None:
    """Without it something is refused, as an error that says what to do."""
    assert RULES is not None
    rules = RULES[1].split()
    for missing in (rule for rule in rules if rule.startswith("+")):
        with redis.Redis(port=plain.port, db=1) as raw:
            grant(raw, " ".join(rule for rule in rules if rule != missing))
            raw.flushdb()
            with pytest.raises((FleetRefusedError, FleetError)):
                everything(as_keyturn(plain, password), raw)


def test_a_wrong_password_is_refused_and_said_nowhere(
    plain: RedisServer, password: Path, shown: Callable[[BaseException], str]
) -> None:
    with redis.Redis(port=plain.port) as raw:
        grant(raw, "~keyturn:* -@all +time")
    password.write_text("another-" + PASSWORD)
    with pytest.raises(FleetRefusedError) as raised:
        as_keyturn(plain, password).recent([NAME], 1)
    assert PASSWORD not in shown(raised.value)


@pytest.fixture
def encrypted(tmp_path: Path) -> Iterator[Callable[[CertificateKind], RedisServer]]:
    made: list[RedisServer] = []

    def start(kind: CertificateKind) -> RedisServer:
        place = tmp_path / "tls"
        place.mkdir()
        server_context(place, kind)
        pem = str(place / "server.pem")
        server = RedisServer(tmp_path / "redis", "--tls-cert-file", pem, "--tls-key-file", pem,
                             "--tls-ca-cert-file", str(place / "ca.pem"), "--tls-auth-clients", "no", tls=True)  # fmt: skip
        made.append(server)
        server.start()
        return server

    yield start
    for server in made:
        server.kill()


def test_over_tls_with_a_private_authority(
    encrypted: Callable[[CertificateKind], RedisServer], tmp_path: Path, password: Path
) -> None:
    """With the documented user; and refused where that authority is not named."""
    server, ca = encrypted("good"), tmp_path / "tls" / "ca.pem"
    assert RULES is not None
    with server.admin() as raw:
        grant(raw, RULES[1])
        settings = FleetSettings(
            url=server.tls_url, username="keyturn", password_from_file_path=str(password), ca_file=str(ca)  # type: ignore[arg-type]
        )  # fmt: skip
        everything(opened(settings), raw)
    with pytest.raises(FleetError):
        opened(FleetSettings(url=server.tls_url)).recent([NAME], 1)
    with pytest.raises(FleetError):
        opened(FleetSettings(url=server.tls_url.replace("rediss", "redis"))).recent([NAME], 1)


@pytest.mark.parametrize("kind", ["wrong_host", "expired", "unknown_ca"])
def test_a_server_that_is_not_the_one_named_is_refused(
    encrypted: Callable[[CertificateKind], RedisServer], tmp_path: Path, kind: CertificateKind
) -> None:
    server = encrypted(kind)
    with pytest.raises(FleetError) as raised:
        opened(FleetSettings(url=server.tls_url, ca_file=str(tmp_path / "tls" / "ca.pem"))).recent([NAME], 1)  # type: ignore[arg-type]
    assert "certificate" in str(raised.value)


def test_an_authority_that_is_no_certificate_is_said_before_anything_is_sent(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("rubbish")
    with pytest.raises(KeyturnError):
        opened(FleetSettings(url="rediss://127.0.0.1:1/0", ca_file=str(tmp_path / "ca.pem")))  # type: ignore[arg-type]
