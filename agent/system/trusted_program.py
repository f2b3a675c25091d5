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

import errno
import os
import shlex
import stat
from collections.abc import Collection

from agent.core.errors import CredentialFileError
from agent.core.problem import Problem
from agent.system.accounts import Account, find_account, user_name
from agent.system.trusted_path import EVERYBODY, open_judged, writers_problem, writing_group

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

    def judge(path: str, found: os.stat_result, _is_last: bool) -> None:
        problem = _component_problem(path, found, program, runner, trusted, instead)
        if problem is not None:
            raise CredentialFileError.of(problem)

    try:
        os.close(open_judged(program, os.O_PATH | os.O_CLOEXEC, judge))
    except CredentialFileError as err:
        return err.as_problem()
    except PermissionError:
        return None
    except OSError as err:
        if err.errno == errno.ELOOP:
            return Problem(f"{program}: there are too many symbolic links on the way", "name the program itself")
        return Problem(f"{program}: {err.strerror}", "install it, or correct the command")
    return None


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
    group = writing_group(path, found)
    if group == EVERYBODY:
        what = f"{program}: everybody can replace it, because everybody can write {path}"
        return Problem(what, f"`chmod o-w {quoted}`, {_ELSEWHERE}")
    if group:
        what = f"{program}: {group} can replace it, because it can write {path}"
        return Problem(what, f"`chmod g-w {quoted}`, {_ELSEWHERE}")
    return None
