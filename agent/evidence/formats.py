"""The formats of an incident. Imports little: `rotate` judges the file's name before it asks for anything."""

from __future__ import annotations

from enum import StrEnum
from os.path import splitext

from agent.core.errors import UsageError


class Format(StrEnum):
    """What an incident can be written as."""

    MARKDOWN = "markdown"
    HTML = "html"
    JSON = "json"


SUFFIXES = {".md": Format.MARKDOWN, ".html": Format.HTML, ".json": Format.JSON}


def format_of(file: str, option: str) -> Format:
    """Return the format that a file's name asks for.

    Raises:
        UsageError: it asks for none.
    """
    try:
        return SUFFIXES[splitext(file)[1].lower()]
    except KeyError:
        raise UsageError(
            f"{option}: {file}: its name does not say which format", "end it in .md, .html or .json"
        ) from None
