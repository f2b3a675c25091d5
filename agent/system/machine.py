"""Which machine this is, so that a state directory that was copied to another one is noticed."""

from __future__ import annotations

import hashlib
import socket
from pathlib import Path

MACHINE_ID = Path("/etc/machine-id")


def machine(machine_id: Path = MACHINE_ID) -> str:
    """Return a fingerprint of this machine's id and name; the id itself is not to be shown around (machine-id(5)).

    Both count: hosts that were made of one image may share the id, and hosts of one role the name.
    """
    try:
        written = machine_id.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        written = ""
    return hashlib.sha256(f"keyturn\0{written}\0{socket.gethostname()}".encode()).hexdigest()[:16]
