"""The proxy that the environment names: what cannot be used is told by the variable's name and the cause, and never quoted."""

from __future__ import annotations

import errno
import os
from typing import Any

import pytest

from agent.cloud.deadline import Deadline
from agent.cloud.proxy import proxy_for
from agent.cloud.transport import Transport
from agent.core.errors import SourceRefusedError, SourceUnavailableError

URL = "https://kms.example/"


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable but those of the test."""
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


CANNOT_BE = {
    "a port that is none": "http://user:Canary@proxy:notaport",
    "a port past the last": "http://proxy:99999",
    "port 0": "http://proxy:0",
    "another protocol": "ftp://user:Canary@proxy:1",
    "SOCKS": "socks5://proxy:1080",
    "no host": "http://",
    "no host, a user": "http://user:Canary@",
    "no scheme": "://Canary",
    "a blank": "proxy Canary:3128",
    "half an address": "http://[::1",
    "an empty label": "http://a..b:1",
    "not ASCII": "http://прокси:1",
    "a line break": "http://proxy:1\n",
    "an unescaped password": "http://user:Can/ary@proxy:1",
}


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])
@pytest.mark.parametrize("story", CANNOT_BE)
def test_an_impossible_proxy_is_told_by_its_variable(
    story: str, variable: str, monkeypatch: pytest.MonkeyPatch, shown: Any
) -> None:
    """Before anything is sent, as an error that trying again does not mend; the value may hold a password."""
    monkeypatch.setenv(variable, CANNOT_BE[story])
    with pytest.raises(SourceRefusedError) as caught:
        Transport().request("GET", URL, headers={}, timeout_s=5)
    assert f"environment variable {variable} names no proxy" in caught.value.problem
    assert "NO_PROXY" in caught.value.remedy
    assert "Can" not in shown(caught.value) and not caught.value.retryable


POSSIBLE = {
    "http://proxy:3128": "proxy:3128",
    "proxy:3128": "proxy:3128",
    "https://proxy": "proxy",
    "http://user:p%40ss@10.0.0.1:8080/": "10.0.0.1:8080",
    "http://[::1]:3128": "[::1]:3128",
    "http://my_proxy:3128": "my_proxy:3128",
    "HTTP://Proxy.Example.:1": "proxy.example.:1",
}


@pytest.mark.parametrize("url", POSSIBLE)
def test_a_possible_proxy_is_taken_as_it_is(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The address for texts has neither user nor password."""
    monkeypatch.setenv("HTTPS_PROXY", url)
    found = proxy_for(URL)
    assert found is not None
    assert (found.url, found.address, found.variable) == (url, POSSIBLE[url], "HTTPS_PROXY")


def test_the_lower_case_variable_wins_and_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in curl and `requests`; a host in NO_PROXY is asked directly, whatever the proxy's variable holds."""
    monkeypatch.setenv("HTTPS_PROXY", "http://good:1")
    monkeypatch.setenv("https_proxy", "http://:bad")
    with pytest.raises(SourceRefusedError, match="variable https_proxy names"):
        proxy_for(URL)
    monkeypatch.setenv("NO_PROXY", "kms.example")
    assert proxy_for(URL) is None


def test_a_proxy_without_a_name_server_entry_is_told_by_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The remedy is one that can be typed, and names the variable, not the endpoint."""
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.invalid:3128")
    with pytest.raises(SourceUnavailableError, match=r"the proxy proxy\.invalid:3128: ") as caught:
        Transport().request("GET", URL, headers={}, timeout_s=5)
    assert "HTTPS_PROXY" in caught.value.remedy and caught.value.remedy.endswith("getent hosts proxy.invalid")


def test_what_this_machine_does_not_give_is_not_blamed_on_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a descriptor for the socket neither endpoint nor firewall is to be checked."""

    def none_left(*_: Any) -> Any:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(Deadline, "connect", none_left)
    with pytest.raises(SourceUnavailableError) as caught:
        Transport().request("GET", URL, headers={}, timeout_s=5)
    assert "LimitNOFILE" in caught.value.remedy and "endpoint" not in caught.value.remedy
