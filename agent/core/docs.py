"""Where the documents are, for whoever reads a help or an error."""

from __future__ import annotations

DOCS = "https://github.com/keyturn/keyturn/blob/main/docs/"
"""Below the project's address, which stands in pyproject.toml, too; tests/cli/test_help.py compares them."""


def address(page: str) -> str:
    """Return the address of a document, like "emergency.md" or "consumers.md#ossfs"."""
    return DOCS + page
