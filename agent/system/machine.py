"""Which machine this is, so that a state directory that was copied to another one is noticed."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Mapping
from pathlib import Path

MACHINE_ID = Path("/etc/machine-id")


def machine(machine_id: Path = MACHINE_ID, environ: Mapping[str, str] = os.environ) -> str:
    """Return a fingerprint of this machine's id and name; the id itself is not to be shown around (machine-id(5)).

    Both count: hosts that were made of one image may share the id, and hosts of one role the name. In Function Compute it is the
    function that stays while instances come and go: its account, region and name stand in variables that nobody else may set
    (Function Compute, "Environment variables").
    """
    if function := environ.get("FC_FUNCTION_NAME"):
        where = (environ.get("FC_ACCOUNT_ID", ""), environ.get("FC_REGION", ""), function)
        return _fingerprint("function", *where)
    try:
        written = (
            machine_id.read_bytes().decode("ascii").strip()
        )  # no codec is looked for: its file may be out of reach
    except (OSError, ValueError):
        written = ""
    return _fingerprint(written, socket.gethostname())


def _fingerprint(*parts: str) -> str:
    return hashlib.sha256("\0".join(("keyturn", *parts)).encode()).hexdigest()[:16]
