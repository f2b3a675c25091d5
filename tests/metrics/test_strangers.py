"""What anybody who reaches the metrics port can do: blind nobody, break nothing, and cause one log line a minute at most."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from http import HTTPStatus

import pytest

from agent.http import listener as server
from agent.http.listener import MAX_CONNECTIONS, Listener
from agent.http.message import Reply, Request, sentence_reply
from agent.logs.seldom import Seldom
from agent.metrics import exposition
from agent.metrics.exporter import MANNER
from agent.metrics.snapshot import Snapshot
from tests.support.scraper import PATIENCE_S, free_port, get

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
PLAIN = "text/plain; version=0.0.4; charset=utf-8"

ACCEPTS = {
    "": PLAIN,
    "*/*": PLAIN,
    "text/plain;version=x": PLAIN,
    "text/plain;version=1.0.0;escaping=allow-utf-8": PLAIN,
    "text/html": PLAIN,
    "application/openmetrics-text": OPENMETRICS,
    "application/openmetrics-text;version=1.0.0": OPENMETRICS,
    'APPLICATION/OpenMetrics-Text ; Version="1.0.0"': OPENMETRICS,
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.3": OPENMETRICS,
    "application/openmetrics-text;version=x": PLAIN,
    "application/openmetrics-text;version=": PLAIN,
    "application/openmetrics-text;version": PLAIN,
    "application/openmetrics-text;version=0.0.1": PLAIN,
    "application/openmetrics-text;version=999.0": PLAIN,
    "application/openmetrics-text;version=1.0.0;escaping=x": OPENMETRICS,
    "application/openmetrics-text;q=0": PLAIN,
    "application/openmetrics-text;version=1!0": PLAIN,
    ";;;,,,=;=,": PLAIN,
    "application/openmetrics-text;" * 200: OPENMETRICS,
    "\x00\xff;version=\xff": PLAIN,
}


@pytest.mark.parametrize("accept", ACCEPTS, ids=range(len(ACCEPTS)))
def test_every_accept_header_is_answered(accept: str) -> None:
    """With one of the two formats, whatever it names; and nothing of it is repeated in the answer."""
    shown = Snapshot(taken_at=0.0, passed=True, awaited=(), rows=())
    body, content_type = exposition.text(shown, accept)
    assert content_type == ACCEPTS[accept]
    assert body.endswith(b"# EOF\n") == (content_type == OPENMETRICS)


def answer(request: Request, _channel: socket.socket) -> Reply:
    if request.path == "/fault":
        raise ZeroDivisionError
    if request.path == "/big":
        return Reply(HTTPStatus.OK, b"x" * (1 << 24))
    return sentence_reply(HTTPStatus.OK, request.path)


@pytest.fixture
def port() -> Iterator[int]:
    """A listener."""
    found = free_port()
    listener = Listener(f"127.0.0.1:{found}", lambda: answer, MANNER)
    ends = time.monotonic() + PATIENCE_S
    while True:
        try:
            get(found, "/")
            break
        except OSError:
            assert time.monotonic() < ends
            time.sleep(0.01)
    yield found
    listener.close()


SLOW = {
    "that say nothing": b"",
    "that stop in the head": b"GET /x HTTP/1.1\r\nHost: local",
    "that do not read a large answer": b"GET /big HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "that do not read their refusal": b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\n",
}


@pytest.mark.parametrize("name", SLOW)
def test_slow_connections_blind_nobody(port: int, name: str) -> None:
    """However many there are, each probe is answered within a second or so: the oldest gives way, every time."""
    slow = []
    for _ in range(3 * MAX_CONNECTIONS):
        channel = socket.create_connection(("127.0.0.1", port), PATIENCE_S)
        channel.sendall(SLOW[name])
        slow.append(channel)
    for _ in range(5):
        began = time.monotonic()
        assert get(port, "/livez").body == "/livez\n"
        assert time.monotonic() - began < server.SEND_S, "it waited for one of them"
    for channel in slow:
        channel.close()


def test_who_waits_for_keyturn_does_not_give_way() -> None:
    """A request that keyturn is still answering is nobody's to end."""
    go, begun = threading.Event(), threading.Semaphore(0)

    def slowly(request: Request, channel: socket.socket) -> Reply:
        begun.release()
        go.wait(PATIENCE_S)
        return answer(request, channel)

    found = free_port()
    listener = Listener(f"127.0.0.1:{found}", lambda: slowly, MANNER)
    heard: list[str] = []

    def ask() -> None:
        ends = time.monotonic() + PATIENCE_S
        while time.monotonic() < ends:
            try:
                heard.append(get(found, "/x").body)
                return
            except OSError:
                time.sleep(0.01)

    asking = [threading.Thread(target=ask) for _ in range(MAX_CONNECTIONS)]
    for each in asking:
        each.start()
    for _ in asking:
        assert begun.acquire(timeout=PATIENCE_S)
    silent = [socket.create_connection(("127.0.0.1", found), PATIENCE_S) for _ in range(4)]
    assert all(channel.recv(1) == b"" for channel in silent), "no place: turned away at once"
    go.set()
    for each in asking:
        each.join()
    assert heard == ["/x\n"] * MAX_CONNECTIONS
    listener.close()


def test_a_fault_that_anybody_can_repeat_is_one_log_line(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute long; each request has its answer all the same."""
    said: list[str] = []
    monkeypatch.setattr(server.log, "error", lambda event, **_fields: said.append(event))
    assert [get(port, "/fault").status for _ in range(20)] == [500] * 20
    assert len(said) == 1


def test_what_was_left_out_is_counted() -> None:
    """The next line says how many there were between."""
    now = [0.0]
    seldom = Seldom(60.0, lambda: now[0])
    assert [seldom.due() for _ in range(4)] == [{}, None, None, None]
    now[0] = 60.0
    assert seldom.due() == {"left_out": 3}
    now[0] = 120.0
    assert seldom.due() == {}
