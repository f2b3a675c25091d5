"""Who may pass the directories of a path and read what is at its end, by owner, group and mode: nobody has to become that user."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

from agent.system.accounts import Account

SEARCH, READ = 1, 4
"""The bits of a mode that let somebody pass a directory, and read a file (path_resolution(7))."""


def allows(owner: tuple[int, int], mode: int, bit: int, who: Account) -> bool:
    """Return whether owner (uid, gid) and mode give a user a right: the first class that the user is in decides."""
    uid, gid = owner
    shift = 6 if who.uid == uid else 3 if gid in {who.gid, *who.groups} else 0
    return who.uid == 0 or bool(mode >> shift & bit)


def allowed(path: str, bit: int, who: Account) -> bool:
    """Return whether a user has a right at what is there; True where that cannot be seen, or a list (acl(5)) says more.

    Args:
        path: absolute.
        bit: `SEARCH` or `READ`.
        who: the user.
    """
    try:
        found = os.stat(path)
        if "system.posix_acl_access" in os.listxattr(path):
            return True
    except OSError:
        return True
    return allows((found.st_uid, found.st_gid), found.st_mode, bit, who)


def closed_to(path: str, who: Account) -> list[str]:
    """Return the directories on the way to a path that a user may not pass, the outermost first."""
    return _closed(path, lambda directory: allowed(directory, SEARCH, who))


def closed_to_this_process(path: str) -> list[str]:
    """Return the directories on the way to a path that this process may not pass: no more than the first can be seen."""
    return _closed(path, lambda directory: os.access(directory, os.X_OK, effective_ids=True))


def opening(directories: Sequence[str]) -> str:
    """Return the command that lets everybody pass directories, and takes no right from anybody."""
    return shlex.join(("chmod", "a+x", *directories))


def _closed(path: str, passes: Callable[[str], bool]) -> list[str]:
    parents = [
        str(one) for place in (os.path.abspath(path), os.path.realpath(path)) for one in Path(place).parents[::-1]
    ]
    return list(dict.fromkeys(os.path.realpath(one) for one in parents if os.path.isdir(one) and not passes(one)))
