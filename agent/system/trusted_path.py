"""Opening a file whose whole path is trusted: every directory and link on the way is judged, and the end is opened once.

A file is as trustworthy as the least trusted directory above it: whoever can write that directory can put another file
in its place. So each component is opened relative to the one before, without following links, and judged by its own
descriptor; what is returned is the descriptor of the file itself, and whoever judges or reads it further uses that. A
second look-up of the same name would be a second chance for whoever wants to exchange it.

Root and the agent may own what is on the way. A directory may be open to others only if it is sticky, as /tmp is, where
nobody can rename another's file. Two groups may write a directory all the same: root's own, and `staff` in
/usr/local, which Debian trusts with what root finds in its PATH (Debian Policy 9.1.2); not if an ACL names others
besides. The rule behind it: docs/adr/0015.
"""

from __future__ import annotations

import errno
import os
import shlex
import stat
from collections.abc import Callable

from agent.core.errors import CredentialFileError
from agent.core.problem import Problem
from agent.system.accounts import find_group, group_name, user_name

MAX_LINKS = 40
"""The number of links that the kernel itself follows (path_resolution(7))."""

Judge = Callable[[str, os.stat_result, bool], None]
"""Is called with each directory and link on a path, resolved so far, with its stat, and whether it is the last component;
raises to refuse it."""

EVERYBODY = "everybody"
_ACL = "system.posix_acl_access"
_STEP = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_HANDED_OVER = "/run/credentials/"  # systemd alone writes there, and gives what is in it to the users of services


def open_judged(path: str, flags: int, judge: Judge) -> int:
    """Return a descriptor of what an absolute path leads to, once `judge` has accepted every component.

    A file at the end is opened by its name in the directory that was judged last, so its own owner and mode are for
    the caller to judge, by the descriptor.

    Raises:
        OSError: it cannot be opened; ELOOP for too many links on the way.
    """
    todo, links, shown = _parts(path), 0, "/"
    here = os.open("/", _STEP | os.O_DIRECTORY)
    try:
        judge(shown, os.fstat(here), not todo)
        while todo:
            name = todo.pop()
            there = os.path.dirname(shown) if name == ".." else os.path.join(shown, name)
            below = os.open(name, _STEP, dir_fd=here)
            try:
                found, target = os.fstat(below), ""
                judge(there, found, not todo)
                if stat.S_ISLNK(found.st_mode):
                    target = os.readlink("", dir_fd=below)
                elif not todo and not stat.S_ISDIR(found.st_mode):
                    return os.open(name, flags | os.O_NOFOLLOW, dir_fd=here)
                else:
                    here, below, shown = below, here, there
            finally:
                os.close(below)
            if not target:
                continue
            links += 1
            if links > MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            todo.extend(_parts(target))
            if target.startswith("/"):
                os.close(here)
                here, shown = os.open("/", _STEP | os.O_DIRECTORY), "/"
        return os.open(".", flags & ~os.O_NOFOLLOW, dir_fd=here)  # an O_PATH descriptor cannot be read or listed
    finally:
        os.close(here)


def open_trusted(path: os.PathLike[str] | str, flags: int, also: int | None = None) -> int:
    """Return a descriptor of a file or directory on whose path nobody besides root and the agent's user has a say.

    Whether the end itself is in order is for the caller to judge, by the descriptor.

    Args:
        path: the file or directory.
        flags: of open(2).
        also: the uid of one more user to whom directories on the way may belong.

    Raises:
        CredentialFileError: somebody has; the text says who, and where.
        OSError: it cannot be opened.
    """
    named = str(path)

    def judge(shown: str, found: os.stat_result, is_last: bool) -> None:
        if not is_last or stat.S_ISLNK(found.st_mode):
            problem = step_problem(shown, found, named, also)
            if problem is not None:
                raise CredentialFileError.of(problem)

    return open_judged(os.path.join(os.getcwd(), named), flags, judge)


def step_problem(shown: str, found: os.stat_result, path: str, also: int | None = None) -> Problem | None:
    """Return who besides root and the agent's user could lead a path elsewhere at a directory or link on it."""
    quoted = shlex.quote(shown)
    if found.st_uid not in (0, os.geteuid(), also) and not (os.geteuid() == 0 and shown.startswith(_HANDED_OVER)):
        give = "chown -h root" if stat.S_ISLNK(found.st_mode) else "chown root"
        return Problem(
            f"{path}: user {user_name(found.st_uid)} could put another file in its place, because {shown} belongs to them",
            f"`{give} {quoted}`, or move it to a directory of root's, such as /etc/keyturn",
        )
    group = writing_group(shown, found)
    if group:
        return Problem(
            f"{path}: {group} could put another file in its place, because {shown} can be written by them",
            f"`chmod go-w {quoted}`, or move it to a directory of root's, such as /etc/keyturn",
        )
    return None


def writing_group(shown: str, found: os.stat_result) -> str:
    """Return who besides its owner can exchange what is in a directory: `EVERYBODY`, a group, or "" for nobody."""
    if not stat.S_ISDIR(found.st_mode) or found.st_mode & stat.S_ISVTX:
        return ""  # nobody can edit a link, nor rename another's file in a sticky directory
    if found.st_mode & stat.S_IWOTH:
        return EVERYBODY
    if found.st_mode & stat.S_IWGRP and not _is_roots_group(shown, found):
        return f"group {group_name(found.st_gid)}"
    return ""


def writers_problem(found: os.stat_result, path: str, heir: str = "root", also: int | None = None) -> Problem | None:
    """Return who besides root and the agent's user can write a file or directory; None for nobody.

    Args:
        found: its stat.
        path: for the text.
        heir: the user to whom the remedy gives it.
        also: the uid of one more user to whom it may belong.
    """
    if found.st_uid not in (0, os.geteuid(), also):
        remedy = f"chown {heir} {shlex.quote(path)}"
        return Problem(f"{path}: it belongs to user {user_name(found.st_uid)}, who could change it", remedy)
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        mode = stat.S_IMODE(found.st_mode)
        return Problem(
            f"{path}: its mode {mode:04o} lets others than its owner change it", f"chmod go-w {shlex.quote(path)}"
        )
    return None


def refuse_foreign_writers(found: os.stat_result, path: str) -> None:
    """Refuse a file that somebody besides root and the agent's user can write.

    Raises:
        CredentialFileError: somebody can; the text says who.
    """
    problem = writers_problem(found, path)
    if problem is not None:
        raise CredentialFileError.of(problem)


def _is_roots_group(path: str, found: os.stat_result) -> bool:
    """Return whether the group that may write a directory is one whose members are trusted like root."""
    staff = f"{path}/".startswith("/usr/local/") and found.st_gid == find_group("staff")
    return (found.st_gid == 0 or staff) and _ACL not in _attributes(path)


def _attributes(path: str) -> list[str]:
    try:
        return os.listxattr(path, follow_symlinks=False)
    except OSError:  # a file system without any
        return []


def _parts(path: str) -> list[str]:
    """Return the components of a path, last first: the stack of steps still to take."""
    return [part for part in reversed(path.split("/")) if part not in ("", ".")]
