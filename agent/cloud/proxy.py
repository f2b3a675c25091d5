"""The proxy that the environment names for a URL, judged before anything is sent.

`requests` and urllib3 take what they find and fail in five ways, none of which names the variable. A proxy's URL may hold a
user and a password, so no text shows more of it than scheme, host and port.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from agent.cloud.http_library import requests
from agent.core.errors import SourceRefusedError

_VARIABLES = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
"""In the order in which `requests` looks; the lower-case spelling wins."""

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]{0,15})://", re.I)


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy.

    Attributes:
        url: as the variable has it.
        address: its host and port, for texts.
        variable: the variable that names it.
    """

    url: str
    address: str
    variable: str


def proxy_for(url: str) -> Proxy | None:
    """Return the proxy through which `url` is asked; None for a direct connection.

    Raises:
        SourceRefusedError: the variable that names it holds what cannot be used; the text names the variable and the cause.
    """
    found = requests.utils.select_proxy(url, requests.utils.get_environ_proxies(url))
    if not found:
        return None
    variable = next((name for name in _VARIABLES if os.environ.get(name) == found), "HTTPS_PROXY")
    address, fault = _judged(found)
    if fault:
        raise SourceRefusedError(
            f"the environment variable {variable} names no proxy that can be used: {fault}",
            "write it like http://HOST:PORT, unset it, or name the host that is asked in NO_PROXY",
        )
    return Proxy(found, address, variable)


def _judged(url: str) -> tuple[str, str]:
    """Return host and port of a proxy's URL, and what is wrong with it, "" where it can be used."""
    scheme = _SCHEME.match(url)
    if scheme and scheme[1].lower() not in ("http", "https"):
        return "", f"{scheme[1]}:// is not supported, http:// and https:// are"
    if not scheme and "://" in url:
        return "", "it has no scheme before ://"
    if not url.isascii() or not url.isprintable() or " " in url:
        return "", "it has a blank, a control character or a character outside ASCII"
    try:
        parts = parse_url(url if scheme else f"http://{url}")
    except LocationParseError:
        return "", "its host or port is malformed"
    if not parts.host:
        return "", "it has no host"
    if any(not 1 <= len(label) <= 63 for label in parts.host.removesuffix(".").split(".")):
        return "", "its host is malformed"
    if parts.port == 0:
        return "", "its port is 0"
    return f"{parts.host}:{parts.port}" if parts.port else parts.host, ""
