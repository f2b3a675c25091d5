"""Judgement of a program's path: who could exchange the program, by the file or any directory on the way to it.

A command that root runs is as trustworthy as the least trusted directory above it: whoever can write that directory
can exchange the program between the check and the exec. So every component is judged, those that links lead through
too. Root, the agent and the user that runs the program may own them; a directory may be open to others only if it is
sticky, as /tmp is, where nobody can rename another's file. Since nobody else can then rename anything on the way, the
program that was judged is the one that runs.

Two groups may write a directory all the same: root's own, and `staff` in /usr/local, which Debian trusts with what
root finds in its PATH (Debian Policy 9.1.2); not if an ACL names others besides. The rule behind it: docs/adr/0015.

Rejected: fexecve of a descriptor that was checked, because a script is opened again by its interpreter, by name.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Collection, Iterator
from pathlib import PurePosixPath

from agent.core.problem import Problem
from agent.system.accounts import Account, find_account, find_group, group_name, user_name
from agent.system.files import writers_problem
from agent.system.trusted_directory import MAX_LINKS

_ACL = "system.posix_acl_access"
_ELSEWHERE = "or move the program to a directory of root's, such as /usr/local/sbin"


def program_problem(program: str, runner: Account, instead: str = "") -> Problem | None:
    """Return who besides root, the agent and `runner` decides what is run under an absolute path; None for nobody.

    A program that is not there is a problem too, because somebody may put it there before it is run. One in a
    directory that the agent may not enter is none: then only `runner` can run it, with their own rights.

    Args:
        program: absolute.
        runner: who runs it.
        instead: the beginning of the remedy where another user decides, with `{owner}` for their name.
    """
    trusted = {0, os.geteuid(), runner.uid}
    try:
        for path, found in _way(program):
            problem = _component_problem(path, found, program, runner, trusted, instead)
            if problem is not None:
                return problem
    except PermissionError:
        return None
    except RecursionError:
        return Problem(f"{program}: there are too many symbolic links on the way", "name the program itself")
    except OSError as err:
        return Problem(f"{program}: {err.strerror}", "install it, or correct the command")
    return None


def _way(program: str) -> Iterator[tuple[str, os.stat_result]]:
    """Yield every directory, link and file from / to the program at the end of the links, outermost first.

    Raises:
        OSError: it cannot be looked at any further.
        RecursionError: links lead in a circle.
    """
    here, todo, links = "/", _parts(program), 0
    yield here, os.lstat(here)
    while todo:
        part = todo.pop()
        if part == "..":
            here = os.path.dirname(here)  # `here` has no links any more, so its parent is the one in its name
            continue
        there = os.path.join(here, part)
        found = os.lstat(there)
        yield there, found
        if not stat.S_ISLNK(found.st_mode):
            here = there
            continue
        links += 1
        if links > MAX_LINKS:
            raise RecursionError(program)
        target = os.readlink(there)
        here = "/" if target.startswith("/") else here
        todo.extend(_parts(target))


def _parts(path: str) -> list[str]:
    return [part for part in reversed(path.split("/")) if part not in ("", ".")]


def _component_problem(
    path: str, found: os.stat_result, program: str, runner: Account, trusted: Collection[int], instead: str
) -> Problem | None:
    """Judge one component, whose parent nobody else can write."""
    quoted = shlex.quote(path)
    if found.st_uid not in trusted:
        owner = user_name(found.st_uid)
        what = f"{path}: it belongs to {owner}, who so decides what {runner.name} runs"
        give = "chown -h" if stat.S_ISLNK(found.st_mode) else "chown"
        more = f", {_ELSEWHERE}" if stat.S_ISDIR(found.st_mode) else ""
        as_them = instead.format(owner=owner) if find_account(str(found.st_uid)) else ""
        return Problem(what, f"{as_them}`{give} root {quoted}`{more}")
    if stat.S_ISLNK(found.st_mode):
        return None  # nobody can edit a link, and who could replace it was judged with its directory
    if not stat.S_ISDIR(found.st_mode):
        return writers_problem(found, path, also=runner.uid)
    if found.st_mode & stat.S_ISVTX:
        return None  # nobody can rename another's file in a sticky directory
    if found.st_mode & stat.S_IWOTH:
        what = f"{program}: everybody can replace it, because everybody can write {path}"
        return Problem(what, f"`chmod o-w {quoted}`, {_ELSEWHERE}")
    if found.st_mode & stat.S_IWGRP and not _is_roots_group(path, found):
        what = f"{program}: group {group_name(found.st_gid)} can replace it, because it can write {path}"
        return Problem(what, f"`chmod g-w {quoted}`, {_ELSEWHERE}")
    return None


def _is_roots_group(path: str, found: os.stat_result) -> bool:
    """Return whether the group that may write a directory is one whose members are trusted like root."""
    staff = PurePosixPath(path).is_relative_to("/usr/local") and found.st_gid == find_group("staff")
    return (found.st_gid == 0 or staff) and _ACL not in _attributes(path)


def _attributes(path: str) -> list[str]:
    try:
        return os.listxattr(path, follow_symlinks=False)
    except OSError:  # a file system without any
        return []
