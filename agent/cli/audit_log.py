"""What the commands that read the audit log have in common: what they refuse, and what they warn of."""

from __future__ import annotations

import sys
from collections.abc import Collection
from pathlib import Path

from agent.audit.reader import brothers, look_for_log
from agent.cli.output import one_line
from agent.core.errors import AuditError, KeyturnError, UsageError
from agent.core.suspects import without_suspects
from agent.core.text import nearest


def refuse_unknown(wanted: str | None, known: Collection[str]) -> None:
    """Refuse a name that neither the config nor the log has: one that left the config is in the log.

    Raises:
        UsageError: it is none, with the nearest one.
    """
    if wanted is not None and wanted not in known:
        near = nearest(wanted, known)
        raise UsageError(
            f"there is no credential {without_suspects(wanted)!r}, neither in the config nor in the audit log",
            f"did you mean {near}?" if near else "see `keyturn status`",
        )


def refuse_none(path: Path) -> None:
    """Refuse a path at which there is no log, neither its newest file nor a rotated one.

    Raises:
        AuditError: there is none.
    """
    is_there, is_file = look_for_log(path)
    if is_there and not is_file:
        raise AuditError(
            f"{path} is not a regular file", "name the newest file of the log; the rotated ones lie beside it"
        )
    if not is_file and not brothers(path):
        raise AuditError(f"{path}: there is no audit log", "name its newest file with --log, or start keyturn first")


def say_what_to_do() -> None:
    """Say on standard error what to do about a log that did not verify."""
    print(
        "keyturn: copy the log and the state as evidence before anything else, then compare with a copy that was shipped and "
        'with the heads in the journal: docs/runbook.md, "The audit does not verify"',
        file=sys.stderr,
    )


def warn(error: KeyturnError) -> None:
    """Say on standard error what went wrong and ends nothing, such as a file of the log that cannot be read any further."""
    print(one_line(f"keyturn: warning: {error}"), file=sys.stderr)
