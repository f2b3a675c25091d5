"""The user database: who a name is, and what a process needs in order to become that user."""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Collection
from typing import Literal, NamedTuple, Protocol

from agent.core.text import nearest

AccountKind = Literal["user", "group"]


class Account(NamedTuple):
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
    """Return the user that this process acts as, even where the user database lacks the uid, as in containers."""
    uid, gid = os.geteuid(), os.getegid()
    return find_account(str(uid)) or Account(str(uid), uid, gid, (gid,), "/")


def find_group(name: str) -> int | None:
    """Return the gid of a group by its name; None where the machine knows no such group."""
    try:
        return grp.getgrnam(name).gr_gid
    except (KeyError, ValueError):
        return None


def user_name(uid: int | None = None) -> str:
    """Name a user as an operator knows them; by default the one that this process runs as."""
    number = os.geteuid() if uid is None else uid
    return _user_name(number) or f"uid {number}"


def actor_name(uid: int) -> str:
    """Name a user as the audit does: by the bare number where the machine knows no such user."""
    return _user_name(uid) or str(uid)


def _user_name(uid: int) -> str | None:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


def group_name(gid: int) -> str:
    """Name a group as an operator knows it."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return f"gid {gid}"


MAX_ID = 2**32 - 2
"""The kernel keeps 2^32 - 1 for "leave as it is" (chown(2)), so it is nobody's id."""


class Accounts(Protocol):
    """The users and groups that exist. A number always does: ownership needs no entry in the database."""

    def uid_of(self, name: str) -> int | None:
        """Return the uid of a user's name or number, None when there is no such user."""

    def gid_of(self, name: str) -> int | None:
        """Return the gid of a group's name or number, None when there is no such group."""

    def names(self, kind: AccountKind) -> Collection[str]:
        """Return the names of the users or of the groups, as far as the machine lists them."""


class SystemAccounts:
    """The accounts that the C library knows: /etc/passwd, and whatever nsswitch.conf adds."""

    def uid_of(self, name: str) -> int | None:
        """Return the uid of a user's name or number, None when there is no such user."""
        if _is_number(name):
            return _bounded(int(name))
        try:
            return pwd.getpwnam(name).pw_uid
        except (KeyError, ValueError):  # ValueError: a NUL in the name
            return None

    def gid_of(self, name: str) -> int | None:
        """Return the gid of a group's name or number, None when there is no such group."""
        if _is_number(name):
            return _bounded(int(name))
        try:
            return grp.getgrnam(name).gr_gid
        except (KeyError, ValueError):
            return None

    def names(self, kind: AccountKind) -> Collection[str]:
        """Return the names of the users or of the groups, as far as the machine lists them."""
        return (
            [entry.pw_name for entry in pwd.getpwall()]
            if kind == "user"
            else [entry.gr_name for entry in grp.getgrall()]
        )


def nearest_account(name: str, names: Collection[str]) -> str | None:
    """Return the name of the user or group that was probably meant, None where none is much like it."""
    return nearest(name, names, cutoff=0.75)


def instead(kind: AccountKind, name: str, otherwise: str) -> str:
    """Return the remedy for an account that this machine does not know: the name that was meant, or `otherwise`."""
    near = nearest_account(name, SystemAccounts().names(kind))
    return f"did you mean {near}?" if near else otherwise


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdigit() and len(name) <= 10


def _bounded(number: int) -> int | None:
    return number if number <= MAX_ID else None
