"""The transport against real sockets: what it refuses, how long it waits, and what it never says."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from agent.cloud import deadline
from agent.cloud import tls as tls_module
from agent.cloud.deadline import Timekeeper
from agent.cloud.transport import Transport, UntrustedServerError, url_fault
from agent.core.errors import (
    BadAnswerError,
    CredentialFileError,
    KeyturnError,
    SourceRefusedError,
    SourceUnavailableError,
)
from agent.core.settings import endpoint_fault
from agent.system.files import read_trusted
from providers.emulator.pki import server_context
from tests.support.canaries import Listener

CANARY = "CanarySignature%2Fz9"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Twice: Yes\r\n\r\n{}"
GIVE_UP_S = 10.0  # a server that no deadline stops answers well after so long, and the test then fails

Serve = Callable[..., Any]


def post(transport: Transport, endpoint: str, **options: Any) -> Any:
    given = {"timeout_s": 5.0, "headers": {"x-acs-security-token": CANARY}, **options}
    return transport.post(endpoint, f"Signature={CANARY}", **given)


def say(*pieces: bytes) -> Callable[[socket.socket, Any], None]:
    def act(connection: socket.socket, server: Any) -> None:
        for piece in pieces:
            connection.sendall(piece)

    return act


def hang(connection: socket.socket, server: Any) -> None:
    if not server.over.wait(GIVE_UP_S):
        server.gave_up.set()
    connection.sendall(OK)


def drip(head: bytes) -> Callable[[socket.socket, Any], None]:
    """Send `head` at once, then bytes one by one, and a whole reply in the end."""

    def act(connection: socket.socket, server: Any) -> None:
        connection.sendall(head)
        for _ in range(int(GIVE_UP_S / 0.05)):
            if server.over.wait(0.05):
                return
            connection.sendall(b"x")
        server.gave_up.set()
        connection.sendall(b"\r\nContent-Length: 0\r\n\r\n" if b"\r\n\r\n" not in head else b"")

    return act


def reset(connection: socket.socket, server: Any) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def test_a_whole_reply_comes_back(serve: Serve, transport: Transport) -> None:
    """Status, headers in lower case and body are handed over, and nothing of the body is in the repr."""
    server = serve(say(OK))
    reply = post(transport, server.endpoint)
    assert (reply.status, reply.headers["x-twice"], reply.body) == (200, "Yes", b"{}")
    assert repr(reply) == "Reply(status=200)"


def test_the_request_on_the_wire(serve: Serve, transport: Transport) -> None:
    """One POST with the query as signed, an empty body, no cookie, no compression, and our name."""
    server = serve(say(OK))
    post(transport, server.endpoint)
    line, *headers = server.requests[0].decode().rstrip().split("\r\n")
    assert line == f"POST /?Signature={CANARY} HTTP/1.1"
    assert {header.partition(":")[0].lower() for header in headers} == {
        "host", "x-acs-security-token", "accept-encoding", "connection", "user-agent", "content-length",
    }  # fmt: skip
    assert "Content-Length: 0" in headers
    assert "Accept-Encoding: identity" in headers
    assert any(header.startswith("User-Agent: keyturn/") for header in headers)


FAILURES: dict[str, tuple[Callable[[socket.socket, Any], None], type[KeyturnError], str]] = {
    "the reply never comes": (hang, SourceUnavailableError, "timed out"),
    "the status line drips": (drip(b"HTTP/1.1 200 O"), SourceUnavailableError, "timed out"),
    "the headers drip": (drip(b"HTTP/1.1 200 OK\r\nX-A: "), SourceUnavailableError, "timed out"),
    "the body drips": (drip(b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n"), SourceUnavailableError, "timed out"),
    "the body drips without a length": (drip(b"HTTP/1.1 200 OK\r\n\r\n"), SourceUnavailableError, "timed out"),
    "the connection is reset": (reset, SourceUnavailableError, "closed before a whole answer"),
    "the connection is closed without a word": (say(), SourceUnavailableError, "closed before a whole answer"),
    "the body is cut short": (say(OK[:-1]), SourceUnavailableError, "closed before a whole answer"),
    "the chunks are rubbish": (
        say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
        KeyturnError,
        "127.0.0.1",
    ),
    "the answer is not HTTP": (say(b"220 mail ESMTP\r\n\r\n"), BadAnswerError, "not HTTP"),
    "a header never ends": (say(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70000), BadAnswerError, "not HTTP"),
    "the body is too long": (
        say(b"HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n" + b"x" * 3000000),
        BadAnswerError,
        "more than 1048576 bytes",
    ),
}


def limit_s(words: str) -> float:
    """Short only where the limit is what ends the call: a busy machine may take its time for the others."""
    return 0.6 if words == "timed out" else GIVE_UP_S * 2


@pytest.mark.parametrize("story", FAILURES)
def test_what_goes_wrong_is_told_in_plain_words(
    story: str,
    serve: Serve,
    transport: Transport,
    shown: Callable[[BaseException], str],
    listener: Listener,
) -> None:
    """Each failure ends in time as the error that fits, names host and cause, and shows nothing of the request."""
    act, kind, words = FAILURES[story]
    server = serve(act)
    with pytest.raises(kind) as caught:
        post(transport, server.endpoint, timeout_s=limit_s(words), read_s=GIVE_UP_S)
    assert not server.gave_up.is_set(), "the caller waited until the server lost patience"
    assert len(server.requests) <= 1, "it was asked again"
    assert server.endpoint in caught.value.problem
    assert words in caught.value.problem
    assert caught.value.retryable
    assert caught.value.remedy
    assert CANARY not in shown(caught.value) + listener.said


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError()], ids=["threads", "memory"])
def test_a_call_whose_limit_gets_no_thread_is_tried_again(
    serve: Serve, transport: Transport, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """At the limit of processes or of memory nothing is sent without a deadline: an error with a remedy, not a fault."""
    server = serve(say(OK))

    def refuse(_thread: threading.Thread) -> None:
        raise error

    monkeypatch.setattr(deadline, "_timekeeper", Timekeeper())
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(SourceUnavailableError, match="no thread can be started") as caught:
            post(transport, server.endpoint)
    assert "TasksMax" in caught.value.remedy
    assert server.requests == []
    assert post(transport, server.endpoint).status == 200


def test_a_silent_reply_is_bounded_by_the_read_time(serve: Serve, transport: Transport) -> None:
    """A server that goes silent is given up after `read_s`, before the total."""
    with pytest.raises(SourceUnavailableError, match="timed out"):
        post(transport, serve(hang).endpoint, timeout_s=GIVE_UP_S * 2, read_s=0.2)


def test_a_server_that_never_speaks_tls_is_given_up(serve: Serve, transport: Transport) -> None:
    """A connection that is accepted and then left alone ends at the deadline."""
    server = serve(hang, encrypted=False)
    with pytest.raises(SourceUnavailableError, match="timed out"):
        post(transport, server.endpoint, timeout_s=0.4, connect_s=GIVE_UP_S * 2)
    assert not server.gave_up.is_set()


def test_a_server_that_never_finishes_tls_is_bounded_by_the_connect_time(serve: Serve, transport: Transport) -> None:
    """`connect_s` bounds the handshake too."""
    server = serve(hang, encrypted=False)
    with pytest.raises(SourceUnavailableError, match="timed out"):
        post(transport, server.endpoint, timeout_s=GIVE_UP_S * 2, connect_s=0.2)


def test_a_full_backlog_is_given_up(transport: Transport) -> None:
    """A host that does not even accept (its queue is full) is told apart: no connection."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        endpoint = f"127.0.0.1:{listener.getsockname()[1]}"
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
            fillers.append(filler)
        with pytest.raises(SourceUnavailableError, match=r"no connection within 0\.3 s"):
            post(transport, endpoint, timeout_s=5.0, connect_s=0.3)
        for filler in fillers:
            filler.close()


