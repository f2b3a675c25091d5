"""Connections that calls share: when one is used again, and that none from before ever costs a call."""

from __future__ import annotations

import ctypes
import shutil
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from agent.cloud import connections
from agent.cloud import transport as transport_module
from agent.cloud.connections import AGE_S, IDLE_S, MAX_IDLE, Connections, Route
from agent.cloud.deadline import Deadline, Timekeeper
from agent.cloud.transport import Transport
from agent.core.errors import BadAnswerError, CredentialFileError, SourceUnavailableError
from tests.support.processes import eventually

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
PATIENCE_S = 20.0

Serve = Callable[..., Any]
Step = Callable[[socket.socket], None]


class Time:
    """Boottime, moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def boottime() -> Time:
    """The clock by which connections grow old."""
    return Time()


@pytest.fixture(autouse=True)
def shared(boottime: Time, monkeypatch: pytest.MonkeyPatch) -> Connections:
    """Connections of this test alone."""
    made = Connections(boottime)
    monkeypatch.setattr(transport_module, "SHARED", made)
    return made


@pytest.fixture
def transport(tls: tuple[ssl.SSLContext, Path]) -> Transport:
    """One that shares."""
    return Transport(str(tls[1]), proxies=False, shares=True)


class Server:
    """Answers many requests on a connection. `steps` says what the n-th connection does with each request, or else `OK`."""

    def __init__(self, serve: Serve, *steps: tuple[Step, ...], encrypted: bool = True) -> None:
        self._steps = list(steps)
        self._lock = threading.Lock()
        self.requests: list[int] = []  # the connection that each request came by
        self.connections = 0
        self.endpoint: str = serve(self._act, encrypted=encrypted).endpoint
        self._encrypted = encrypted

    def _act(self, connection: socket.socket, loopback: Any) -> None:
        with self._lock:
            number, self.connections = self.connections, self.connections + 1
        steps = iter(self._steps[number]) if number < len(self._steps) else iter(())
        heard = self._encrypted  # the loopback server has read the first request then
        while heard or _hears(connection):
            heard = False
            self.requests.append(number)
            next(steps, answer)(connection)


def _hears(connection: socket.socket) -> bool:
    head = b""
    while b"\r\n\r\n" not in head:
        piece = connection.recv(65536)
        if not piece:
            return False
        head += piece
    return True


def answer(connection: socket.socket) -> None:
    connection.sendall(OK)


def close(connection: socket.socket) -> None:
    connection.close()


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def gave_up_waiting(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


def half(connection: socket.socket) -> None:
    connection.sendall(OK[:-1])
    connection.close()


def then(*acts: Step) -> Step:
    def act(connection: socket.socket) -> None:
        for each in acts:
            each(connection)

    return act


def gone_without_a_word(connection: socket.socket) -> None:
    """From now on the kernel throws away what comes in, acknowledging nothing: the host is off (a socket filter, `ret 0`)."""
    program = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0))
    filters = struct.pack("HxxxxxxP", 1, ctypes.addressof(program))
    connection.setsockopt(socket.SOL_SOCKET, 26, filters)  # SO_ATTACH_FILTER, socket(7)


def post(transport: Transport, server: Server, **options: Any) -> int:
    return transport.post(server.endpoint, "a=b", headers={}, **{"timeout_s": PATIENCE_S, **options}).status


def test_calls_share_a_connection(serve: Serve, transport: Transport, shared: Connections) -> None:
    """Three calls, one after the other, are one connection; where it is not wanted, three."""
    server = Server(serve)
    assert [post(transport, server) for _ in range(3)] == [200] * 3
    assert (server.connections, shared.idle()) == (1, 1)
    alone = Transport(*transport._ca_files, proxies=False)
    assert [post(alone, server) for _ in range(2)] == [200] * 2
    assert (server.connections, shared.idle()) == (3, 1)


def test_two_calls_at_once_are_two_connections(serve: Serve, transport: Transport, shared: Connections) -> None:
    """A connection serves one call at a time; both are there for the next two."""
    together = threading.Barrier(2)
    wait: Step = then(lambda _connection: together.wait(PATIENCE_S), answer)  # type: ignore[arg-type,return-value]
    server = Server(serve, (wait,), (wait,))
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda _: post(transport, server), range(2))) == [200] * 2
    assert (server.connections, shared.idle()) == (2, 2)


def test_a_server_that_closes_idle_connections_costs_nothing(serve: Serve, transport: Transport) -> None:
    """What it closed while nobody used it is noticed before anything is sent: each call arrives once."""
    server = Server(serve, (then(answer, close),), (then(answer, close),))
    for _ in range(3):
        assert post(transport, server) == 200
        time.sleep(
            0.02
        )  # the end of the connection is on its way; a call that is faster takes the way of the next test
    assert len(server.requests) == 3


LATE = {"closes": close, "resets": reset, "says that it waited for too long": gave_up_waiting}


@pytest.mark.parametrize("story", LATE)
@pytest.mark.parametrize("encrypted", [True, False])
def test_a_kept_connection_that_ends_under_a_call_never_fails_it(
    story: str, encrypted: bool, serve: Serve, transport: Transport
) -> None:
    """The server ends it at the moment at which a request is sent: the same one goes out once more, over a new connection."""
    server = Server(serve, (answer, LATE[story]), encrypted=encrypted)
    url = f"{'https' if encrypted else 'http'}://{server.endpoint}/"
    for _ in range(2):
        assert transport.request("POST", url, headers={}, timeout_s=PATIENCE_S, plain=True).status == 200
    assert server.requests == [0, 0, 1]


def test_a_host_that_went_away_without_a_word_is_noticed_in_time(
    serve: Serve, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing acknowledges the request for as long as a new connection may take: a new one is made, within the deadline."""
    adopt = Deadline.adopt

    def impatient(self: Deadline, sock: socket.socket) -> None:
        self.connect_s, given = 0.2, self.connect_s
        adopt(self, sock)
        self.connect_s = given

    monkeypatch.setattr(Deadline, "adopt", impatient)
    server = Server(serve, (then(answer, gone_without_a_word),))
    assert post(transport, server) == 200
    assert post(transport, server, read_s=PATIENCE_S) == 200
    assert (server.connections, server.requests) == (2, [0, 1])


