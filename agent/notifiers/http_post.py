"""`http`: POST the event as JSON to a local URL.

Loopback only: what changed on this machine, and when, is nobody else's business, and plain HTTP is right
only where no network carries it. `localhost` means 127.0.0.1 and ::1 without asking a resolver (RFC 6761),
so that no hosts file or DNS answer can lead elsewhere.

http.client and not requests: it has no proxies, no netrc and no redirects that would have to be switched
off, and a daemon that needs no SDK stays small. The exchange runs on a thread of its own, because a blocking
read does not notice that the agent is stopping; the deadline ends that thread if the stop comes first.
"""

from __future__ import annotations

import errno
import http.client
import ipaddress
import json
import queue
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from agent.cloud.deadline import Deadline
from agent.core.errors import CancelledError, KeyturnError, NotifyError
from agent.core.events import PublishEvent
from agent.core.finding import Finding
from agent.core.settings import NotifierSettings
from agent.notifiers.interface import HookFailedError, Notifier, Told
from agent.notifiers.output import head

_CONNECT_S = 5.0
_TICK_S = 0.1  # how late a cancel may be noticed
_LIMIT = 8 * 1024  # bytes read of an answer; what it says goes into the log, and only after a failure
_WANT = 'want a URL of this machine, such as "http://127.0.0.1:8080/reload"'


