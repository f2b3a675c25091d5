"""The gate of the credentials endpoint: each guard, alone, in front of the real listener; and what each client is told."""

from __future__ import annotations

import hmac
import json
import socket
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agent.core.credential import Credential
from agent.core.settings import AgentSettings, EndpointSettings, FilePath
from agent.endpoint import gate as module
from agent.endpoint.clients import client_of
from agent.endpoint.gate import WAITING, Gate
from agent.endpoint.listening import MAX_CONNECTIONS, Endpoint
from agent.endpoint.tokens import TokenBook
from agent.serving.asking import CredentialService
from agent.serving.fetches import FetchRecord
from agent.serving.offers import Offer, Offers
from agent.sinks.formats import uri_tokens
from agent.sinks.formats.credentials_uri import CredentialsUri, CredentialsUriSettings
from agent.sinks.formats.uri_tokens import Tokens
from agent.sinks.interface import SinkContext
from agent.system.tcp_peer import TcpPeer
from tests.support.scraper import Answer, free_port, get, heard, say
from tests.support.sinks import bearer, key, session

NOW = datetime(2026, 11, 30, 12, 0, 0, tzinfo=UTC)
APP = 1234
NODE: dict[str, str] = {}
PYTHON = {"User-Agent": "AlibabaCloud (Linux; x86_64) Python/3.11.7 Credentials/1.0.12 TeaDSL/1"}


