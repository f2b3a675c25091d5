"""The door to the user database: who a name is, and what a process needs in order to become them."""

from __future__ import annotations

import grp
import os
import pwd
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Account:
    """A user of this machine, with every group that a login would give."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


def find_account(name: str) -> Account | None:
    """Look a user up by name, or by a decimal uid; None where the machine knows no such user."""
    try:
        entry = pwd.getpwuid(int(name)) if name.isascii() and name.isdigit() else pwd.getpwnam(name)
    except (KeyError, OverflowError, ValueError):  # ValueError: a NUL in the name
        return None
    groups = tuple(os.getgrouplist(entry.pw_name, entry.pw_gid))
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid, groups, entry.pw_dir)


def own_account() -> Account:
    """The user that this process acts as, also where the user database does not know the uid (containers)."""
    uid, gid = os.geteuid(), os.getegid()
    return find_account(str(uid)) or Account(str(uid), uid, gid, (gid,), "/")


def find_group(name: str) -> int | None:
    """The gid of a group by its name; None where the machine knows no such group."""
    try:
        return grp.getgrnam(name).gr_gid
    except (KeyError, ValueError):
        return None