@dataclass(frozen=True, kw_only=True)
class HttpSettings(NotifierSettings):
    """The settings of `type = "http"`."""

    url: str
    expect_status: int | tuple[int, ...] | None = None  # None: any 2xx

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (key, sentence) for what the types cannot rule out."""
        problem = _url_problem(self.url)
        if problem:
            yield "url", f"{problem}; {_WANT}"
        if self.expect_status == () or not all(200 <= status <= 599 for status in self._expected()):
            yield "expect_status", "want a status from 200 to 599, or a list of them"

    def accepts(self, status: int) -> bool:
        """Return whether this answer means that the dependent was told."""
        return status in self._expected() if self.expect_status is not None else 200 <= status <= 299

    def _expected(self) -> tuple[int, ...]:
        expected = self.expect_status
        return (expected,) if isinstance(expected, int) else expected or ()


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    text: str


class HttpNotifier(Notifier):
    """A dependent that is told by a POST to a local endpoint."""

    type_name = "http"
    Settings = HttpSettings
    settings: HttpSettings

    @property
    def target(self) -> str:
        """The URL without its query."""
        return self.settings.url.partition("?")[0]

    @property
    def identity(self) -> tuple[str, ...]:
        """The URL."""
        return ("http", self.settings.url)

    @property
    def act(self) -> str:
        """The request, without the query."""
        return f"POST {self.target}"

    def tell(self, event: PublishEvent, cancel: threading.Event) -> Told:
        """Post the event once.

        Raises:
            NotifyError: nobody listens, no answer came in time, or another status came than is expected.
            CancelledError: the agent is stopping.
        """
        body = json.dumps(event.as_json(), ensure_ascii=False).encode()
        answer = self._exchange(body, cancel)
        if not self.settings.accepts(answer.status):
            raise self._unexpected(answer)
        return Told(f"POST {self.target}: {answer.status}")

    def inspect(self) -> Iterator[Finding]:
        """Yield whether somebody listens. Sends nothing."""
        place = f"notify http {self.target}"
        try:
            with Deadline(_CONNECT_S, _CONNECT_S) as deadline:
                _connect(urlsplit(self.settings.url), deadline)
        except OSError as err:
            what = f"nobody listens at {self.target}: {err.strerror or 'no answer'}"
            yield Finding("warning", place, what, "start the dependent, or correct `url`")
        else:
            yield Finding("ok", place, f"somebody listens at {self.target}")

    def _exchange(self, body: bytes, cancel: threading.Event) -> _Answer:
        result: queue.SimpleQueue[_Answer | Exception] = queue.SimpleQueue()
        if not cancel.is_set():
            threading.Thread(target=self._work, args=(body, result), name="keyturn-http", daemon=True).start()
        while not cancel.is_set():
            try:
                answer = result.get(timeout=_TICK_S)
            except queue.Empty:
                continue
            if isinstance(answer, Exception):
                raise self._failed(answer) from answer
            return answer
        raise CancelledError(f"{self.target}: keyturn is stopping", "it is told when keyturn starts again")

    def _work(self, body: bytes, result: queue.SimpleQueue[_Answer | Exception]) -> None:
        deadline = Deadline(self.settings.timeout, _CONNECT_S)
        try:
            with deadline:
                result.put(_post(urlsplit(self.settings.url), body, deadline))
        except Exception as err:  # whatever it is, somebody waits for it
            result.put(TimeoutError() if deadline.expired else err)

    def _failed(self, err: Exception) -> NotifyError:
        if isinstance(err, TimeoutError):
            return NotifyError(
                f"{self.target}: no answer within {self.settings.timeout:g} s",
                "look at the log of the dependent, or raise `timeout`",
            )
        if isinstance(err, ConnectionRefusedError):
            return NotifyError(f"{self.target}: nobody listens there", "start the dependent, or correct `url`")
        if isinstance(err, KeyturnError):  # the deadline got no thread
            return NotifyError.of(err.as_problem().at(self.target))
        if isinstance(err, OSError) and err.strerror:
            return NotifyError(f"{self.target}: {err.strerror}", "look at the log of the dependent")
        return NotifyError(f"{self.target}: what answers there does not speak HTTP", "correct `url`")

    def _unexpected(self, answer: _Answer) -> NotifyError:
        if 300 <= answer.status <= 399:
            return NotifyError(
                f"{self.target}: answered {answer.status}, and a redirect is not followed", "give the final URL"
            )
        remedy = "look at the log of the dependent, or set `expect_status`"
        return HookFailedError(f"{self.target}: answered {answer.status}", remedy, output=answer.text)


def _post(url: SplitResult, body: bytes, deadline: Deadline) -> _Answer:
    connection = http.client.HTTPConnection(url.hostname or "", url.port or 80)
    connection.sock = _connect(url, deadline)
    connection.sock.settimeout(None)  # the deadline shuts it down
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    headers = {"Content-Type": "application/json", "Connection": "close", "User-Agent": "keyturn"}
    try:
        connection.request("POST", path, body, headers)
        response = connection.getresponse()
        said = response.read(_LIMIT)
        deadline.check()
    finally:
        connection.close()
    return _Answer(response.status, head(said, _LIMIT))


def _connect(url: SplitResult, deadline: Deadline) -> socket.socket:
    """Connect to the first loopback address that answers.

    Raises:
        OSError: none did.
    """
    failure: OSError | None = None
    for address in _addresses(url.hostname or ""):
        try:
            return deadline.connect(address, url.port or 80)
        except OSError as err:
            failure = failure or err
    raise failure or ConnectionRefusedError(errno.ECONNREFUSED, "not a local address")


def _addresses(host: str) -> tuple[str, ...]:
    """Return the loopback addresses that a host stands for; none for any other host."""
    if host == "localhost":
        return ("127.0.0.1", "::1")
    try:
        return (host,) if ipaddress.ip_address(host).is_loopback else ()
    except ValueError:
        return ()


def _url_problem(url: str) -> str | None:
    """Return the problem of a URL, None when it is fine. The text never repeats the URL, which may hold a password."""
    if not url.isascii() or not url.isprintable() or " " in url:
        return "it holds a blank, a control character or a character outside ASCII"
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname or ""
    except ValueError:
        return "it is not a URL"
    if parts.scheme != "http":
        return "its scheme is not http"
    if parts.username is not None or parts.password is not None:
        return "it holds a user or a password, and secrets are never written in the config"
    if port == 0 or not _addresses(host):
        return "it does not lead to this machine's own loopback address"
    return None
