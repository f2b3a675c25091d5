"""Processes as /proc shows them, parsed in one place: proc(5).

A pid alone identifies nothing: another process may get it between two reads. So callers either hold a pidfd and
see that it is still alive after reading (`agent.system.pidfd`), or ask about children that they have not reaped.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_DEAD = frozenset("ZXx")


@dataclass(frozen=True, slots=True)
class Stat:
    """A line of /proc/PID/stat.

    Attributes:
        program: its program's own name for itself, which everybody may see, of at most 15 bytes.
        parent: the pid of the process that started it, or took it over; 0 for none.
        group: the process group's number.
        started_boot_s: CLOCK_BOOTTIME seconds at which the process started, floored to a tick (10 ms).
        dead: a zombie, or on its way out.
    """

    program: bytes
    parent: int
    group: int
    started_boot_s: float
    dead: bool


def read_stat(pid: int) -> Stat:
    """Read /proc/PID/stat.

    Raises:
        OSError: there is no such process, or this user may not see it (hidepid, ProtectProc=).
    """
    text = _read(pid, "stat")
    # The second field is the program's own name for itself, blanks and brackets included: cut after the last one.
    end = text.rindex(b")")
    fields = text[end + 2 :].split()
    return Stat(
        program=text[text.index(b"(") + 1 : end],
        parent=int(fields[1]),
        group=int(fields[2]),
        started_boot_s=int(fields[19]) / _TICKS_PER_S,
        dead=fields[0].decode() in _DEAD,
    )


def read_uid(pid: int) -> int:
    """Return the effective uid of a process, which decides what it may do.

    Raises:
        OSError: as `read_stat`.
    """
    for line in _read(pid, "status").splitlines():
        if line.startswith(b"Uid:"):
            return int(line.split()[2])
    raise ProcessLookupError(pid)


def read_unit(pid: int) -> str:
    """Return the system's service that a process runs in, such as "web.service"; "" for none, or a user's own.

    Raises:
        OSError: as `read_stat`.
    """
    return unit_in(_read(pid, "cgroup").decode("utf-8", "replace"))


def _read(pid: int, name: str) -> bytes:
    """Read a file of a process. By a plain path: it is read for every answer that is served."""
    with open(f"{PROC}/{pid}/{name}", "rb", buffering=0) as file:
        return file.read()


def unit_in(cgroups: str) -> str:
    """Return the service that a /proc/PID/cgroup names (cgroups(7): version 2, or systemd's own hierarchy of version 1)."""
    for line in cgroups.splitlines():
        hierarchy, _colon, path = line.partition("::") if line.startswith("0::") else line.partition(":name=systemd:")
        parts = path.split("/")
        services = [part for part in parts if part.endswith(".service")]
        if hierarchy and services and "user.slice" not in parts:
            return services[0]
    return ""


def wall_time_s(boot_s: float) -> float:
    """Convert an instant of CLOCK_BOOTTIME into seconds since the epoch, by the present wall clock."""
    offset_s = time.clock_gettime(time.CLOCK_REALTIME) - time.clock_gettime(time.CLOCK_BOOTTIME)
    return boot_s + offset_s


def wall_time_of_monotonic_s(monotonic_s: float) -> float:
    """Convert an instant of CLOCK_MONOTONIC; the result is too late by the time spent in suspend since then."""
    return time.clock_gettime(time.CLOCK_REALTIME) - time.clock_gettime(time.CLOCK_MONOTONIC) + monotonic_s


def pids() -> Iterator[int]:
    """Yield the pid of every process that this user may see, lowest first."""
    return iter(sorted(int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit()))


def group_is_empty(group: int) -> bool:
    """Return whether no process of a group lives any more; zombies do not count."""
    return not any(_lives_in(pid, group) for pid in pids())


def _lives_in(pid: int, group: int) -> bool:
    try:
        stat = read_stat(pid)
    except OSError:
        return False
    return stat.group == group and not stat.dead
