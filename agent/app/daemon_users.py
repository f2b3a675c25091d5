"""Whom a command believes when they answer on the control socket, besides root and the command's own user."""

from __future__ import annotations

import os

from agent.core.errors import KeyturnError
from agent.system.systemd_unit import unit_uid
from agent.system.trusted_path import open_trusted


def daemon_users(state: os.PathLike[str] | str | None) -> set[int]:
    """Return the uid of the unit's user, and of the owner of the state directory that a trusted config names."""
    found = {unit_uid(), _owner(state) if state is not None else None}
    return {uid for uid in found if uid is not None}


def _owner(state: os.PathLike[str] | str) -> int | None:
    """Return whose the state directory is; None where somebody besides root, this user and that one has a say in it."""
    try:
        uid = os.stat(state).st_uid
        os.close(open_trusted(state, os.O_PATH | os.O_CLOEXEC, also=uid))
    except (OSError, KeyturnError):
        return None
    return uid