class Door:
    """An endpoint that serves one credential, with a clock that stands still and a kernel that says what it is told to."""

    def __init__(self, directory: Path) -> None:
        self.now, self.port = NOW, free_port()
        self.peer: TcpPeer | OSError | None = TcpPeer(APP, 1)
        self.waits: list[float] = []
        self.offers, self.fetches, self.book = Offers(), FetchRecord(), TokenBook()
        settings = CredentialsUriSettings(type="credentials_uri", path=FilePath(str(directory / "uri.env")))
        self.sink = CredentialsUri(settings, SinkContext("app", endpoint=f"127.0.0.1:{self.port}"))
        self.tokens = Tokens.new()
        self.sink.keep(self.tokens)
        self.book.follow({"app": (self.sink,), "other": ()})
        self.offer(key())
        service = CredentialService(self.offers, self.fetches, lambda: self.now)
        self.gate = Gate(self.book, self.offers, service, lambda: self.now, self._peer, self.waits.append)
        self.endpoint = Endpoint(self.gate)
        self.endpoint.follow(AgentSettings(endpoint=EndpointSettings(listen=f"127.0.0.1:{self.port}")))
        while self._silent():
            time.sleep(0.005)

    def _peer(self, _channel: socket.socket) -> TcpPeer | None:
        if isinstance(self.peer, OSError):
            raise self.peer
        return self.peer

    def _silent(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 5.0).close()
        except OSError:
            return True
        return False

    def offer(self, value: Credential | None, **more: Any) -> None:
        expiration = value.expiration if value is not None else None
        self.offers.put("app", Offer(3, value, expiration, **more))

    @property
    def token(self) -> str:
        return self.tokens.current.reveal()

    def ask(self, path: str = "", method: str = "GET", **headers: str) -> Answer:
        return get(self.port, path or f"/v1/credentials/app?token={self.token}", method=method, **{**PYTHON, **headers})

    def named_expiry(self, **headers: str) -> timedelta:
        """How far in the future a client is told that the value expires."""
        answer = get(self.port, f"/v1/credentials/app?token={self.token}", **headers)
        assert answer.status == 200
        return datetime.strptime(json.loads(answer.body)["Expiration"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC) - NOW


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    made = Door(tmp_path)
    yield made
    made.endpoint.close()


def test_the_answer_is_what_the_sdks_demand(door: Door) -> None:
    """Code, the three parts, all of them there, and an expiry in whole seconds; and it is noted who got it."""
    answer = door.ask()
    assert answer.headers["content-type"] == "application/json" and answer.headers["cache-control"] == "no-store"
    assert json.loads(answer.body) == {
        "Code": "Success",
        "AccessKeyId": key().access_key_id,
        "AccessKeySecret": "secretOf000001",
        "SecurityToken": "",
        "Expiration": "2026-11-30T12:16:00Z",
    }
    (fetch,) = door.fetches.clients("app", NOW)
    assert fetch.peer is not None and (fetch.generation, fetch.peer.uid) == (3, APP)


W = "w" * 43
REFUSED: dict[str, tuple[str, str, dict[str, str], int]] = {
    "POST": ("POST", "", {"Content-Length": "0"}, 405),
    "HEAD": ("HEAD", "", {}, 405),
    "PUT": ("PUT", "", {}, 405),
    "a page of a site that resolves to 127.0.0.1": ("GET", "", {"Host": "evil.example"}, 403),
    "its port": ("GET", "", {"Host": "evil.example:8911"}, 403),
    "a name that begins like ours": ("GET", "", {"Host": "127.0.0.1.evil.example"}, 403),
    "another machine's address": ("GET", "", {"Host": "192.0.2.1"}, 403),
    "a proxy": ("GET", "", {"X-Forwarded-For": "192.0.2.1"}, 403),
    "a proxy that says so in the standard's way": ("GET", "", {"Forwarded": "for=192.0.2.1"}, 403),
    "a proxy that is honest": ("GET", "", {"Via": "1.1 squid"}, 403),
    "a proxy of nginx's": ("GET", "", {"X-Real-IP": "127.0.0.1"}, 403),
    "no token": ("GET", "/v1/credentials/app", {}, 403),
    "an empty token": ("GET", "/v1/credentials/app?token=", {}, 403),
    "a wrong token": ("GET", f"/v1/credentials/app?token={W}", {}, 403),
    "two tokens": ("GET", f"/v1/credentials/app?token={W}&token=TOKEN", {}, 403),
    "the right one twice": ("GET", "/v1/credentials/app?token=TOKEN&token=TOKEN", {}, 403),
    "the right one and more": ("GET", "/v1/credentials/app?token=TOKENx", {}, 403),
    "the right one but for its case": ("GET", "/v1/credentials/app?Token=TOKEN", {}, 403),
    "many parameters": ("GET", "/v1/credentials/app?" + "a=b&" * 50 + "token=TOKEN", {}, 403),
    "a credential without a URI": ("GET", "/v1/credentials/other?token=TOKEN", {}, 403),
    "an unknown credential": ("GET", "/v1/credentials/nobody?token=TOKEN", {}, 403),
    "another page": ("GET", "/?token=TOKEN", {}, 404),
    "no name": ("GET", "/v1/credentials/?token=TOKEN", {}, 404),
    "a path that climbs": ("GET", "/v1/credentials/../credentials/app?token=TOKEN", {}, 404),
    "a name in percents": ("GET", "/v1/credentials/%61pp?token=TOKEN", {}, 404),
    "a slash behind it": ("GET", "/v1/credentials/app/?token=TOKEN", {}, 404),
}


@pytest.mark.parametrize("what", REFUSED)
def test_everything_else_is_refused_without_a_word(door: Door, what: str) -> None:
    """By its status alone: the SDKs put bodies into the text of their exceptions."""
    method, path, headers, status = REFUSED[what]
    answer = door.ask(path.replace("TOKEN", door.token), method, **headers)
    assert (answer.status, answer.body, answer.headers["content-length"]) == (status, "", "0")
    assert status != 405 or answer.headers["allow"] == "GET"
    assert not door.fetches.clients("app", NOW)
    assert door.ask().status == 200


def test_no_reason_of_a_refusal_hides_another_in_the_log(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line for each: a dead token is named with its user's uid, however many wrong ones were guessed just before."""
    said: list[tuple[Any, Any]] = []

    def warning(_event: str, **fields: Any) -> None:
        said.append((fields["why"].split(",")[0], fields.get("uid")))

    monkeypatch.setattr("agent.logs.log.log.warning", warning)
    old = door.token
    door.tokens = door.tokens.followed(NOW - timedelta(hours=1), NOW - timedelta(seconds=1))
    door.sink.keep(door.tokens)
    for token in ("guess", "guess", old, "guess", old):
        assert door.ask(f"/v1/credentials/app?token={token}").status == 403
    door.offer(key(), users=frozenset({APP + 1}))
    for headers in ({}, {"Via": "1.1 squid"}, {"Host": "evil.example"}, {"Host": "evil.example"}):
        assert door.ask(**headers).status == 403
    assert said == [
        ("its token is wrong", None),
        ("its token was replaced", APP),
        ("`serve` does not name its user", APP),
        ("it came through a proxy", None),
        ("the Host of this request is not this machine's loopback; ask for localhost", None),
    ]


@pytest.mark.parametrize("raw", [b"hello\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nX: " + b"x" * 20000])
def test_what_is_no_request_is_refused_without_a_word(door: Door, raw: bytes) -> None:
    """Also where the refusal is the server's and not the gate's."""
    answer = say(door.port, raw)
    assert 400 <= answer.status < 500 and answer.body == ""


def test_the_token_is_compared_in_constant_time(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """By digests of one length, with every token that opens, whichever of them it is, and for unknown names too."""
    seen: list[tuple[int, int]] = []
    constant = hmac.compare_digest

    def compare(one: bytes, other: bytes) -> bool:
        seen.append((len(one), len(other)))
        return constant(one, other)

    monkeypatch.setattr(uri_tokens.hmac, "compare_digest", compare)
    door.sink.keep(door.tokens.followed(NOW, NOW + timedelta(hours=1)))
    for token in (door.token, "", "short", W * 20):
        seen.clear()
        door.book.is_right("app", token, NOW)
        assert seen == [(32, 32), (32, 32)]
    for name in ("other", "nobody"):
        seen.clear()
        assert not door.book.is_right(name, door.token, NOW)
        assert seen == [(32, 32)]


def test_a_token_dies_when_its_time_has_come(door: Door) -> None:
    """Not a second later; the log then says why, and that its process wants a restart."""
    old = door.token
    door.tokens = door.tokens.followed(NOW, NOW + timedelta(minutes=5))
    door.sink.keep(door.tokens)
    asked = f"/v1/credentials/app?token={old}"
    assert (door.ask().status, door.ask(asked).status) == (200, 200)
    door.now = NOW + timedelta(minutes=5)
    assert (door.ask().status, door.ask(asked).status) == (200, 403)
    assert door.book.died("app", old, door.now) == NOW + timedelta(minutes=5)


def test_wrong_tokens_wait_and_only_a_few_at_once(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each for a second; the next is turned away at once; and whoever has the right one notices nothing of it."""
    go, begun = threading.Event(), threading.Semaphore(0)

    def wait(_seconds: float) -> None:
        begun.release()
        go.wait(20.0)

    monkeypatch.setattr(door.gate, "_wait", wait)
    wrong = f"/v1/credentials/app?token={W}"
    answers: list[int] = []
    asking = [threading.Thread(target=lambda: answers.append(door.ask(wrong).status)) for _ in range(WAITING)]
    for one in asking:
        one.start()
    for _ in asking:
        assert begun.acquire(timeout=20.0)
    assert [door.ask(wrong).status, door.ask().status] == [429, 200]
    go.set()
    for one in asking:
        one.join()
    assert answers == [403] * WAITING


def test_a_slow_peer_and_a_silent_one_harm_nobody(door: Door) -> None:
    """All places taken by connections that say half a request, or nothing: whoever asks is served, again and again."""
    idle = [socket.create_connection(("127.0.0.1", door.port), 20.0) for _ in range(MAX_CONNECTIONS + 16)]
    for channel in idle[::2]:
        channel.sendall(b"GET /v1/credentials/app?tok")
    assert [door.ask().status for _ in range(5)] == [200] * 5
    for channel in idle:
        channel.close()


WHO: dict[str, tuple[TcpPeer | OSError | None, dict[str, Any], int]] = {
    "who is named": (TcpPeer(APP, 1), {"users": frozenset({APP})}, 200),
    "another user": (TcpPeer(APP + 1, 1), {"users": frozenset({APP})}, 403),
    "another user, and groups are named": (TcpPeer(APP, 1), {"groups": frozenset({77})}, 403),
    "root": (TcpPeer(0, 1), {"users": frozenset({APP})}, 200),
    "a kernel that does not say": (OSError(97, "no family"), {"users": frozenset({APP})}, 403),
    "a peer that closed its end": (None, {"users": frozenset({APP})}, 403),
    "nobody is named: the token is enough": (TcpPeer(APP, 1), {}, 200),
    "nobody is named, and the kernel does not say": (OSError(97, "no family"), {}, 200),
    "nobody is named, and the peer closed its end": (None, {}, 200),
}


@pytest.mark.parametrize("what", WHO)
def test_the_kernel_says_who_asks_where_serve_names_users(door: Door, what: str) -> None:
    """With the right token all the same; root's uid, which an orphaned socket would have, counts for an open one only."""
    door.peer, who, status = WHO[what]
    door.offer(key(), **who)
    assert door.ask().status == status


UA = {
    "Python": ("AlibabaCloud (Linux; x86_64) Python/3.11.7 Credentials/1.0.12 TeaDSL/1", 900),
    "PHP": ("AlibabaCloud (Linux; cli) PHP/8.2.36 Credentials/1.1.5 TeaDSL/1", 900),
    "Go": ("AlibabaCloud (linux; amd64) Golang/1.19.8 Credentials/1.4.9 TeaDSL/1", 180),
    "Java": ("AlibabaCloud (Linux; amd64) Java/17.0.15 Credentials/1.0.6 TeaDSL/1", 900),
    "ossutil 1": ("Go-http-client/1.1", 60),
    "oss2": ("python-requests/2.34.2", 900),
    "unknown": ("my-own/1.0", 900),
    "one that names another in passing": ("my-own AlibabaCloud (x) Golang/1", 900),
}


@pytest.mark.parametrize("who", UA)
def test_each_client_is_told_an_expiry_that_brings_it_back_in_time(door: Door, who: str) -> None:
    """Its own window and `hold` ahead; 5 seconds while an emergency runs; never later than the real one."""
    name, window = UA[who]
    ahead = {"User-Agent": name}
    assert door.named_expiry(**ahead) == timedelta(seconds=window + 60)
    door.offer(key(), hold_s=10.0)
    assert door.named_expiry(**ahead) == timedelta(seconds=window + 10)
    door.offers.hurry(frozenset({"app"}))
    assert door.named_expiry(**ahead) == timedelta(seconds=window + 5)
    door.offers.put("app", Offer(3, session(), NOW + timedelta(seconds=30)))
    assert door.named_expiry(**ahead) == timedelta(seconds=30)


def test_oss2_is_told_a_life_of_which_its_share_is_the_window(door: Door) -> None:
    """It asks again when 15 % are left of what lies between the two times: that is `hold` from now."""
    answer = door.ask(**{"User-Agent": "python-requests/2.34.2"})
    told = json.loads(answer.body)
    begins, ends = (datetime.fromisoformat(told[name]) for name in ("LastUpdated", "Expiration"))
    assert (ends - begins) * 0.15 == ends - (NOW + timedelta(seconds=60))
    assert "LastUpdated" not in json.loads(door.ask().body)


def test_node_gets_no_long_term_key(door: Door) -> None:
    """It would put the whole answer into an exception. It says no name, so whoever says none is taken for it."""
    asked = f"/v1/credentials/app?token={door.token}"
    refused = get(door.port, asked, **NODE)
    assert (refused.status, refused.body, door.fetches.clients("app", NOW)) == (406, "", ())
    door.offer(session())
    assert get(door.port, asked, **NODE).status == 200
    assert client_of({}) == client_of({"user-agent": ""})


@pytest.mark.parametrize(("value", "status"), [(None, 503), (bearer(), 406)])
def test_what_cannot_be_served_is_a_status(door: Door, value: Credential | None, status: int) -> None:
    """No value yet; a value that no SDK could use: nothing of it is said."""
    door.offer(value)
    answer = door.ask()
    assert (answer.status, answer.body) == (status, "")


def test_an_expired_value_is_not_served(door: Door) -> None:
    """Nor its last second twice."""
    door.offers.put("app", Offer(3, session(), NOW))
    assert (door.ask().status, door.ask().body) == (503, "")


def test_a_fault_of_ours_says_nothing(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """500, without a body."""
    monkeypatch.setattr(module, "client_of", lambda _headers: 1 / 0)
    answer = door.ask()
    assert (answer.status, answer.body) == (500, "")


def test_a_refusal_is_one_line_a_minute_and_names_no_token(door: Door) -> None:
    """Why, which credential, which client: for whoever runs keyturn, and for nobody who asks."""
    said: list[tuple[str, dict[str, Any]]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.log, "warning", lambda text, **fields: said.append((text, fields)))
        for _ in range(20):
            door.ask(f"/v1/credentials/app?token={W}")
    ((_text, fields),) = said
    assert (fields["credential"], fields["why"], fields["uid"]) == ("app", "its token is wrong", None)
    assert W not in repr(said) and door.token not in repr(said)


def test_half_a_request_is_not_answered(door: Door) -> None:
    """A client that goes away in the middle gets nothing, and nothing is noted."""
    with socket.create_connection(("127.0.0.1", door.port), 20.0) as channel:
        channel.sendall(f"GET /v1/credentials/app?token={door.token} HTTP/1.1\r\nHost: localhost\r\n".encode())
        channel.shutdown(socket.SHUT_WR)
        assert heard(channel).status == 0
    assert not door.fetches.clients("app", NOW)
