"""The socket: whole answers, bounds, and nobody who can keep others from being answered."""

import json
import os
import socket
import threading
import time
import uuid
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest

from agent.serving import server
from agent.serving.asking import CredentialService
from agent.serving.fetches import FetchRecord
from agent.serving.offers import Offer, Offers
from agent.serving.server import CredentialServer
from tests.support.processes import PATIENCE_S, eventually, in_child
from tests.support.sinks import key, session

NOW = datetime(2030, 1, 1, tzinfo=UTC)


class World:
    """A server with one credential, and a client's hand."""

    def __init__(self, directory):
        self.path = directory / "credentials.sock"
        self.offers, self.fetches = Offers(), FetchRecord()
        self.offers.put("app", Offer(3, key()))
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self.path))
        listener.listen(1024)
        self.path.chmod(0o666)
        self.service = CredentialService(self.offers, self.fetches, lambda: NOW)
        self.server = CredentialServer(listener, self.service, "/etc/keyturn/keyturn.toml")

    def connect(self):
        channel = socket.socket(socket.AF_UNIX)
        channel.settimeout(PATIENCE_S)
        channel.connect(str(self.path))
        return channel

    def ask(self, **request):
        return self.say(json.dumps({"credential": "app", "format": "external"} | request).encode() + b"\n")

    def say(self, line):
        with self.connect() as channel:
            channel.sendall(line)
            return heard(channel)


def heard(channel):
    """The header and the document, until the end."""
    answer = b""
    with suppress(ConnectionResetError):  # it did not read all that we said
        while got := channel.recv(65536):
            answer += got
    line, _feed, document = answer.partition(b"\n")
    return json.loads(line), document


@pytest.fixture
def world(public_path):
    made = World(public_path)
    yield made
    made.server.close()


def test_an_answer_says_how_long_it_is(world):
    """So a client that is cut off knows it; and it is noted who got which generation."""
    header, document = world.ask()
    assert header == {"length": len(document)}
    assert json.loads(document)["access_key_id"] == key().access_key_id
    (fetch,) = world.fetches.clients("app", NOW)
    assert (fetch.generation, fetch.until, fetch.peer.uid) == (3, NOW + timedelta(seconds=240), os.geteuid())
    assert fetch.peer.pid == os.getppid()  # who started the process that asked
    assert fetch.peer.executable == os.readlink(f"/proc/{os.getppid()}/exe")


def test_in_an_emergency_an_answer_is_kept_for_seconds(world):
    """The named expiry is as much nearer, at once and for those concerned alone."""
    world.offers.put("other", Offer(1, key(2)))
    world.offers.hurry(frozenset({"app"}))
    until = {name: json.loads(world.ask(credential=name)[1])["expiration"] for name in ("app", "other")}
    assert until == {"app": "2030-01-01T00:03:05Z", "other": "2030-01-01T00:04:00Z"}


UNANSWERED = {
    "unknown": {"credential": "ap"},
    "a format of another version": {"format": "csv"},
    "another config is meant": {"config": "/srv/keyturn.toml"},
    "no name": {"credential": ["app"]},
}


@pytest.mark.parametrize("asked", UNANSWERED.values(), ids=UNANSWERED)
def test_what_cannot_be_answered_is_said_in_one_sentence(world, asked):
    """With the exit code, and without a document."""
    header, document = world.ask(**asked)
    assert (header["exit_code"], document) == (2, b"")
    assert ("config" in asked) is bool(header.get("other_config"))


@pytest.mark.parametrize("line", [b"\n", b"[]\n", b"\xff\n", b"[" * 9000 + b"\n", b"{" + b" " * 9000])
def test_what_is_no_request_is_refused(world, line):
    """Whatever is sent, and however much."""
    assert world.say(line)[0]["exit_code"] == 2
    assert world.ask()[1]


