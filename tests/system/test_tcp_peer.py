"""Who holds the other end of a TCP connection, as the kernel says: never more than it knows."""

from __future__ import annotations

import os
import socket
import threading

import pytest

from agent.system.tcp_peer import tcp_peer
from tests.support.processes import in_child

NOBODY = 65534


def joined(family: int = socket.AF_INET, host: str = "127.0.0.1", to: str = "127.0.0.1") -> tuple[socket.socket, ...]:
    """A client and the server's end of one connection."""
    with socket.create_server((to, 0), family=socket.AF_INET6 if ":" in to else socket.AF_INET) as listener:
        client = socket.socket(family)
        client.connect((host, listener.getsockname()[1]))
        return client, listener.accept()[0]


WAYS = {
    "IPv4": (socket.AF_INET, "127.0.0.1", "127.0.0.1"),
    "a socket of IPv6 to an address of IPv4, as Java's are": (socket.AF_INET6, "::ffff:127.0.0.1", "127.0.0.1"),
    "IPv6": (socket.AF_INET6, "::1", "::1"),
}


@pytest.mark.parametrize("way", WAYS)
def test_the_uid_of_an_open_connection(way: str) -> None:
    """Also of one whose client has nothing more to say; not of one that its client closed, which the kernel calls root's."""
    try:
        client, ours = joined(*WAYS[way])
    except OSError as error:
        pytest.skip(f"no {way} here: {error.strerror}")
    with client, ours:
        found = tcp_peer(ours)
        assert found is not None and found.uid == os.geteuid()
        assert found.inode == os.fstat(client.fileno()).st_ino
        client.shutdown(socket.SHUT_WR)
        assert tcp_peer(ours) == found
        client.close()
        assert tcp_peer(ours) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
def test_another_user_is_another_uid() -> None:
    """That of the process which made the socket."""
    seen: list[int | None] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def ask() -> None:
            with socket.create_connection(listener.getsockname(), 20.0) as channel:
                channel.recv(1)

        def answer() -> None:
            channel, _address = listener.accept()
            with channel:
                found = tcp_peer(channel)
                seen.append(found.uid if found else None)

        answering = threading.Thread(target=answer)
        answering.start()
        assert in_child(ask, user=NOBODY) == 0
        answering.join()
    assert seen == [NOBODY]


def test_a_listener_on_the_same_port_is_nobodys_other_end() -> None:
    """The kernel finds it where there is no connection any more."""
    client, ours = joined()
    with ours:
        port = client.getsockname()[1]
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            other.bind(("127.0.0.1", port))
            other.listen()
            assert tcp_peer(ours) is None
