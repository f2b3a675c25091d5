"""The meaning of an errno for an operator: one sentence and a remedy, the same wherever a file is written."""

from __future__ import annotations

import errno
import os
import shlex

from agent.core.problem import Problem
from agent.system.accounts import user_name

_PERMISSION = frozenset({errno.EACCES, errno.EPERM})

_REASONS: dict[int, Problem] = {
    errno.ENOSPC: Problem("the file system is full", "free some space (`df -h {directory}`, and `df -i` for inodes)"),
    errno.EDQUOT: Problem("the disk quota is used up", "raise the quota or free some space (`quota -v`)"),
    errno.EROFS: Problem(
        "the file system is read-only",
        "remount it writable, or name its directory in ReadWritePaths= of keyturn's unit "
        "(`keyturn systemd-setup --install`) and restart it",
    ),
    errno.EIO: Problem("the disk reported an error", "look at `dmesg` and replace the disk if it is failing"),
    errno.ENAMETOOLONG: Problem("the name is too long for this file system", "choose a shorter path"),
    errno.EMFILE: Problem("keyturn has too many open files", "raise LimitNOFILE= of its unit"),
    errno.ENFILE: Problem("the system has too many open files", "raise fs.file-max"),
    errno.ENOENT: Problem("it does not exist", "create it, or correct the path in the config"),
    errno.ENOTDIR: Problem("a part of the path is not a directory", "correct the path in the config"),
    errno.EISDIR: Problem("it is a directory", "name a file"),
    errno.ELOOP: Problem("it is a symbolic link", "name the file that it points to"),
    errno.EBUSY: Problem(
        "it is a mount point, such as a bind-mounted single file",
        'set `write = "in_place"` for this sink, or mount its directory instead',
    ),
    errno.EXDEV: Problem(
        "its directory lies on two file systems, as in some container images",
        'mount a directory of its own there, or set `write = "in_place"` for this sink',
    ),
    errno.ETXTBSY: Problem("it is being executed", "name another file"),
    errno.ESTALE: Problem("somebody put another file in its place", "it is tried again"),
    errno.ENOMEM: Problem("this machine has no memory left for it", "free some, or raise MemoryMax= of keyturn's unit"),
    errno.EFBIG: Problem("it would be larger than the file size limit", "raise LimitFSIZE= of the unit"),
}


def is_permission(error: OSError) -> bool:
    """Return whether the operating system refused this identity rather than the operation itself."""
    return error.errno in _PERMISSION


def explain(error: OSError, path: str) -> Problem:
    """Return what a failed file operation on `path` means; no content of a file is in it."""
    if error.errno in _PERMISSION:
        return Problem(
            f"user {user_name()} may not do that",
            f"look at `namei -l {shlex.quote(path)}`; let that user write there, or run keyturn as a user who may",
        )
    unknown = Problem(os.strerror(error.errno or 0), "look at `dmesg` and at the path")
    known = _REASONS.get(error.errno or 0, unknown)
    return Problem(known.text, known.remedy.format(directory=os.path.dirname(path) or "."))
