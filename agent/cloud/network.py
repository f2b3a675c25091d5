"""The failures between this machine and a host, put into plain words by one table.

The texts are made from the kind of an exception only. The text of an exception of urllib3 or requests may hold
the signed URL, so neither it nor the exception itself (as a cause) goes any further.
"""

from __future__ import annotations

import errno
import http.client
import os
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass

import urllib3

from agent.cloud.http_library import requests
from agent.cloud.proxy import Proxy
from agent.core.errors import BadAnswerError, KeyturnError, SourceRefusedError, SourceUnavailableError
from agent.system import oserrors

FAILURES = (requests.RequestException, urllib3.exceptions.HTTPError, http.client.HTTPException, OSError, UnicodeError)
"""What a call can end with before a whole reply is there."""


class UntrustedServerError(SourceRefusedError):
    """The certificate of the server that answered does not prove that it is the host that was meant.

    Not retryable: either the trust store, the endpoint or the clock must be mended, or somebody is in
    the way. Nothing was sent to that server.
    """


@dataclass(frozen=True, slots=True)
class Attempt:
    """The facts about a failed call that its exception does not hold."""

    host: str
    proxy: Proxy | None  # None: a direct connection
    seconds: float
    connect_s: float
    connected: bool
    expired: bool


_CHECK_PATH = "check the endpoint, the route and the firewall between this machine and it"
_OF_THIS_MACHINE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})  # neither host nor route has to do with it
_OTHER_NAME = frozenset({62, 64})  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH (OpenSSL x509_vfy.h)
_OUT_OF_DATE = {9: "is not valid yet", 10: "has expired"}  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED


def explain(error: BaseException, attempt: Attempt) -> KeyturnError:
    """Make the error for a call that failed before a whole reply was there."""
    causes = tuple(_causes(error))
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return _untrusted(cause, attempt.host)
    if attempt.expired:
        return _timed_out(attempt)
    for cause in causes:
        words = _words(cause, attempt)
        if words is not None:
            return words
    return SourceUnavailableError(f"{attempt.host}: the call failed ({type(causes[-1]).__name__})", _CHECK_PATH)


def went_away(error: BaseException) -> bool:
    """Return whether a call ended because the other side had closed the connection, or takes nothing from it any more."""
    gone = (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError)
    return any(
        isinstance(cause, gone) or (isinstance(cause, OSError) and cause.errno == errno.ETIMEDOUT)
        for cause in _causes(error)
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the exceptions inside of an exception of urllib3 or requests, innermost first."""
    inner = (getattr(error, "reason", None), *error.args, error.__cause__ or error.__context__)
    for each in inner:
        if isinstance(each, BaseException):
            yield from _causes(each)
    yield error


def _words(cause: BaseException, attempt: Attempt) -> KeyturnError | None:
    met = _Met.of(attempt)
    if isinstance(cause, socket.gaierror):
        return met.no_such_host(cause)
    if isinstance(cause, UnicodeError | urllib3.exceptions.LocationParseError):
        return SourceRefusedError(f"{met.name}: not a host name", f"correct {met.written_in}")
    if isinstance(cause, TimeoutError):
        return _timed_out(attempt)
    if isinstance(cause, ConnectionRefusedError):
        return SourceUnavailableError(f"{met.name}: connection refused", met.check_path)
    if isinstance(cause, ConnectionError | ssl.SSLEOFError | ssl.SSLZeroReturnError | http.client.IncompleteRead):
        return SourceUnavailableError(
            f"{met.name}: the connection was closed before a whole answer came", met.check_path
        )
    if isinstance(cause, ssl.SSLError):
        return _no_tls(cause, met.name)
    if isinstance(cause, http.client.HTTPException):
        return BadAnswerError(
            f"{met.name}: answered something that is not HTTP", f"check the host and port in {met.written_in}"
        )
    if attempt.proxy and type(cause) is OSError and str(cause).startswith("Tunnel connection failed"):  # http.client
        said = f"{attempt.host}: the proxy {attempt.proxy.address} refused to connect to it"
        return SourceUnavailableError(said, f"check {attempt.proxy.variable} and NO_PROXY, and what the proxy allows")
    if isinstance(cause, OSError) and cause.errno in _OF_THIS_MACHINE:
        why = oserrors.explain(cause, "")
        return SourceUnavailableError(f"{met.name} cannot be asked: {why.text}", why.remedy)
    if isinstance(cause, OSError) and cause.errno in errno.errorcode:
        return SourceUnavailableError(f"{met.name}: {os.strerror(cause.errno or 0).lower()}", met.check_path)
    return None


@dataclass(frozen=True, slots=True)
class _Met:
    """The host with which a call failed: the endpoint, or the proxy before it.

    Attributes:
        name: for a text.
        address: "host" or "host:port".
        written_in: where an operator wrote it.
        check_path: the remedy for a host that cannot be reached.
    """

    name: str
    address: str
    written_in: str
    check_path: str

    @classmethod
    def of(cls, attempt: Attempt) -> _Met:
        proxy = attempt.proxy
        if proxy is None or attempt.connected:
            return cls(attempt.host, attempt.host, "the endpoint in the config", _CHECK_PATH)
        check = (
            f"check {proxy.variable} and NO_PROXY, and the route and the firewall between this machine and the proxy"
        )
        return cls(f"the proxy {proxy.address}", proxy.address, f"the environment variable {proxy.variable}", check)

    def no_such_host(self, error: socket.gaierror) -> KeyturnError:
        host = self.address.rsplit(":", 1)[0] if self.address.count(":") == 1 else self.address
        remedy = f"check {self.written_in} and this machine's DNS: getent hosts {host}"
        if error.errno == socket.EAI_AGAIN:
            return SourceUnavailableError(f"{self.name}: the name server does not answer", remedy)
        return SourceUnavailableError(f"{self.name}: no such host", remedy)


def _timed_out(attempt: Attempt) -> KeyturnError:
    if not attempt.connected:
        met, waited = _Met.of(attempt), min(attempt.seconds, attempt.connect_s)
        return SourceUnavailableError(f"{met.name}: no connection within {waited:g} s", met.check_path)
    return SourceUnavailableError(
        f"{attempt.host}: timed out, no whole answer within {attempt.seconds:g} s",
        "it is overloaded or something between does not pass the answer on; it is tried again",
    )


def _no_tls(error: ssl.SSLError, host: str) -> KeyturnError:
    reason = (error.reason or "unknown").replace("_", " ").lower()
    return SourceUnavailableError(f"{host}: the TLS handshake failed ({reason})", "check the endpoint's host and port")


def _untrusted(error: ssl.SSLCertVerificationError, host: str) -> KeyturnError:
    code = error.verify_code
    if code in _OTHER_NAME:
        return UntrustedServerError(
            f"{host}: its TLS certificate is for another host name",
            "check the endpoint's name, and whether somebody answers in its place",
        )
    if code in _OUT_OF_DATE:
        remedy = "check this machine's clock, then renew the certificate"
        return UntrustedServerError(f"{host}: its TLS certificate {_OUT_OF_DATE[code]}", remedy)
    return UntrustedServerError(
        f"{host}: its TLS certificate is not from an authority that this machine trusts",
        "name the authority's certificate in cloud.ca_file if it is your own, else find out who answers there",
    )
