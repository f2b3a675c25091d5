"""Reasons why nobody can write into a directory, found without writing: it is full, or mounted read-only."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from agent.core.problem import Problem
from agent.system.capabilities import Capability, holds
from agent.system.oserrors import explain

ENOUGH_BYTES = 16 * 1024
"""The least free space that counts: a sink and its staged file, or a record of the state, take about as much."""


def write_problem(directory: Path | str) -> Problem | None:
    """Return what keeps files from being written there; None where statvfs(3) knows of nothing.

    Quotas and limits of the process are not seen. A file system that does not count blocks or inodes (btrfs and
    most network file systems count no inodes) is taken to have some left.
    """
    try:
        found = os.statvfs(directory)
    except OSError:
        return None  # missing or closed: others say so
    number = _number(found)
    if number is None:
        return None
    why = explain(OSError(number, os.strerror(number)), f"{directory}/x")
    return why.at(f"nothing can be written to {directory}")


def _number(found: os.statvfs_result) -> int | None:
    if found.f_flag & os.ST_RDONLY:
        return errno.EROFS
    # What a file system keeps in reserve is for CAP_SYS_RESOURCE (ext4: mke2fs(8), -m), not for uid 0 as such.
    blocks = found.f_bfree if holds(Capability.SYS_RESOURCE) else found.f_bavail
    full = found.f_blocks and blocks * found.f_frsize < ENOUGH_BYTES
    return errno.ENOSPC if full or (found.f_files and not found.f_favail) else None
