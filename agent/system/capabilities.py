"""The rights of this process beyond those of its uid: capabilities(7), less what a seccomp filter takes away.

`os.geteuid() == 0` answers neither question: a service under User= may hold CAP_CHOWN, and root in a container, or
behind CapabilityBoundingSet=, may lack it. What counts is the effective set, CapEff of /proc/self/status (proc(5)).
"""

from __future__ import annotations

import errno
import os
from enum import IntEnum
from pathlib import Path

_STATUS = Path("/proc/self/status")


class Capability(IntEnum):
    """The bits of linux/capability.h that keyturn has a use for."""

    CHOWN = 0
    DAC_OVERRIDE = 1
    FOWNER = 3
    KILL = 5
    SETGID = 6
    SETUID = 7
    NET_BIND_SERVICE = 10
    SYS_PTRACE = 19
    SYS_RESOURCE = 24


def effective() -> int:
    """Return the effective set as bits; where /proc is not mounted, all of them for root and none for others."""
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return -1 if os.geteuid() == 0 else 0
    return next((int(line.split()[1], 16) for line in lines if line.startswith("CapEff:")), 0)


def holds(*wanted: Capability) -> bool:
    """Return whether each of these is in the effective set of this process."""
    have = effective()
    return all(have >> number & 1 for number in wanted)


def may_chown() -> bool:
    """Return whether chown(2) itself is allowed: SystemCallFilter=~@chown refuses it whatever the capabilities.

    The kernel is asked by a call that changes nothing: -1 for both ids, on a pipe of our own.
    """
    ends = os.pipe()
    try:
        os.fchown(ends[0], -1, -1)
    except OSError as err:
        return err.errno not in (errno.EPERM, errno.ENOSYS)
    finally:
        for end in ends:
            os.close(end)
    return True


def may_give(uid: int, gid: int) -> bool:
    """Return whether this process may give a file of its own to that user and group (chown(2))."""
    own_group = gid in {os.getegid(), *os.getgroups()}
    if uid == os.geteuid() and gid == os.getegid():
        return True
    return may_chown() and (holds(Capability.CHOWN) or (uid == os.geteuid() and own_group))


def may_become(uid: int) -> bool:
    """Return whether this process may run a command as that user, with that user's groups."""
    return uid == os.geteuid() or holds(Capability.SETUID, Capability.SETGID)