@pytest.mark.parametrize("offer", [Offer(3), Offer(3, session(), expiration=NOW)], ids=["not known", "expired"])
def test_a_value_that_is_not_there_is_temporary(world, offer):
    """Nothing that has expired, and nothing that is not known, is handed out."""
    world.offers.put("app", offer)
    header, document = world.ask()
    assert (header["exit_code"], document) == (75, b"")


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes somebody else")
def test_the_kernel_says_who_asks(world):
    """A user, a group that is not the primary one, and a stranger, who learns nothing of what there is."""
    world.offers.put("app", Offer(3, key(), users=frozenset({4242}), groups=frozenset({4343})))

    answers = world.path.parent / "answers"
    answers.mkdir()

    def asked_as(uid, groups=(), **request):
        place = answers / uuid.uuid4().hex
        place.touch()
        os.chown(place, uid, -1)

        def ask():
            os.setgroups(groups)
            os.setgid(uid)
            os.setuid(uid)
            place.write_text(json.dumps(world.ask(**request)[0]))

        assert in_child(ask) == 0
        return json.loads(place.read_text())

    assert asked_as(4242).keys() == {"length"}
    assert asked_as(4444, [4343]).keys() == {"length"}
    refused = asked_as(4444)
    unknown = asked_as(4444, credential="ghost")
    assert (refused["exit_code"], unknown["exit_code"]) == (77, 77)
    assert refused["error"].replace("app", "ghost") == unknown["error"]


def test_thousands_of_idle_connections_harm_nobody(world):
    """They are bounded, and whoever has the most of them loses the oldest: a question is answered all the while."""
    before = len(os.listdir("/proc/self/fd"))
    idle = [world.connect() for _ in range(1000)]
    began = time.monotonic()
    for _ in range(20):
        assert world.ask()[1]
    assert time.monotonic() - began < PATIENCE_S
    assert len(os.listdir("/proc/self/fd")) < before + 1000 + server.MAX_CONNECTIONS + 100
    for one in idle:
        one.close()


def test_whoever_says_nothing_is_let_go(world, monkeypatch):
    """After so many seconds for the whole of a connection, one that trickles too."""
    monkeypatch.setattr(server, "REQUEST_S", 0.2)
    slow, silent = world.connect(), world.connect()
    slow.sendall(b'{"cred')
    assert silent.recv(1) == b""
    assert slow.recv(1) == b""


def test_whoever_does_not_read_is_let_go(world, monkeypatch):
    """A peer that asks and goes away, or never reads, costs nobody an answer."""
    monkeypatch.setattr(server, "REQUEST_S", 0.2)
    for _ in range(50):
        with world.connect() as channel:
            channel.sendall(b'{"credential": "app", "format": "external"}\n')
    assert world.ask()[1]


def test_the_user_with_the_most_connections_makes_room(world, monkeypatch):
    """A flood of one user's connections costs their own, not another's."""
    if os.geteuid() != 0:
        pytest.skip("becomes somebody else")
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 8)
    mine = world.connect()

    def flood():
        os.setgid(4242)
        os.setuid(4242)
        held = [world.connect() for _ in range(40)]
        assert sum(one.recv(1) == b"" for one in held[:32]) == 32  # the places of the others

    assert in_child(flood) == 0
    mine.sendall(b'{"credential": "app", "format": "external"}\n')
    assert heard(mine)[1]


def test_no_fault_ends_the_thread(world, monkeypatch):
    """Nobody starts it again."""
    monkeypatch.setattr(CredentialService, "answer", lambda *_: 1 / 0)
    assert world.ask()[0]["exit_code"] == 1
    monkeypatch.undo()
    assert world.ask()[1]


def test_many_at_once_get_whole_answers_of_one_generation(world):
    """While the value changes all the time, each answer is whole, and its secret is that of its id."""
    wrong, stop = [], threading.Event()

    def ask():
        while not stop.is_set():
            header, document = world.ask()
            found = json.loads(document)
            number = found["access_key_id"][-6:]
            if header["length"] != len(document) or found["access_key_secret"] != f"secretOf{number}":
                wrong.append(document)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for one in threads:
        one.start()
    for number in range(300):
        world.offers.put("app", Offer(number, key(number)))
    eventually(lambda: any(one.generation == 299 for one in world.fetches.clients("app", NOW)))
    stop.set()
    for one in threads:
        one.join()
    assert wrong == []
