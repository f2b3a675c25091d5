"""The meaning of an errno for an operator: one sentence and a remedy, the same wherever a file is written."""

from __future__ import annotations

import errno
import grp
import os
import pwd
import shlex
from pathlib import PurePosixPath

_PERMISSION = frozenset({errno.EACCES, errno.EPERM})

_REASONS: dict[int, tuple[str, str]] = {
    errno.ENOSPC: ("the file system is full", "free some space (`df -h {directory}`, and `df -i` for inodes)"),
    errno.EDQUOT: ("the disk quota is used up", "raise the quota or free some space (`quota -v`)"),
    errno.EROFS: (
        "the file system is read-only",
        "remount it writable, or name its directory in ReadWritePaths= of keyturn's unit "
        "(`keyturn systemd-setup --install`) and restart it",
    ),
    errno.EIO: ("the disk reported an error", "look at `dmesg` and replace the disk if it is failing"),
    errno.ENAMETOOLONG: ("the name is too long for this file system", "choose a shorter path"),
    errno.EMFILE: ("keyturn has too many open files", "raise LimitNOFILE= of its unit"),
    errno.ENFILE: ("the system has too many open files", "raise fs.file-max"),
    errno.ENOENT: ("it does not exist", "create it, or correct the path in the config"),
    errno.ENOTDIR: ("a part of the path is not a directory", "correct the path in the config"),
    errno.EISDIR: ("it is a directory", "name a file"),
    errno.ELOOP: ("it is a symbolic link", "name the file that it points to"),
    errno.EBUSY: (
        "it is a mount point, such as a bind-mounted single file",
        'set `write = "in_place"` for this sink, or mount its directory instead',
    ),
    errno.EXDEV: (
        "its directory lies on two file systems, as in some container images",
        'mount a directory of its own there, or set `write = "in_place"` for this sink',
    ),
    errno.ETXTBSY: ("it is being executed", "name another file"),
    errno.ESTALE: ("somebody put another file in its place", "it is tried again"),
    errno.ENOMEM: ("this machine has no memory left for it", "free some, or raise MemoryMax= of keyturn's unit"),
    errno.EFBIG: ("it would be larger than the file size limit", "raise LimitFSIZE= of the unit"),
}


def user_name(uid: int | None = None) -> str:
    """Return a user's name as an operator knows it; by default that of the user whom this process runs as."""
    number = os.geteuid() if uid is None else uid
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"uid {number}"


def group_name(gid: int) -> str:
    """Return a group's name as an operator knows it."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return f"gid {gid}"


def is_permission(error: OSError) -> bool:
    """Return whether the operating system refused this identity rather than the operation itself."""
    return error.errno in _PERMISSION


def explain(error: OSError, path: str) -> tuple[str, str]:
    """Return (reason, remedy) for a failed file operation on `path`; neither holds any content of a file."""
    directory = str(PurePosixPath(path).parent)
    if error.errno in _PERMISSION:
        return (
            f"user {user_name()} may not do that",
            f"look at `namei -l {shlex.quote(path)}`; let that user write there, or run keyturn as a user who may",
        )
    reason, remedy = _REASONS.get(error.errno or 0, (os.strerror(error.errno or 0), "look at `dmesg` and at the path"))
    return reason, remedy.format(directory=directory)
