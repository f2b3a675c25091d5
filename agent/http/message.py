"""What a client may send: one GET or HEAD of a small head. Everything else is answered with what is wrong about it.

Written out instead of using the standard library's `http.server`: that one has a deadline for each read but none for
the whole request (a client that drips one byte a second holds a thread for ever), takes heads of megabytes, and looks at no
`Host`. The reply ends the connection: a scrape each few seconds needs no keep-alive.
"""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import urlsplit

from agent import __version__

MAX_HEAD = 8 * 1024
"""Bytes of a request line with its header fields."""
REQUEST_S = 5.0
"""Seconds for the whole head, however slowly it comes in."""
PLAIN = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Request:
    """One request; the names of header fields are lower-case."""

    method: str
    path: str
    headers: Mapping[str, str]
    query: str = field(default="", repr=False)
    """What follows the `?`, as it came; it may hold a token."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a request."""

    status: HTTPStatus
    body: bytes
    content_type: str = PLAIN
    headers: Mapping[str, str] = field(default_factory=dict)

    def as_bytes(self, *, head_only: bool = False) -> bytes:
        """Return the reply as it goes over the wire."""
        fields = {
            "Server": f"keyturn/{__version__}",
            "Content-Type": self.content_type,
            "Content-Length": str(len(self.body)),
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "Connection": "close",
            **self.headers,
        }
        lines = [f"HTTP/1.1 {self.status.value} {self.status.phrase}", *(f"{k}: {v}" for k, v in fields.items())]
        return "\r\n".join([*lines, "", ""]).encode() + (b"" if head_only else self.body)


class RefusedError(Exception):
    """The error that a request is refused, with the reply that says why."""

    def __init__(self, status: HTTPStatus, sentence: str, **headers: str) -> None:
        super().__init__(sentence)
        self.reply = sentence_reply(status, sentence, **headers)


def sentence_reply(status: HTTPStatus, sentence: str, **headers: str) -> Reply:
    """Return a reply for people and probes: one line."""
    return Reply(status, f"{sentence}\n".encode(), headers=headers)


def read(channel: socket.socket, limit_s: float = REQUEST_S) -> Request | None:
    """Read and return one request; None where the client went away without a word.

    Raises:
        RefusedError: it is too long, too slow, or no request that is served here.
        OSError: the connection broke.
    """
    head, ends = b"", time.monotonic() + limit_s
    while b"\r\n\r\n" not in head and b"\n\n" not in head:
        if len(head) > MAX_HEAD:
            raise RefusedError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"the head is larger than {MAX_HEAD} bytes")
        piece = _receive(channel, ends)
        if not piece:
            return None
        head += piece
    return parse(head.partition(b"\r\n\r\n")[0].partition(b"\n\n")[0])


def _receive(channel: socket.socket, ends: float) -> bytes:
    left_s = ends - time.monotonic()
    try:
        if left_s <= 0:
            raise TimeoutError
        channel.settimeout(left_s)
        return channel.recv(4096)
    except TimeoutError:
        raise RefusedError(HTTPStatus.REQUEST_TIMEOUT, f"the request took more than {REQUEST_S:g} s") from None


def parse(head: bytes) -> Request:
    """Return the request that a head makes.

    Raises:
        RefusedError: it is no request that is served here.
    """
    first, *lines = head.decode("latin-1").splitlines() or [""]
    words = first.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise RefusedError(HTTPStatus.BAD_REQUEST, "this is no request of HTTP/1.1")
    method, target, version = words
    headers = {name.strip().lower(): value.strip() for name, _colon, value in (line.partition(":") for line in lines)}
    if sum(line.partition(":")[0].strip().lower() == "host" for line in lines) > 1:
        raise RefusedError(HTTPStatus.BAD_REQUEST, "the request names its Host more than once")  # RFC 9112, 3.2
    if "host" not in headers and version != "HTTP/1.0":
        raise RefusedError(HTTPStatus.BAD_REQUEST, "the request names no Host")
    if method not in ("GET", "HEAD"):
        raise RefusedError(HTTPStatus.METHOD_NOT_ALLOWED, "only GET and HEAD are served", Allow="GET, HEAD")
    path, _mark, query = target.partition("?")
    return Request(method, path, headers, query)


def refuse_rebound(request: Request, own_host: str) -> None:
    """Refuse a request to a loopback listener that names a foreign host.

    A page in a browser on this machine can have its own name resolve to 127.0.0.1 and then read what is served there
    (DNS rebinding; 99designs/aws-vault issue 578): its requests carry that name.

    Args:
        request: the request.
        own_host: the host of the address in the config.

    Raises:
        RefusedError: the request names a foreign host.
    """
    named = request.headers.get("host")
    if named is None or _is_local(_host_of(named), own_host):
        return
    raise RefusedError(
        HTTPStatus.FORBIDDEN, "the Host of this request is not this machine's loopback; ask for localhost"
    )


def is_loopback_host(host: str) -> bool:
    """Return whether a host, without brackets, is this machine's loopback: `localhost`, or an address of it."""
    try:
        return host.lower() == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _host_of(authority: str) -> str:
    try:
        return (urlsplit(f"//{authority}").hostname or "").removesuffix(".")
    except ValueError:
        return ""


def _is_local(host: str, own_host: str) -> bool:
    return host == own_host.lower() or is_loopback_host(host)
