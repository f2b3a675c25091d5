"""One request over TLS: limited in time and size, never redirected, and never quoted in a log or an error.

The HTTP adapter of `requests` without its Session, replies uncompressed, plain http to this machine's own addresses only: each
against what `requests` does by itself (docs/adr/0010). Which calls may share connections: docs/adr/0018.
"""

from __future__ import annotations

import ipaddress
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

from agent import __version__
from agent.cloud.connections import SHARED, Connection, Route
from agent.cloud.deadline import Deadline
from agent.cloud.http_library import requests
from agent.cloud.network import FAILURES, Attempt, UntrustedServerError, explain
from agent.cloud.proxy import Proxy, proxy_for
from agent.cloud.tls import context_for
from agent.core.errors import BadAnswerError, KeyturnError, SourceRefusedError
from agent.core.settings import endpoint_fault

__all__ = ["LIMIT_BYTES", "USER_AGENT", "Reply", "Transport", "UntrustedServerError", "stays_here", "url_fault"]

LIMIT_BYTES = 1024 * 1024
"""The largest reply that is read. A secret's data is at most 30 KB (KMS API, PutSecretValue)."""

USER_AGENT = f"keyturn/{__version__}"


def _silence(*names: str) -> None:
    """Drop every record of these loggers, whatever their level: they write the signed URL."""
    for name in names:
        logging.getLogger(name).addFilter(lambda record: False)


_silence(
    "urllib3.connection", "urllib3.connectionpool", "urllib3.poolmanager", "urllib3.response", "urllib3.util.retry"
)


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole reply. The body may hold a secret, so it is not shown.

    Attributes:
        headers: by name in lower case.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


class Transport:
    """The way out to the cloud. May be used by several threads."""

    def __init__(self, *ca_files: str | None, proxies: bool = True, shares: bool = False) -> None:
        """Keep the authorities to trust besides the system's store; no I/O yet.

        Args:
            ca_files: PEM files; None stands for "not configured".
            proxies: whether HTTPS_PROXY and its kin are honoured.
            shares: whether its calls leave their connections to other calls of this process, and take theirs; else each call
                has one of its own. For calls that are made often, and that change nothing.
        """
        self._ca_files = tuple(dict.fromkeys(path for path in ca_files if path))
        self._proxies = proxies
        self._shares = shares

    def post(
        self,
        endpoint: str,
        query: str,
        *,
        headers: Mapping[str, str],
        body: bytes = b"",
        timeout_s: float,
        connect_s: float = 3.0,
        read_s: float = 10.0,
        limit_bytes: int = LIMIT_BYTES,
    ) -> Reply:
        """Send one POST and return the whole reply, whatever its status.

        Args:
            endpoint: "host" or "host:port".
            query: percent-encoded, as it was signed.
            headers: all of them, besides Host, Content-Length, Connection, Accept-Encoding and User-Agent.
            body: as it was signed.
            timeout_s: for everything together; the look-up of the name cannot be cut short, only counted.
            connect_s: for one address of the host, and for the TLS handshake with it.
            read_s: for the silence between two pieces of the reply.
            limit_bytes: a longer reply is refused.

        Raises:
            SourceUnavailableError: no whole reply; names the host and the cause, never the query.
            UntrustedServerError: the host's certificate does not prove who it is.
            BadAnswerError: the reply is not HTTP or too long.
            CredentialFileError: a CA file cannot be used.
        """
        return self.request(
            "POST",
            f"https://{endpoint}/?{query}" if query else f"https://{endpoint}/",
            headers=headers,
            body=body,
            timeout_s=timeout_s,
            connect_s=connect_s,
            read_s=read_s,
            limit_bytes=limit_bytes,
        )

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes = b"",
        timeout_s: float,
        connect_s: float = 3.0,
        read_s: float = 10.0,
        limit_bytes: int = LIMIT_BYTES,
        plain: bool = False,
    ) -> Reply:
        """Send one request to a URL and return the whole reply, whatever its status.

        Args:
            method: "GET", "PUT" or "POST".
            url: https, with a host and without a user; may hold a token, so no error shows more of it than the host.
            plain: whether http will do as well, with hosts that `stays_here` names; never through a proxy.

        The others, and what is raised, are those of `post`; in addition:

        Raises:
            SourceRefusedError: the URL is not https, and `plain` does not cover it; or a variable names an impossible proxy.
        """
        secure = _is_secure(url, plain)
        context = context_for(self._ca_files) if secure else None
        proxy = proxy_for(url) if self._proxies and secure else None
        route = Route(_origin(url), context, proxy.url if proxy else None)
        # The deadline ends first, so that it never shuts a connection down that is another call's by then.
        with self._connection(route) as connection, Deadline(timeout_s, connect_s) as deadline:
            try:
                request = _prepare(method, url, headers, body, "keep-alive" if self._shares else "close")
                answer = connection.exchange(request, deadline, read_s, limit_bytes)
                if len(answer.body) <= limit_bytes:
                    return Reply(answer.status, answer.headers, answer.body)
                failure: KeyturnError = _too_long(url, limit_bytes)
            except FAILURES as error:
                failure = explain(error, _attempt(url, deadline, proxy))
        raise failure  # here, outside of `except`, so that it drags no exception along that knows the URL

    @contextmanager
    def _connection(self, route: Route) -> Iterator[Connection]:
        with SHARED.lend(route) if self._shares else closing(Connection(route, 0.0)) as connection:
            yield connection


