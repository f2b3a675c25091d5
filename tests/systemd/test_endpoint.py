"""The credentials endpoint under the hardened unit: the kernel says who asks, once systemd-setup has let it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.systemd.machine import Machine

URI = "/etc/uploader/uri.env"
ASK = """\
import sys, urllib.error, urllib.request
try:
    print(urllib.request.urlopen(sys.argv[1]).status)
except urllib.error.HTTPError as error:
    print(error.code, end=error.read().decode())
"""


@pytest.fixture
def served(machine: Machine) -> Iterator[Machine]:
    """A machine whose uploader has a URI, for its own user alone; not started."""
    sink = f'[[credentials.uploader.sinks]]\ntype = "credentials_uri"\npath = "{URI}"\nowner = "keyturn"\n'
    serve = '[credentials.uploader.serve]\nusers = ["uploader"]\n'
    endpoint = '[agent.endpoint]\nlisten = "127.0.0.1:8911"\n'
    machine.configure(serve, sink=f'{sink}group = "uploader"\nmode = "0640"\n', agent=endpoint)
    yield machine
    machine.configure()
    machine.setup()


def asked(machine: Machine, user: str) -> str:
    """What a process of this user is answered."""
    uri = machine.bed.read(URI).strip().partition("=")[2]
    done = machine.bed.run("python3", "-c", ASK, uri, user=user)
    return done.stdout.strip()


def test_only_the_user_that_serve_names_is_answered(served: Machine) -> None:
    """Who has the token and is another user is refused; both by the kernel's word, through the sandbox."""
    served.setup()
    served.start()
    assert (asked(served, "uploader"), asked(served, "stranger")) == ("200", "403")
    check = served.keyturn("check", "--offline")
    assert "the kernel does not tell" not in check.both, check.both


def test_without_the_drop_in_nobody_is_answered_and_it_is_said(served: Machine) -> None:
    """The unit as it is shipped knows no AF_NETLINK: whom `serve` names is refused then, never let in; the log has the remedy."""
    served.start()
    assert (asked(served, "uploader"), asked(served, "stranger")) == ("403", "403")
    assert "systemd-setup --install" in served.journal()
