"""The listener serves small requests of well-behaved clients, and nothing that a client does holds up the others."""

from __future__ import annotations

import errno
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus

import pytest

from agent.http import listener as server
from agent.http import message as http
from agent.http.listener import Listener, Manner
from agent.http.message import MAX_HEAD, Reply, Request, sentence_reply
from tests.support.scraper import PATIENCE_S, Answer, free_port, get, heard, say

Serve = Callable[..., int]


MANNER = Manner("test")


def echo(request: Request, _channel: socket.socket) -> Reply:
    """Answers with the path that it was asked for."""
    return sentence_reply(HTTPStatus.OK, request.path)


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts listeners, and ends them with the test."""
    made: list[Listener] = []

    def start(host: str = "127.0.0.1", answer: server.Answer = echo) -> int:
        port = free_port(host)
        made.append(Listener(f"[{host}]:{port}" if ":" in host else f"{host}:{port}", lambda: answer, MANNER))
        connected(port, host)
        return port

    yield start
    for listener in made:
        listener.close()


def connected(port: int, host: str = "127.0.0.1") -> None:
    """Wait until somebody listens."""
    ends = time.monotonic() + PATIENCE_S
    while True:
        try:
            socket.create_connection((host, port), PATIENCE_S).close()
            return
        except OSError:
            assert time.monotonic() < ends, "nobody listens"
            time.sleep(0.01)


def test_get_and_head_are_served(serve: Serve) -> None:
    """A body with its length for GET, the same head without it for HEAD; the query is ignored."""
    port = serve()
    answer, head = get(port, "/x?y=1"), get(port, "/x", method="HEAD")
    assert (answer.status, answer.body) == (200, "/x\n")
    assert (head.status, head.body) == (200, "")
    assert answer.headers["content-length"] == head.headers["content-length"] == "3"
    assert answer.headers["server"].startswith("keyturn/")


REFUSED = {
    "POST": (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello", 405),
    "two hosts": (b"GET / HTTP/1.1\r\nHost: evil.example\r\nHost: localhost\r\n\r\n", 400),
    "TRACE": (b"TRACE / HTTP/1.1\r\nHost: localhost\r\nCookie: x\r\n\r\n", 405),
    "no HTTP": (b"hello\r\n\r\n", 400),
    "TLS": (b"\x16\x03\x01\x00\xa5\r\n\r\n", 400),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "nothing but line ends": (b"\r\n\r\n", 400),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "a head without end": (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * (MAX_HEAD + 5000), 431),
}


@pytest.mark.parametrize("what", REFUSED)
def test_everything_else_is_refused_with_a_sentence(serve: Serve, what: str) -> None:
    """Another method, another protocol, a head that is too large: a status and a line, and the next client is served."""
    port = serve()
    request, status = REFUSED[what]
    answer = say(port, request)
    assert (answer.status, len(answer.body.splitlines())) == (status, 1)
    if status == 405:
        assert answer.headers["allow"] == "GET, HEAD"
    assert get(port, "/next").status == 200


def test_plain_line_ends_and_http_1_0_are_understood(serve: Serve) -> None:
    """A probe typed by hand works."""
    assert say(serve(), b"GET /x HTTP/1.0\n\n").body == "/x\n"


def test_a_request_that_drips_is_ended(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """The deadline is for the whole head: a byte now and then does not renew it."""
    monkeypatch.setattr(http, "read", lambda channel, read=http.read: read(channel, 0.5))
    port, answers = serve(), list[Answer]()
    with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as channel:
        listening = threading.Thread(target=lambda: answers.append(heard(channel)))
        listening.start()
        ends = time.monotonic() + PATIENCE_S
        while listening.is_alive() and time.monotonic() < ends:
            try:
                channel.send(b"G")
            except OSError:
                break
            listening.join(0.05)
        listening.join(PATIENCE_S)
    assert [answer.status for answer in answers] == [408]


def test_clients_that_leave_or_do_not_read_harm_nobody(serve: Serve) -> None:
    """A connection that is reset, closed half way, or never read: the next client is served."""
    port = serve(answer=lambda _request, _channel: Reply(HTTPStatus.OK, b"x" * (1 << 22)))
    for said in (b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"):
        channel = socket.create_connection(("127.0.0.1", port), PATIENCE_S)
        channel.sendall(said)
        channel.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        channel.close()
    assert len(get(port, "/").body) == 1 << 22


def test_a_fault_of_a_page_is_a_status(serve: Serve) -> None:
    """Whatever a page raises: 500 without a traceback, and the next request is answered."""
    port = serve(answer=lambda request, channel: echo(request, channel) if request.path == "/good" else 1 / 0)  # type: ignore[arg-type, return-value]
    broken = get(port, "/bad")
    assert (broken.status, broken.body.count("\n"), "Error" in broken.body) == (500, 1, False)
    assert get(port, "/good").status == 200


HOSTS = {
    "localhost": 200,
    "LOCALHOST:9": 200,
    "localhost.": 200,
    "127.0.0.1:1": 200,
    "127.1.2.3": 200,
    "[::1]:80": 200,
    "evil.example": 403,
    "evil.example:9464": 403,
    "127.0.0.1.evil.example": 403,
    "localhost.evil.example": 403,
    "192.0.2.1": 403,
    "": 403,
    "[": 403,
    "user@evil.example": 403,
    "localhost@evil.example": 403,
}


@pytest.mark.parametrize("host", HOSTS)
def test_a_page_of_another_site_cannot_read_a_loopback_listener(serve: Serve, host: str) -> None:
    """DNS rebinding (aws-vault issue 578): a name that resolves to 127.0.0.1 is not ours, and is refused."""
    answer = get(serve(), "/x", Host=host)
    assert answer.status == HOSTS[host]
    assert ("/x" in answer.body) == (answer.status == 200)


def test_a_listener_that_others_may_reach_asks_for_no_host() -> None:
    """The check is for loopback: by which name a network calls this machine is its own business."""
    listener = Listener(f"0.0.0.0:{free_port()}", lambda: echo, MANNER)
    port = int(listener.address.rpartition(":")[2])
    connected(port)
    assert get(port, "/x", Host="metrics.example").status == 200
    listener.close()


def test_the_name_of_the_config_is_ours(serve: Serve) -> None:
    """A listener that was named in the config answers to that name."""
    http.refuse_rebound(Request("GET", "/", {"host": "ip6-loopback:9464"}), "ip6-loopback")
    with pytest.raises(http.RefusedError):
        http.refuse_rebound(Request("GET", "/", {"host": "other"}), "ip6-loopback")


def test_ipv6_works(serve: Serve) -> None:
    """`metrics_listen = "[::1]:9464"`."""
    try:
        port = serve("::1")
    except OSError as error:
        if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            pytest.skip("this machine has no IPv6")
        raise
    assert get(port, "/x", host="::1", Host=f"[::1]:{port}").status == 200


def test_an_address_in_use_is_tried_again_until_it_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """Said once, and served as soon as whoever held it is gone."""
    said: list[str] = []
    monkeypatch.setattr(server, "RETRY_S", 0.02)
    monkeypatch.setattr(server.log, "error", lambda _event, error: said.append(error))
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        listener = Listener(f"127.0.0.1:{port}", lambda: echo, MANNER)
        ends = time.monotonic() + PATIENCE_S
        while not said and time.monotonic() < ends:
            time.sleep(0.01)
        time.sleep(0.2)  # several tries more: that they are not said takes time to see
    connected(port)
    assert get(port, "/x").status == 200
    listener.close()
    (sentence,) = said
    assert f"127.0.0.1:{port}" in sentence and "in use" in sentence and "ss -ltnp" in sentence


def test_a_closed_listener_leaves_the_address_free(serve: Serve) -> None:
    """A reload that moves the listener away and back finds the address; one that never had it ends too."""
    port = free_port()
    for _ in range(5):
        listener = Listener(f"127.0.0.1:{port}", lambda: echo, MANNER)
        connected(port)
        listener.close()
        server.bind(f"127.0.0.1:{port}").close()
    with socket.create_server(("127.0.0.1", port)):
        Listener(f"127.0.0.1:{port}", lambda: echo, MANNER).close()


@pytest.mark.parametrize(
    ("address", "number", "words"),
    [
        ("192.0.2.1:9464", None, "no interface of this machine has that address; name one"),
        ("no-such-host.invalid:9464", None, "this host name has no address"),
        ("127.0.0.1:80", errno.EACCES, "this user may not; name a port from 1024 on"),
        ("[::1]:9464", errno.EAFNOSUPPORT, "this family of addresses is not allowed; see RestrictAddressFamilies="),
    ],
)
def test_why_an_address_cannot_be_had_is_one_sentence(address: str, number: int | None, words: str) -> None:
    """The address, the reason, a remedy."""
    error = OSError(number, "")
    if number is None:
        with pytest.raises(OSError) as caught:
            server.bind(address)
        error = caught.value
    sentence = str(server.bind_problem(error, address))
    assert sentence.startswith(f"nothing can listen on {address}: ") and words in sentence