def test_a_new_connection_that_ends_is_not_tried_again(serve: Serve, transport: Transport) -> None:
    """Only what an earlier call left behind is excused; a service that closes is a failure, told as ever."""
    server = Server(serve, (answer, close), (close,))
    assert post(transport, server) == 200
    with pytest.raises(SourceUnavailableError, match="closed before a whole answer"):
        post(transport, server)
    assert server.requests == [0, 0, 1]


def test_a_connection_that_ends_between_two_looks_is_a_new_one(
    serve: Serve, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where urllib3 finds the kept one closed after we found it open, it makes a new one, which is excused nothing."""
    server = Server(serve, (answer,), (close,))
    assert post(transport, server) == 200
    looks = iter([True, False])
    monkeypatch.setattr(connections._Plain, "is_connected", property(lambda _link: next(looks, False)))
    with pytest.raises(SourceUnavailableError, match="closed before a whole answer"):
        post(transport, server)
    assert server.requests == [0, 1]


@pytest.mark.parametrize("what", ["cut short", "silent"])
def test_a_call_that_was_heard_is_not_sent_again(
    what: str, serve: Serve, transport: Transport, shared: Connections
) -> None:
    """Once an answer has begun, or while it is awaited, the call is under way: it fails, and its connection is not kept."""
    over = threading.Event()
    step = half if what == "cut short" else (lambda _connection: over.wait(PATIENCE_S))
    server = Server(serve, (answer, step))  # type: ignore[arg-type]
    assert post(transport, server) == 200
    with pytest.raises(SourceUnavailableError):
        post(transport, server, timeout_s=PATIENCE_S if what == "cut short" else 0.2)
    over.set()
    eventually(lambda: server.requests == [0, 0], "the second call is heard, once")
    assert (server.connections, shared.idle()) == (1, 0)


@pytest.mark.parametrize("last", ["says close", "too long"])
def test_what_cannot_go_on_is_not_kept(last: str, serve: Serve, transport: Transport, shared: Connections) -> None:
    """A server that announces the end is taken at its word, and an answer that was not read to its end is cut off."""
    said = OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") if last == "says close" else OK + b"x"
    server = Server(serve, (lambda connection: connection.sendall(said),))
    try:
        post(transport, server, limit_bytes=2 if last == "says close" else 1)
    except BadAnswerError:
        assert last == "too long"
    assert shared.idle() == 0


GROWN_OLD = {"idle for too long": (IDLE_S,), "too old": (IDLE_S - 1,) * int(AGE_S // (IDLE_S - 1) + 1)}


@pytest.mark.parametrize("story", GROWN_OLD)
def test_connections_grow_old(story: str, serve: Serve, transport: Transport, boottime: Time) -> None:
    """By boottime, which goes on while the machine sleeps: no connection outlives its idle time or its age."""
    server = Server(serve)
    post(transport, server)
    for pause_s in GROWN_OLD[story]:
        boottime.now += pause_s
        post(transport, server)
    assert server.connections == 2


def test_a_changed_authority_is_judged_anew(serve: Serve, tls: tuple[ssl.SSLContext, Path], tmp_path: Path) -> None:
    """What was made under another CA file is not used any more, and a file that others can write ends every call."""
    path = tmp_path / "ca.pem"
    shutil.copy(tls[1], path)
    transport, server = Transport(str(path), proxies=False, shares=True), Server(serve)
    post(transport, server)
    shutil.copy(tls[1], tmp_path / "new.pem")
    (tmp_path / "new.pem").rename(path)
    post(transport, server)
    assert server.connections == 2
    path.chmod(0o666)
    with pytest.raises(CredentialFileError, match=str(path)):
        post(transport, server)


def test_idle_connections_are_few(serve: Serve, shared: Connections) -> None:
    """However many calls there were at once, no more than so many descriptors stay; the oldest go."""
    server = Server(serve, encrypted=False)
    transport = Transport(proxies=False, shares=True)
    together = threading.Barrier(MAX_IDLE + 5)

    def call(_number: int) -> int:
        together.wait(PATIENCE_S)
        return transport.request(
            "POST", f"http://{server.endpoint}/", headers={}, timeout_s=PATIENCE_S, plain=True
        ).status

    with ThreadPoolExecutor(together.parties) as pool:
        assert set(pool.map(call, range(together.parties))) == {200}
    assert 0 < shared.idle() <= MAX_IDLE
    with ExitStack() as lent:
        route = Route(f"http://{server.endpoint}", None)
        for _ in range(together.parties):
            lent.enter_context(shared.lend(route))
        assert shared.idle() == 0


def keepers() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "deadlines"}


def test_one_thread_keeps_the_time_of_all() -> None:
    """Fifty deadlines are one thread more; each is called when its time has come, and the thread ends with the last."""
    keeper, fired = Timekeeper(), []
    acts = [(lambda number=number: fired.append(number)) for number in range(50)]
    others, began = keepers(), time.monotonic()
    for number, act in enumerate(acts):
        keeper.begin(act, began + (0.2 - number * 0.005 if number < 40 else 2 * PATIENCE_S))
    (thread,) = keepers() - others
    for act in acts[40:]:
        keeper.end(act)
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    assert sorted(fired) == list(range(40))


def test_a_deadline_never_meets_the_next_call(
    serve: Serve, transport: Transport, shared: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time of a call that was done may be up a moment later: what it left behind is not shut down any more."""
    made: list[Deadline] = []
    monkeypatch.setattr(transport_module, "Deadline", lambda *limits: made.append(Deadline(*limits)) or made[-1])
    server = Server(serve)
    for _ in range(2):
        post(transport, server)
        made[-1]._expire()
        assert shared.idle() == 1
    assert server.connections == 1


def test_a_host_that_is_gone_for_good_is_told_as_one(
    serve: Serve, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no connection follows the one that ended, that is the failure, and not that the host is slow."""
    server = Server(serve, (answer, close))
    post(transport, server)

    def unreachable(self: Deadline, host: str, port: int) -> socket.socket:
        raise TimeoutError

    monkeypatch.setattr(Deadline, "connect", unreachable)
    with pytest.raises(SourceUnavailableError, match="no connection within"):
        post(transport, server)


def tunnels(connection: socket.socket, loopback: Any) -> None:
    """A proxy: whatever comes behind CONNECT goes to where it says, and back."""
    _line, endpoint = connection.recv(65536), loopback.target
    connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
    host, _colon, port = endpoint.partition(":")
    with socket.create_connection((host, int(port))) as there:
        back = threading.Thread(target=pump, args=(there, connection), daemon=True)
        back.start()
        pump(connection, there)


def pump(source: socket.socket, sink: socket.socket) -> None:
    while piece := source.recv(65536):
        sink.sendall(piece)


def test_a_tunnel_through_a_proxy_is_kept_too(
    serve: Serve, tls: tuple[ssl.SSLContext, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One CONNECT for several calls; with another proxy, or none, there is another connection."""
    server, proxies = Server(serve), [serve(tunnels, encrypted=False) for _ in range(2)]
    transport = Transport(str(tls[1]), shares=True)
    for count, proxy in enumerate(proxies, 1):
        proxy.target = server.endpoint
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:word@{proxy.endpoint}")
        monkeypatch.setenv("NO_PROXY", "")
        assert [post(transport, server) for _ in range(3)] == [200] * 3
        assert server.connections == count
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert post(transport, server) == 200
    assert server.connections == 3
