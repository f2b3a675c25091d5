"""`keyturn --version --verbose`: what a report has to name. It needs no library, so it works where one is missing."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from agent.app.versions import versions
from agent.cli.parsers import DEFAULT_CONFIG
from agent.config.outline import AUDIT_LOG, RUNTIME_DIRECTORY, STATE_DIRECTORY


def report(words: Sequence[str]) -> list[str]:
    """Return the lines.

    Args:
        words: the command line, for its `--config`.
    """
    return [*versions().lines(), "  places, where the config names no others", *_places(words)]


def _places(words: Sequence[str]) -> Iterator[str]:
    """Yield where this command would look for the config, and the directories that it has unless that says otherwise."""
    places = {
        "config": _config(words),
        "state": os.environ.get("STATE_DIRECTORY") or STATE_DIRECTORY,
        "runtime": os.environ.get("RUNTIME_DIRECTORY") or RUNTIME_DIRECTORY,
        "audit": f"{os.environ['LOGS_DIRECTORY']}/audit.jsonl" if os.environ.get("LOGS_DIRECTORY") else AUDIT_LOG,
    }
    for name, place in places.items():
        yield f"    {name:<7}  {place}{'' if os.path.exists(place) else ' (not there, or not to be seen by this user)'}"


def _config(words: Sequence[str]) -> str:
    for index, word in enumerate(words):
        if word.startswith("--config="):
            return word.partition("=")[2]
        if word == "--config" and index + 1 < len(words):
            return words[index + 1]
    return os.environ.get("KEYTURN_CONFIG") or DEFAULT_CONFIG
