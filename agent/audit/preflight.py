"""The check, made beforehand, that the audit log can be opened, and the remedies where it cannot."""

from __future__ import annotations

import os
import shlex
import stat
from pathlib import Path

from agent.core.problem import Problem
from agent.system.accounts import find_account, user_name
from agent.system.oserrors import explain, is_permission
from agent.system.systemd_unit import agent_user, make_directory

NOT_REGULAR = "move it away, or name another file in agent.audit.path"
"""The remedy where the name of the log is taken by something else."""


def remedy(path: Path, error: OSError) -> str:
    """Return the remedy for a log that could not be opened."""
    directory = path.parent
    if isinstance(error, FileNotFoundError):
        return f"make its directory for the agent's user: {make_directory(directory, '0750')}"
    if not is_permission(error) or not os.path.isdir(directory):
        return explain(error, str(path)).remedy
    return _chown(path if os.access(directory, os.X_OK, effective_ids=True) and os.path.lexists(path) else directory)


def log_problem(path: Path, *, of_the_service: bool = False) -> Problem | None:
    """Return beforehand why the agent could not go on in a log that stands there; None where it could.

    Root may write what the service may not. So where root runs the check, the file has to belong to the service's user.

    Args:
        path: the log.
        of_the_service: whether keyturn.service will write it, whoever runs the check.
    """
    try:
        found = path.lstat()
    except OSError:
        return None  # none yet, or the directory says it
    if not stat.S_ISREG(found.st_mode):
        return Problem(f"{path} is not a regular file", NOT_REGULAR)
    if not os.access(path, os.R_OK | os.W_OK, effective_ids=True):
        return Problem(f"user {user_name()} may not read and write {path}", _chown(path))
    writer = find_account(agent_user()) if of_the_service else None
    if writer is None or writer.uid in (os.geteuid(), found.st_uid):
        return None
    return Problem(f"{path} belongs to user {user_name(found.st_uid)}, and keyturn runs as {writer.name}", _chown(path))


def _chown(path: Path) -> str:
    return f"chown {agent_user()} {shlex.quote(str(path))}"
