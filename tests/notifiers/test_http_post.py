"""`http` posts the event to this machine, once, and takes no answer for granted."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from agent.cloud.deadline import Timekeeper
from agent.core.errors import CancelledError, NotifyError
from agent.core.events import PublishEvent
from agent.core.settings import Duration
from agent.notifiers.http_post import HttpNotifier, HttpSettings
from agent.notifiers.interface import HookFailedError


class Endpoint(ThreadingHTTPServer):
    """A dependent's endpoint; it answers as it is told to and keeps what it got."""

    daemon_threads = True

    def __init__(self) -> None:
        self.status = 204
        self.headers: dict[str, str] = {}
        self.body = b""
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        super().__init__(("127.0.0.1", 0), Handler)

    def url(self, path: str = "/reload") -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.server_address[1]}{path}"


class Handler(BaseHTTPRequestHandler):
    """Answers a POST."""

    server: Endpoint

    def do_POST(self) -> None:
        """Keep the request, answer as told."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((self.path, dict(self.headers), body))
        self.send_response(self.server.status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    """A running endpoint."""
    with Endpoint() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@contextmanager
def raw_server(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that is not HTTP: `serve` gets the one connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            connection, _ = listener.accept()
            with connection:
                serve(connection)

        thread = threading.Thread(target=accept)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        thread.join()


def until_closed(connection: socket.socket) -> None:
    """Read and say nothing until the other side closes."""
    try:
        while connection.recv(4096):
            pass
    except OSError:
        pass


def notifier(url: str, timeout_s: float = 60, expect: int | tuple[int, ...] | None = None) -> HttpNotifier:
    """Make one as the config would."""
    return HttpNotifier(HttpSettings(type="http", url=url, timeout=Duration(timeout_s), expect_status=expect))


def test_the_event_is_posted_as_json(endpoint: Endpoint, event: PublishEvent, cancel: threading.Event) -> None:
    """One POST to the path and query of the URL, with the same object as `exec` gets."""
    told = notifier(endpoint.url("/reload?app=1")).tell(event, cancel)
    ((path, headers, body),) = endpoint.got
    assert path == "/reload?app=1"
    assert headers["Content-Type"] == "application/json"
    assert json.loads(body) == event.as_json()
    assert told.detail == f"POST {endpoint.url()}: 204"


def test_localhost_is_this_machine_without_asking_a_resolver(
    endpoint: Endpoint, event: PublishEvent, cancel: threading.Event
) -> None:
    """The name leads to the loopback addresses, and the endpoint sees the name."""
    notifier(endpoint.url().replace("127.0.0.1", "localhost")).tell(event, cancel)
    assert endpoint.got[0][1]["Host"] == f"localhost:{endpoint.server_address[1]}"


def test_a_proxy_of_the_environment_is_not_used(
    endpoint: Endpoint, event: PublishEvent, cancel: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy would carry the event off the machine."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    notifier(endpoint.url()).tell(event, cancel)
    assert len(endpoint.got) == 1


def test_the_expected_status_decides(endpoint: Endpoint, event: PublishEvent, cancel: threading.Event) -> None:
    """Any 2xx by default; exactly what is configured otherwise."""
    cases: list[tuple[int, int | tuple[int, ...] | None, bool]] = [
        (200, None, True),
        (299, None, True),
        (404, None, False),
        (500, None, False),
        (404, 404, True),
        (200, 404, False),
        (409, (200, 409), True),
        (204, (200, 409), False),
    ]
    for status, expect, accepted in cases:
        endpoint.status = status
        try:
            notifier(endpoint.url(), expect=expect).tell(event, cancel)
        except NotifyError as err:
            assert not accepted, (status, expect)
            assert f"answered {status}" in err.problem
            assert err.remedy
        else:
            assert accepted, (status, expect)


def test_a_refusal_keeps_what_was_said_for_the_log_bounded_and_clean(
    endpoint: Endpoint, event: PublishEvent, cancel: threading.Event
) -> None:
    """The answer, which may hold a secret, is not in the error's text; its beginning goes with it, for the log."""
    endpoint.status, endpoint.body = 500, b"no config\x1b[31m\n" + b"words " * 1000
    with pytest.raises(HookFailedError) as caught:
        notifier(endpoint.url()).tell(event, cancel)
    assert caught.value.problem == f"{endpoint.url()}: answered 500"
    assert "no config" not in str(caught.value)
    assert caught.value.output.startswith("no config[31m | words words")
    assert len(caught.value.output) <= 300
    assert set(caught.value.output.split()[3:]) == {"words"}, "half a word could be half a secret"


def test_a_redirect_is_not_followed(endpoint: Endpoint, event: PublishEvent, cancel: threading.Event) -> None:
    """A local endpoint cannot send the event elsewhere."""
    endpoint.status, endpoint.headers = 307, {"Location": endpoint.url("/elsewhere")}
    with pytest.raises(NotifyError, match="redirect is not followed"):
        notifier(endpoint.url()).tell(event, cancel)
    assert [path for path, _, _ in endpoint.got] == ["/reload"]


