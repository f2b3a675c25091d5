"""Who asks: the process on the other end of a local socket, by the kernel's word, and the process that it asks for.

`keyturn credential` is started by the application that needs the value, and ends with its answer. So what is remembered
is the process that started it. Who may have the value is judged by the uid and the groups alone: those of the socket's
peer, which nobody can feign.

The process is held by a descriptor while /proc is read (SO_PEERPIDFD, Linux 6.5; pidfd_open(2) before), so that a recycled
pid is not taken for it. Where /proc hides other users' processes (ProtectProc=invisible), only uid and groups are known.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass

from agent.system import procfs
from agent.system.pidfd import Process
from agent.system.socket_peer import groups_of, peer_ids, peer_pidfd

INIT = 1


@dataclass(frozen=True)
class Peer:
    """Who asks.

    Attributes:
        uid: of the process that is connected.
        gids: the groups that it is in.
        pid: of the process that keeps the answer; None where that is not known.
        executable: its path, or the name that it gives itself where this user may not see more; "" for unknown.
        unit: its service of the system, such as "web.service"; "" for none.
    """

    uid: int
    gids: frozenset[int]
    pid: int | None = None
    executable: str = ""
    unit: str = ""

    def __str__(self) -> str:
        what = f"pid {self.pid} {self.executable}".rstrip() if self.pid is not None else f"a process of uid {self.uid}"
        return f"{what} ({self.unit})" if self.unit else what


def peer_of(channel: socket.socket) -> Peer:
    """Return who is on the other end of a Unix socket; what /proc does not show is left out."""
    pid, uid, gid = peer_ids(channel)
    gids = frozenset({gid, *groups_of(channel)})
    try:
        with Process.held(pid, peer_pidfd(channel)) as process:
            unit = procfs.read_unit(pid)
            parent = procfs.read_stat(pid).parent
            if not process.alive():
                return Peer(uid, gids)
    except OSError:
        return Peer(uid, gids)
    keeper = parent if parent > INIT else pid
    try:
        return Peer(uid, gids, keeper, _executable(keeper), unit)
    except OSError:
        return Peer(uid, gids, None, "", unit)


def _executable(pid: int) -> str:
    """Return the path of a process's program; its own name for itself where the path is not ours to see (ptrace(2)).

    Raises:
        OSError: there is no such process, or it is hidden.
    """
    try:
        return os.readlink(f"{procfs.PROC}/{pid}/exe")
    except PermissionError:
        return procfs.read_stat(pid).program.decode("utf-8", "replace")
