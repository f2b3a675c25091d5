"""A standard stream that leads to systemd's journal, and the priority of a line there. The journal's own protocol: journald.py."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TextIO

JOURNAL_PRIORITY = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
"""Priorities of sd-daemon(3): a line that begins with `<N>` gets that one in the journal."""


def is_stream(environ: Mapping[str, str], stream: TextIO) -> bool:
    """Return whether a stream leads to the journal: $JOURNAL_STREAM names its device and inode (systemd.exec(5), since 231).

    The variable alone proves nothing: every child of the service inherits it, even one whose output is redirected.
    """
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError, AttributeError):
        return False
    return environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def journal_prefix(level: str, environ: Mapping[str, str], stream: TextIO) -> str:
    """Return the prefix of a line of this level on this stream: its priority where the journal reads it, else ""."""
    return f"<{JOURNAL_PRIORITY[level]}>" if is_stream(environ, stream) else ""