def test_plain_http_is_not_spoken(serve: Serve, transport: Transport) -> None:
    """A server without TLS is not talked to; the remedy points at host and port."""
    server = serve(say(OK), encrypted=False)
    with pytest.raises(SourceUnavailableError, match=r"TLS handshake failed|closed before"):
        post(transport, server.endpoint)


def test_a_refused_connection() -> None:
    """A closed port is told as such."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        endpoint = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(SourceUnavailableError, match="connection refused"):
            post(Transport(proxies=False), endpoint)


def test_a_name_that_does_not_exist() -> None:
    """A name that DNS does not know is told as such; .invalid never exists (RFC 2606)."""
    with pytest.raises(SourceUnavailableError, match=r"kms\.invalid: (no such host|the name server does not answer)"):
        post(Transport(proxies=False), "kms.invalid")


def test_an_unknown_authority_is_refused(serve: Serve, shown: Callable[[BaseException], str]) -> None:
    """Without the CA file the loopback server is not trusted, nothing is sent to it, and the remedy names the key."""
    server = serve(say(OK))
    with pytest.raises(UntrustedServerError, match=r"cloud\.ca_file") as caught:
        post(Transport(proxies=False), server.endpoint)
    assert not caught.value.retryable
    assert server.requests == []
    assert CANARY not in shown(caught.value)


@pytest.mark.parametrize("host", ["127.0.0.2", "127.1"])
def test_another_host_name_is_refused(host: str, tls: tuple[ssl.SSLContext, Path]) -> None:
    """A trusted certificate for another address or name does not do."""
    with socket.create_server(("0.0.0.0", 0)) as listener:

        def serve_one() -> None:
            connection, _ = listener.accept()
            with connection, pytest.raises(OSError):
                tls[0].wrap_socket(connection, server_side=True).recv(1)

        server = threading.Thread(target=serve_one, daemon=True)
        server.start()
        with pytest.raises(UntrustedServerError, match="another host name"):
            post(Transport(str(tls[1]), proxies=False), f"{host}:{listener.getsockname()[1]}")
        server.join(GIVE_UP_S)


def test_a_certificate_that_is_over_is_refused(serve: Serve, tmp_path: Path) -> None:
    """Dates are looked at, and nothing is sent."""
    server = serve(say(OK), context=server_context(tmp_path / "pki", "expired"))
    with pytest.raises(UntrustedServerError):
        post(Transport(str(tmp_path / "pki" / "ca.pem"), proxies=False), server.endpoint)
    assert server.requests == []


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_no_variable_of_a_library_changes_who_is_trusted(
    variable: str, serve: Serve, tls: tuple[ssl.SSLContext, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A CA bundle from the environment of requests or curl is not believed."""
    monkeypatch.setenv(variable, str(tls[1]))
    with pytest.raises(UntrustedServerError):
        post(Transport(proxies=False), serve(say(OK)).endpoint)


