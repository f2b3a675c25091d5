"""The other end of a Unix socket, by the kernel's word: unix(7)."""

from __future__ import annotations

import socket
import struct

SO_PEERGROUPS = 59
SO_PEERPIDFD = 77
MAX_GROUPS_BYTES = 1024  # 256 groups; Python's getsockopt takes no larger buffer


def peer_ids(channel: socket.socket) -> tuple[int, int, int]:
    """Return pid, uid and gid of the other end (SO_PEERCRED). For a client these are of whoever called listen(2)."""
    raw = channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid, uid, gid = struct.unpack("3i", raw)
    return pid, uid, gid


def groups_of(channel: socket.socket) -> frozenset[int]:
    """Return the supplementary groups of the other end (SO_PEERGROUPS, Linux >= 4.13).

    Empty where the kernel is older, or the user is in more than 256: then the primary group alone counts.
    """
    try:
        listed = channel.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, MAX_GROUPS_BYTES)
    except OSError:
        return frozenset()
    return frozenset(struct.unpack(f"{len(listed) // 4}I", listed))


def peer_pidfd(channel: socket.socket) -> int | None:
    """Return a pidfd of the process on the other end (SO_PEERPIDFD, Linux >= 6.5), for the caller to close.

    None where the kernel cannot give one: an older one, or the process is gone.
    """
    try:
        return channel.getsockopt(socket.SOL_SOCKET, SO_PEERPIDFD)
    except OSError:
        return None
