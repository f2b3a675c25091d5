"""The output of a dependent, made fit for the log: one bounded line without control characters.

A hook may print the very secret that it reads. The log masks the secrets in use (`agent.logs.redaction.mask`), but
cannot recognise half of one, so a word that the limit has cut through is dropped whole. Why it goes nowhere else:
docs/adr/0016.
"""

from __future__ import annotations

import re

from agent.system.process import OUTPUT_LIMIT, Completed, printable

HEAD_CHARACTERS = 300


def tail(completed: Completed) -> str:
    """Return both outputs of a command; of a long one only the end, where the reason of a failure stands."""
    parts = (printable(_from_a_whole_word(raw)) for raw in (completed.stdout, completed.stderr))
    return " | ".join(part for part in parts if part)


def head(raw: bytes, limit: int) -> str:
    """Return the beginning of an answer of which `limit` bytes were read at most."""
    text = printable(raw)
    if len(raw) < limit and len(text) <= HEAD_CHARACTERS:
        return text
    return re.sub(r"\S*\Z", "", text[:HEAD_CHARACTERS]).rstrip()


def _from_a_whole_word(raw: bytes) -> bytes:
    return raw if len(raw) < OUTPUT_LIMIT else re.sub(rb"\A\S*", b"", raw)
