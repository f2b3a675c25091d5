"""Who holds the other end of a TCP connection on this machine, by the kernel's word (sock_diag(7)).

What it says: the uid of the process that made the client's socket, in this process's user namespace. What it cannot say: who
uses that socket now (a socket can be handed over, and its process can have changed its user since), nor which process it is.
A process in another network namespace cannot reach this one's loopback at all.

Asked for exactly one socket, which the kernel finds by its hash: /proc/net/tcp would list every connection of the machine, and
each one that this agent has just closed for a minute more. It needs the family AF_NETLINK.

A socket that its process has closed belongs to nobody, and the kernel then says uid 0: only one that is open counts.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Collection
from dataclasses import dataclass

_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST = 1
_NLMSG_ERROR = 2
_ANY_STATE = 0xFFFFFFFF
_NO_COOKIE = b"\xff" * 8
_OPEN = frozenset({1, 4, 5})
"""ESTABLISHED, FIN_WAIT1 and FIN_WAIT2 (it has nothing more to say, and waits for the answer): include/net/tcp_states.h."""
_HEADER = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBBxI")
_REPLY = struct.Struct("=BBBB48xIIIII")
_ENDS = 2 + 2 + 16 + 16
"""The bytes of two ports and two addresses."""
ANSWER_S = 1.0


@dataclass(frozen=True, slots=True)
class TcpPeer:
    """The socket on the other end: the uid of who made it, and its inode, by which /proc/PID/fd names it."""

    uid: int
    inode: int


def tcp_peer(channel: socket.socket) -> TcpPeer | None:
    """Return who holds the other end of a connection; None where that end is not open on this machine.

    Raises:
        OSError: the kernel does not tell this process (EAFNOSUPPORT under RestrictAddressFamilies= without AF_NETLINK).
    """
    try:
        ours, theirs = channel.getsockname(), channel.getpeername()
    except OSError as error:
        if error.errno == errno.ENOTCONN:
            return None  # reset since
        raise
    family = socket.AF_INET6 if channel.family == socket.AF_INET6 else socket.AF_INET
    # Their socket: its source is their address, its destination ours.
    ports, addresses = struct.pack("!HH", theirs[1], ours[1]), (theirs[0], ours[0])
    ends = ports + b"".join(_packed(family, one) for one in addresses)
    spellings = {ends}
    if family == socket.AF_INET:  # Java's sockets are IPv6, whatever they connect to
        spellings.add(ports + b"".join(_packed(socket.AF_INET6, f"::ffff:{one}") for one in addresses))
    body = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, _ANY_STATE) + ends + struct.pack("=I", 0) + _NO_COOKIE
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _SOCK_DIAG) as kernel:
        kernel.settimeout(ANSWER_S)
        length = _HEADER.size + len(body)
        kernel.sendto(_HEADER.pack(length, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 1, 0) + body, (0, 0))
        return _read(kernel.recv(8192), spellings)


def _packed(family: int, address: str) -> bytes:
    return socket.inet_pton(family, address.partition("%")[0]).ljust(16, b"\0")


def _read(answer: bytes, ends: Collection[bytes]) -> TcpPeer | None:
    _length, kind, *_ = _HEADER.unpack_from(answer)
    if kind == _NLMSG_ERROR:
        number = -struct.unpack_from("=i", answer, _HEADER.size)[0]
        if number == errno.ENOENT:
            return None
        raise OSError(number, "the kernel does not say who holds a connection")
    _family, state, _timer, _retransmits, _expires, _received, _sent, uid, inode = _REPLY.unpack_from(
        answer, _HEADER.size
    )
    # It may have found a listener on their port instead, whose other end is nobody's.
    is_theirs = answer[_HEADER.size + 4 :][:_ENDS] in ends
    return TcpPeer(uid, inode) if is_theirs and state in _OPEN and inode else None
