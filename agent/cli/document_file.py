"""Where a document goes: the file of `--output`, and its bytes."""

from __future__ import annotations

import contextlib

from agent.core.errors import KeyturnError
from agent.system.reserved_file import ReservedFile


def reserved(output: str | None) -> contextlib.AbstractContextManager[ReservedFile | None]:
    """Return the file of `--output`, before a long log is read for it; None for standard output.

    Raises:
        KeyturnError: it cannot be written.
    """
    if output is None:
        return contextlib.nullcontext()
    try:
        return contextlib.closing(ReservedFile(output))
    except KeyturnError as error:
        raise error.at("--output") from None


def encoded(text: str) -> bytes:
    """Return the bytes of a document; a lone surrogate of a forged record becomes an escape, as JSON has it."""
    return text.encode("utf-8", "backslashreplace")
