"""Users and groups of this machine, as far as the config names them."""

from __future__ import annotations

import grp
import pwd
from typing import Protocol

MAX_ID = 2**32 - 2
"""The kernel keeps 2^32 - 1 for "leave as it is" (chown(2)), so it is nobody's id."""


class Accounts(Protocol):
    """Who exists. A number is always somebody: ownership does not need an entry in the database."""

    def uid_of(self, name: str) -> int | None:
        """Return the uid of a user's name or number, None when there is no such user."""

    def gid_of(self, name: str) -> int | None:
        """Return the gid of a group's name or number, None when there is no such group."""


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


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdigit() and len(name) <= 10


def _bounded(number: int) -> int | None:
    return number if number <= MAX_ID else None
