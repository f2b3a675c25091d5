"""What the commands that read the audit log have in common: what they refuse, and what they warn of."""

from __future__ import annotations

import sys
from collections.abc import Collection

from agent.cli.output import one_line
from agent.core.errors import KeyturnError, UsageError
from agent.core.text import nearest


def refuse_unknown(wanted: str | None, known: Collection[str]) -> None:
    """Refuse a name that neither the config nor the log has: one that left the config is in the log.

    Raises:
        UsageError: it is none, with the nearest one.
    """
    if wanted is not None and wanted not in known:
        near = nearest(wanted, known)
        raise UsageError(
            f"there is no credential {wanted!r}, neither in the config nor in the audit log",
            f"did you mean {near}?" if near else "see `keyturn status`",
        )


def warn(error: KeyturnError) -> None:
    """Say on standard error what went wrong and ends nothing, such as a file of the log that cannot be read any further."""
    print(one_line(f"keyturn: warning: {error}"), file=sys.stderr)
