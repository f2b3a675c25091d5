"""Which processes hold a key, as far as the kernel tells this user: by an open file, by their environment, by their unit.

Decisions:
* A sink's file is replaced, so a process that opened it earlier has the one before: /proc shows it under the same path with
  ` (deleted)` behind it. That counts, too. A file that was read and closed leaves no trace.
* A process that was started with a key has the key's id in /proc/PID/environ. Only whether the id is in there is looked at,
  and nothing of it is kept.
* Both need the rights of ptrace(2) over a process: root's, or those of its own user. How many could not be looked at is counted,
  so that "none found" is never taken for "there is none".
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from agent.system.accounts import user_name
from agent.system.pidfd import DELETED
from agent.system.procfs import PROC, pids, read_stat, read_uid, read_unit, wall_time_s

MAX_ENVIRON = 4 * 1024 * 1024
KERNEL = 2
"""The pid of kthreadd, the parent of all threads of the kernel."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is looked for.

    Attributes:
        paths: of files.
        key_ids: of AccessKeys.
        units: of the system, such as "web.service".
    """

    paths: Sequence[str] = ()
    key_ids: Sequence[str] = ()
    units: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Holding:
    """A process, and what speaks for its holding a key.

    Attributes:
        executable: its path, or the name that it gives itself where this user may not see more.
        unit: its service of the system; "" for none.
        started_s: seconds since the epoch.
        opened: the paths among those looked for, of which it has a file open, be it one that was replaced.
        key_ids: those that are in its environment.
    """

    pid: int
    user: str
    executable: str
    unit: str
    started_s: float
    opened: tuple[str, ...]
    key_ids: tuple[str, ...]


@dataclass
class Search:
    """What was found so far; another thread may read it while the search goes on.

    Attributes:
        unseen: how many processes this user may not look into.
        is_hidden: processes of other users do not even show up (hidepid, ProtectProc=).
        is_complete: every process was looked at.
    """

    found: list[Holding] = field(default_factory=list)
    unseen: int = 0
    is_hidden: bool = False
    is_complete: bool = False

    def run(self, wanted: Wanted) -> None:
        """Look at every process but this one."""
        self.is_hidden = not os.path.exists(f"{PROC}/1")
        files = {os.path.realpath(path): path for path in wanted.paths}
        for pid in pids():
            if pid != os.getpid():
                self._look(pid, wanted, files)
        self.is_complete = True

    def _look(self, pid: int, wanted: Wanted, files: Mapping[str, str]) -> None:
        try:
            try:
                before = read_stat(pid)
                if before.dead or KERNEL in (pid, before.parent):
                    return
                unit = read_unit(pid)
            except PermissionError:  # it shows up, and that is all (hidepid=1)
                self.unseen += 1
                return
            try:
                opened, key_ids = _opened(pid, files), _in_environment(pid, wanted.key_ids)
            except PermissionError:
                opened, key_ids = (), ()
                self.unseen += 1
            if not (opened or key_ids or unit in wanted.units):
                return
            found = Holding(
                pid,
                user_name(read_uid(pid)),
                _executable(pid, before.program),
                unit,
                wall_time_s(before.started_boot_s),
                opened,
                key_ids,
            )
            if read_stat(pid).started_boot_s == before.started_boot_s:  # else another process has the pid by now
                self.found.append(found)
        except OSError:
            return  # it ended meanwhile


def _opened(pid: int, files: Mapping[str, str]) -> tuple[str, ...]:
    """Return the paths looked for of which a process has a file open.

    By name, and where a container sees the file under another path, by the file.

    Raises:
        PermissionError: this user may not see it.
    """
    names: dict[str, list[str]] = {}
    for path in files:
        names.setdefault(os.path.basename(path), []).append(path)
    found = []
    for descriptor in os.listdir(f"{PROC}/{pid}/fd"):
        link = f"{PROC}/{pid}/fd/{descriptor}"
        try:
            path = os.readlink(link).removesuffix(DELETED)
            if path in files:
                found.append(files[path])
                continue
            found += [files[near] for near in names.get(os.path.basename(path), ()) if os.path.samefile(link, near)]
        except OSError:
            continue  # closed meanwhile, or the file is not there
    return tuple(dict.fromkeys(found))


def _in_environment(pid: int, key_ids: Sequence[str]) -> tuple[str, ...]:
    """Return those of the ids that a process was started with.

    Raises:
        PermissionError: this user may not see it.
    """
    if not key_ids:
        return ()
    with open(f"{PROC}/{pid}/environ", "rb", buffering=0) as file:
        environ = file.read(MAX_ENVIRON)
    return tuple(key_id for key_id in key_ids if key_id.encode() in environ)


def _executable(pid: int, program: bytes) -> str:
    try:
        return os.readlink(f"{PROC}/{pid}/exe")
    except PermissionError:
        return program.decode("utf-8", "replace")