def stays_here(host: str) -> bool:
    """Return whether what is sent to `host` never leaves this machine and its hypervisor.

    That is loopback, link-local addresses, and the metadata server of ECS, which the hypervisor answers for
    (ECS, "Instance metadata": 100.100.100.200).
    """
    if host.lower() in ("localhost", "100.100.100.200"):
        return True
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return address.is_loopback or address.is_link_local


def url_fault(url: str) -> str | None:
    """Return why keys may not be asked for at `url`; None when they may. The URL may hold a token, so it is not quoted."""
    if not url.isascii() or not url.isprintable() or re.search(r"[ \\]", url):
        return "want a URL of printable ASCII characters, without blanks and backslashes"
    scheme, _, rest = url.partition("://")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if scheme.lower() not in ("http", "https"):
        return "want a URL that begins with https:// or http://"
    if "@" in authority:
        return "a user or password in a URL is not supported; leave it out"
    if endpoint_fault(authority) or "#" in rest:
        return 'want a URL such as "https://HOST:PORT/PATH"'
    if scheme.lower() == "http" and not stays_here(_name(authority)):
        return "plain http would show the keys to everybody on the way; want https, or an address of this machine"
    return None


def _name(authority: str) -> str:
    """Return the host of "host" or "host:port", brackets kept."""
    return re.sub(r":[0-9]*\Z", "", authority)


def _is_secure(url: str, plain: bool) -> bool:
    scheme = url.partition("://")[0].lower()
    if scheme == "https":
        return True
    if scheme != "http" or not plain or not stays_here(_name(_host(url))):
        raise SourceRefusedError(f"{_host(url)}: only https is spoken with it", "begin the URL with https://")
    return False


def _host(url: str) -> str:
    """Return the host and port of a URL that may be malformed, for texts."""
    return re.split(r"[/?#\\]", url.partition("://")[2], maxsplit=1)[0].rpartition("@")[2]


def _origin(url: str) -> str:
    return f"{url.partition('://')[0]}://{_host(url)}".lower()


def _too_long(url: str, limit_bytes: int) -> BadAnswerError:
    return BadAnswerError(
        f"{_host(url)}: answered more than {limit_bytes} bytes",
        "check that the endpoint is the service that you mean",
    )


def _prepare(
    method: str, url: str, headers: Mapping[str, str], body: bytes, connection: str
) -> requests.PreparedRequest:
    own = {"Accept-Encoding": "identity", "Connection": connection, "User-Agent": USER_AGENT}
    return requests.Request(method, url, headers={**headers, **own}, data=body).prepare()


def _attempt(url: str, deadline: Deadline, proxy: Proxy | None) -> Attempt:
    return Attempt(
        host=_host(url),
        proxy=proxy,
        seconds=deadline.seconds,
        connect_s=deadline.connect_s,
        connected=deadline.connected,
        expired=deadline.expired,
    )