def test_nobody_listening_is_said(event: PublishEvent, cancel: threading.Event) -> None:
    """A refused connection names the URL and a remedy."""
    with socket.socket() as taken:  # so that nobody else gets the port meanwhile
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(NotifyError, match=f"127.0.0.1:{port}/x: nobody listens there") as caught:
            notifier(f"http://127.0.0.1:{port}/x").tell(event, cancel)
    assert caught.value.remedy


def test_a_silent_endpoint_ends_at_the_limit(event: PublishEvent, cancel: threading.Event) -> None:
    """It accepts and never answers."""
    with raw_server(until_closed) as url, pytest.raises(NotifyError, match=r"no answer within 0.4 s"):
        notifier(url, timeout_s=0.4).tell(event, cancel)


def test_an_endpoint_that_trickles_ends_at_the_limit(event: PublishEvent, cancel: threading.Event) -> None:
    """A byte now and then keeps every single read alive; the total counts."""

    def trickle(connection: socket.socket) -> None:
        connection.settimeout(0.05)
        connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
        while True:
            try:
                if not connection.recv(4096):
                    return
            except TimeoutError:
                connection.sendall(b"x")
            except OSError:
                return

    with raw_server(trickle) as url, pytest.raises(NotifyError, match="no answer within"):
        notifier(url, timeout_s=0.5).tell(event, cancel)


def test_what_does_not_speak_http_is_said(event: PublishEvent, cancel: threading.Event) -> None:
    """Another protocol, or a connection that is just closed, is an error and not a crash."""
    for greeting in (b"SSH-2.0-OpenSSH_9.2\r\n", b"", b"HTTP/1.1 abc\r\n\r\n"):

        def greet(connection: socket.socket, words: bytes = greeting) -> None:
            connection.recv(65536)
            connection.sendall(words)

        with raw_server(greet) as url, pytest.raises(NotifyError) as caught:
            notifier(url).tell(event, cancel)
        assert caught.value.remedy


def test_a_stopping_agent_does_not_wait_for_an_answer(event: PublishEvent) -> None:
    """Cancel ends the wait for a silent endpoint."""
    cancel, seen = threading.Event(), threading.Event()

    def stop(connection: socket.socket) -> None:
        connection.recv(4096)
        cancel.set()
        seen.wait()

    with raw_server(stop) as url:
        with pytest.raises(CancelledError):
            notifier(url).tell(event, cancel)
        seen.set()


def test_a_stopping_agent_posts_nothing(endpoint: Endpoint, event: PublishEvent) -> None:
    """With cancel already set there is no request, and the dependent stays owed."""
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(CancelledError):
        notifier(endpoint.url()).tell(event, cancel)
    assert not endpoint.got


def test_check_says_whether_somebody_listens(endpoint: Endpoint) -> None:
    """It connects and sends nothing."""
    assert [finding.level for finding in notifier(endpoint.url()).inspect()] == ["ok"]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    (finding,) = notifier(f"http://127.0.0.1:{port}/").inspect()
    assert (finding.level, bool(finding.remedy)) == ("warning", True)
    assert not endpoint.got


def test_only_a_url_of_this_machine_is_taken() -> None:
    """Other hosts, other schemes, names that only look local, passwords and nonsense are config errors."""
    for url in (
        "http://10.0.0.1/",
        "http://example.com/",
        "https://127.0.0.1/",
        "http://localhost.example.com/",
        "http://127.0.0.1@example.com/",
        "http://user:canary@127.0.0.1/",
        "http://[::2]/",
        "http://0.0.0.0/",
        "http://127.0.0.1:99999/",
        "http://127.0.0.1:0/",
        "http://127.0.0.1/a b",
        "http://127.0.0.1/\r\nX: y",
        "127.0.0.1/x",
        "",
    ):
        ((key, sentence),) = HttpSettings(type="http", url=url).problems()
        assert key == "url", url
        assert "canary" not in sentence
    for url in (
        "http://127.0.0.1",
        "http://127.8.8.8:8080/x?y=1",
        "http://[::1]:80/",
        "http://localhost:1/",
        "http://LOCALHOST/",
    ):
        assert not list(HttpSettings(type="http", url=url).problems()), url


def test_only_final_statuses_can_be_expected() -> None:
    """100 is no answer, 600 does not exist, and an empty list expects nothing."""
    for expect in (100, 600, (200, 99), ()):
        settings = HttpSettings(type="http", url="http://127.0.0.1/", expect_status=expect)
        assert [key for key, _ in settings.problems()] == ["expect_status"], expect
    assert not list(HttpSettings(type="http", url="http://127.0.0.1/", expect_status=(200, 409)).problems())


def test_the_target_leaves_the_query_out() -> None:
    """A query may hold a token; status and logs do not show it."""
    one = notifier("http://127.0.0.1/reload?token=canary")
    assert one.target == "http://127.0.0.1/reload"
    assert one.identity != notifier("http://127.0.0.1/reload").identity


def test_a_limit_that_gets_no_thread_is_not_blamed_on_the_endpoint(
    endpoint: Endpoint, event: PublishEvent, cancel: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the limit of processes or of memory nothing is posted without a deadline, and the remedy is this machine's."""

    def refuse(*_call: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(Timekeeper, "begin", refuse)
    with pytest.raises(NotifyError, match="no thread can be started") as caught:
        notifier(endpoint.url()).tell(event, cancel)
    assert "TasksMax" in caught.value.remedy
    assert endpoint.got == []