def test_certifi_is_not_asked(serve: Serve, transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls work where certifi's bundle is not there at all."""
    monkeypatch.setattr("requests.adapters.DEFAULT_CA_BUNDLE_PATH", "/nowhere/cacert.pem")
    assert post(transport, serve(say(OK)).endpoint).status == 200


def test_session_keys_are_not_written(
    serve: Serve, tls: tuple[ssl.SSLContext, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """$SSLKEYLOGFILE, which Python's default context obeys, gets nothing."""
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    monkeypatch.setattr(tls_module, "_by_files", {})
    assert post(Transport(str(tls[1]), proxies=False), serve(say(OK)).endpoint).status == 200
    assert not (tmp_path / "keys").exists()


def test_tls_1_1_is_refused(tls: tuple[ssl.SSLContext, Path]) -> None:
    """The context starts at TLS 1.2, checks the chain and the host name."""
    context = tls_module.context_for((str(tls[1]),))
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname


def test_one_context_serves_all_and_follows_its_file(tls: tuple[ssl.SSLContext, Path], tmp_path: Path) -> None:
    """The same CA file means the same context, until the file is replaced."""
    path = tmp_path / "ca.pem"
    path.write_bytes(tls[1].read_bytes())
    first = tls_module.context_for((str(path),))
    assert tls_module.context_for((str(path),)) is first
    replacement = tmp_path / "new.pem"
    replacement.write_bytes(tls[1].read_bytes())
    replacement.rename(path)
    assert tls_module.context_for((str(path),)) is not first


def test_a_ca_file_that_hangs_holds_up_nobody_else(
    tls: tuple[ssl.SSLContext, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever names it waits; a call under another authority is made meanwhile, and the same one is read once for all."""
    other = tmp_path / "ca.pem"
    other.write_bytes(tls[1].read_bytes())
    begun, over, reads = threading.Event(), threading.Event(), []

    def hang(path: str, limit: int) -> bytes:
        reads.append(path)
        if path == str(other):
            begun.set()
            assert over.wait(GIVE_UP_S)
        return read_trusted(path, limit)

    monkeypatch.setattr(tls_module, "read_trusted", hang)
    monkeypatch.setattr(tls_module, "_by_files", {})
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(tls_module.context_for, (str(other),)) for _ in range(8)]
        assert begun.wait(GIVE_UP_S)
        assert tls_module.context_for((str(tls[1]),)).check_hostname
        over.set()
        assert len({id(each.result(GIVE_UP_S)) for each in waiting}) == 1
    assert reads == [str(other), str(tls[1])]


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_a_bad_ca_file_is_named(content: bytes | None, tmp_path: Path) -> None:
    """A CA file that is missing or empty is an error that names it, not a silent fallback."""
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CredentialFileError, match=str(path)):
        post(Transport(str(path), proxies=False), "127.0.0.1:1")


def test_a_redirect_is_not_followed(serve: Serve, transport: Transport) -> None:
    """The redirect itself comes back, and its target hears nothing."""
    target = serve(say(OK))
    server = serve(
        say(f"HTTP/1.1 302 Found\r\nLocation: https://{target.endpoint}/\r\nContent-Length: 0\r\n\r\n".encode())
    )
    assert post(transport, server.endpoint).status == 302
    assert target.requests == []


def test_netrc_is_not_read(serve: Serve, transport: Transport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ~/.netrc for the host adds no Authorization header."""
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login somebody password x\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    server = serve(say(OK))
    post(transport, server.endpoint)
    assert b"authorization" not in server.requests[0].lower()


def proxy_that_answers(answer: bytes, seen: list[bytes]) -> Callable[[socket.socket, Any], None]:
    def act(connection: socket.socket, server: Any) -> None:
        seen.append(connection.recv(65536))
        connection.sendall(answer)
        server.over.wait(GIVE_UP_S)

    return act


def test_a_proxy_of_the_environment_is_used(
    serve: Serve, tls: tuple[ssl.SSLContext, Path], monkeypatch: pytest.MonkeyPatch, shown: Any
) -> None:
    """HTTPS_PROXY gets a CONNECT with the host only; its refusal is told as such, without its password."""
    seen: list[bytes] = []
    proxy = serve(proxy_that_answers(b"HTTP/1.1 407 No\r\n\r\n", seen), encrypted=False)
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:ProxyCanary@{proxy.endpoint}")
    monkeypatch.setenv("NO_PROXY", "")
    with pytest.raises(SourceUnavailableError, match=r"the proxy 127\.0\.0\.1:\d+ refused") as caught:
        post(Transport(str(tls[1])), "kms.example:8443")
    assert seen[0].startswith(b"CONNECT kms.example:8443 HTTP/1.")
    assert CANARY.encode() not in seen[0]
    assert "ProxyCanary" not in shown(caught.value)


def test_a_proxy_that_is_down_is_named(tls: tuple[ssl.SSLContext, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused connection to the proxy is blamed on the proxy, not on the host."""
    monkeypatch.setenv("HTTPS_PROXY", "http://user:ProxyCanary@127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "")
    with pytest.raises(SourceUnavailableError, match=r"the proxy 127\.0\.0\.1:1: connection refused") as caught:
        post(Transport(str(tls[1])), "kms.example")
    assert "ProxyCanary" not in str(caught.value)


def test_a_proxy_that_hangs_is_given_up(
    serve: Serve, tls: tuple[ssl.SSLContext, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The deadline holds for the answer to CONNECT too."""
    proxy = serve(proxy_that_answers(b"HTTP/1.1 2", []), encrypted=False)
    monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy.endpoint}")
    monkeypatch.setenv("NO_PROXY", "")
    with pytest.raises(SourceUnavailableError, match="timed out"):
        post(Transport(str(tls[1])), "kms.example", timeout_s=0.4, connect_s=GIVE_UP_S)


def test_a_proxy_is_left_out_where_told(serve: Serve, transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    """`proxies=False` and NO_PROXY both go straight to the host."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    assert post(transport, serve(say(OK)).endpoint).status == 200


def test_success_is_as_silent_as_failure(
    serve: Serve, transport: Transport, listener: Listener, capfd: pytest.CaptureFixture[str]
) -> None:
    """Neither the libraries' DEBUG records, nor http.client's own printing, show the signed request."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nbroken header line\r\n\r\n{}"  # urllib3 warns of it, with the URL
    post(transport, serve(say(OK)).endpoint)
    post(transport, serve(say(head)).endpoint)
    printed = capfd.readouterr()
    assert CANARY not in listener.said + printed.out + printed.err


def test_no_descriptor_is_left_behind(serve: Serve, transport: Transport) -> None:
    """Calls that succeed, fail and run into the deadline leave no socket open."""
    servers = [serve(say(OK)), serve(reset), serve(hang)]

    def open_sockets_to_servers() -> int:
        found = 0
        for entry in list(Path("/proc/self/fd").iterdir()):
            try:
                with socket.socket(fileno=os.dup(int(entry.name))) as each:
                    found += each.getpeername()[1] in [server.port for server in servers]
            except OSError:
                continue
        return found

    for server in servers * 3:
        with contextlib.suppress(SourceUnavailableError):
            post(transport, server.endpoint, timeout_s=0.3)
    assert open_sockets_to_servers() == 0


@pytest.mark.parametrize("endpoint", ["kms.cn-hangzhou.aliyuncs.com", "127.0.0.1:8443", "localhost", "a:1"])
def test_endpoints_that_are_fine(endpoint: str) -> None:
    """Host, or host and port."""
    assert endpoint_fault(endpoint) is None


@pytest.mark.parametrize(
    "endpoint",
    ["", "https://kms", "kms/", "user@kms", "kms:0", "kms:65536", "kms:", "-kms", "a..b", "a b", "k" * 64, "a.", "é"],
)
def test_endpoints_that_are_not(endpoint: str) -> None:
    """A URL, a path, a user, a port out of range or an impossible name is told in one sentence."""
    assert endpoint_fault(endpoint)


def test_a_ca_file_that_others_can_write_is_refused(tls: tuple[ssl.SSLContext, Path], tmp_path: Path) -> None:
    """Whoever could add an authority could read what is sent; refused as well when the right is given later on."""
    path = tmp_path / "ca.pem"
    path.write_bytes(tls[1].read_bytes())
    path.chmod(0o644)
    tls_module.context_for((str(path),))
    path.chmod(0o664)
    with pytest.raises(CredentialFileError, match="0664 lets others") as caught:
        tls_module.context_for((str(path),))
    assert caught.value.remedy == f"chmod go-w {path}"


def after_hearing(act: Callable[[socket.socket, Any], None]) -> Callable[[socket.socket, Any], None]:
    """For a server without TLS: note what came, then do as told."""

    def hear_first(connection: socket.socket, server: Any) -> None:
        heard = b""
        while b"\r\n\r\n" not in heard:
            heard += connection.recv(65536)
        server.requests.append(heard)
        act(connection, server)

    return hear_first


def hear_and_say(*pieces: bytes) -> Callable[[socket.socket, Any], None]:
    return after_hearing(say(*pieces))


def ask(transport: Transport, url: str, **options: Any) -> Any:
    given = {"timeout_s": 5.0, "headers": {"x-aliyun-ecs-metadata-token": CANARY}, **options}
    return transport.request(given.pop("method", "GET"), url, **given)


def test_a_post_without_a_query_has_no_question_mark(serve: Serve, transport: Transport) -> None:
    """The request line is that of a plain `/` where nothing stands in the query."""
    server = serve(say(OK))
    transport.post(server.endpoint, "", headers={}, timeout_s=5.0)
    assert server.requests[0].startswith(b"POST / HTTP/1.1\r\n")


def test_plain_http_is_spoken_where_the_caller_says_so(serve: Serve, transport: Transport) -> None:
    """GET and PUT over http arrive as asked for, path, query and headers, and the reply comes back whole."""
    server = serve(hear_and_say(OK), encrypted=False)
    for method in ("GET", "PUT"):
        reply = ask(transport, f"http://{server.endpoint}/a/b?c=d", plain=True, method=method)
        assert (reply.status, reply.body) == (200, b"{}")
        assert server.requests[-1].startswith(f"{method} /a/b?c=d HTTP/1.1\r\n".encode())
        assert f"x-aliyun-ecs-metadata-token: {CANARY}".encode() in server.requests[-1]


@pytest.mark.parametrize("scheme", ["http", "ftp", "HTTP", "file", ""])
def test_plain_http_is_refused_without_the_callers_word(scheme: str, serve: Serve, transport: Transport) -> None:
    """Nothing but https goes out by itself; nothing is sent, and only the host is named."""
    server = serve(hear_and_say(OK), encrypted=False)
    with pytest.raises(SourceRefusedError, match="only https") as caught:
        ask(transport, f"{scheme}://user:{CANARY}@{server.endpoint}/{CANARY}?t={CANARY}")
    assert server.requests == []
    assert CANARY not in str(caught.value)
    assert "user" not in str(caught.value)


def test_https_is_verified_also_where_plain_http_would_do(serve: Serve) -> None:
    """`plain` lets http in and changes nothing for https: an unknown authority is refused, nothing sent."""
    server = serve(say(OK))
    with pytest.raises(UntrustedServerError):
        ask(Transport(proxies=False), f"https://{server.endpoint}/", plain=True)
    assert server.requests == []


def test_plain_http_never_goes_through_a_proxy(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """HTTP_PROXY and ALL_PROXY would read the keys: they are not used for http, whatever they say."""
    for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "")
    server = serve(hear_and_say(OK), encrypted=False)
    assert ask(Transport(), f"http://{server.endpoint}/", plain=True).status == 200


def test_plain_http_needs_no_ca_file(serve: Serve) -> None:
    """A CA file that cannot be used is no obstacle where no certificate is looked at."""
    server = serve(hear_and_say(OK), encrypted=False)
    assert ask(Transport("/nowhere/ca.pem"), f"http://{server.endpoint}/", plain=True).status == 200


@pytest.mark.parametrize("story", FAILURES)
def test_plain_http_is_bounded_and_silent_alike(
    story: str,
    serve: Serve,
    transport: Transport,
    shown: Callable[[BaseException], str],
    listener: Listener,
) -> None:
    """Each failure of the https call is the same failure over http: in time, named, and without the request."""
    act, kind, words = FAILURES[story]
    server = serve(after_hearing(act), encrypted=False)
    with pytest.raises(kind) as caught:
        url, limit = f"http://{server.endpoint}/{CANARY}?t={CANARY}", limit_s(words)
        ask(transport, url, plain=True, timeout_s=limit, read_s=GIVE_UP_S)
    assert not server.gave_up.is_set(), "the caller waited until the server lost patience"
    assert len(server.requests) <= 1, "it was asked again"
    assert server.endpoint in caught.value.problem
    assert words in caught.value.problem
    assert CANARY not in shown(caught.value) + listener.said


def test_a_redirect_of_plain_http_is_not_followed(serve: Serve, transport: Transport) -> None:
    """The redirect itself comes back, and its target hears nothing."""
    target = serve(say(OK))
    head = f"HTTP/1.1 302 Found\r\nLocation: https://{target.endpoint}/\r\nContent-Length: 0\r\n\r\n"
    server = serve(hear_and_say(head.encode()), encrypted=False)
    assert ask(transport, f"http://{server.endpoint}/", plain=True).status == 302
    assert target.requests == []


@pytest.mark.parametrize("url", [f"https://[{CANARY}/x", f"https:///{CANARY}", f"https://a..b/{CANARY}"])
def test_a_url_that_cannot_be_used_is_told_without_showing_it(
    url: str, transport: Transport, shown: Callable[[BaseException], str]
) -> None:
    """A malformed URL ends as an error of the family, and its path stays unseen."""
    with pytest.raises(KeyturnError) as caught:
        ask(transport, url)
    assert f"/{CANARY}" not in shown(caught.value)


@pytest.mark.parametrize("host", ["metadata.example", "10.0.0.1", "100.100.100.201", "127.1", "8.8.8.8:80"])
def test_plain_http_does_not_leave_the_machine(host: str, transport: Transport) -> None:
    """Even with the caller's word, http goes to this machine's own addresses only: keys would be on the wire."""
    with pytest.raises(SourceRefusedError, match="only https"):
        ask(transport, f"http://{host}/", plain=True)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8000/a?b=c", "http://localhost", "http://LOCALHOST:1/x", "http://[::1]:80/",
        "http://100.100.100.200", "http://169.254.1.1/x", "https://keys.example/x?t=1", "HTTPS://10.0.0.1:8443",
    ],
)  # fmt: skip
def test_urls_that_keys_may_be_asked_for(url: str) -> None:
    """https anywhere, http on this machine and its metadata server."""
    assert url_fault(url) is None


@pytest.mark.parametrize(
    "url",
    [
        "", "keys.example", "ftp://127.0.0.1/", "http://", "http:///x", "http://keys.example/x", "http://10.0.0.1/",
        "https://u:p@keys.example/", "https://keys.example:0/", "https://keys.example:x/", "https://a b/", "https://é/",
        "https://keys.example/\n", "https://keys.example/#x", "http://127.0.0.1.evil.example/", "https://[::1",
        "https://keys.example\\@127.0.0.1/", "http://127.0.0.1@evil.example/", "http://localhost.evil.example/",
    ],
)  # fmt: skip
def test_urls_that_keys_may_not_be_asked_for(url: str) -> None:
    """Told in one sentence that does not repeat the URL, since that may hold a token."""
    fault = url_fault(url)
    assert fault
    assert not url or url not in fault
