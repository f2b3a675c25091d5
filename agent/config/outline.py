"""What a command has to know before it asks the daemon: where its directories are, read without judging the config.

`load` judges the whole file, for which it imports every type that the file uses; a command that only asks the daemon would
spend most of its time on that. Where an outline is found it says the same as the settings of a sound config (a test compares
them). Everything that is not plain is left to `load`, which has the sentence for it.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from typing import Any, NamedTuple

from agent.core.errors import KeyturnError
from agent.system.reading import read_trusted

MAX_BYTES = 1024 * 1024
STATE_DIRECTORY = "/var/lib/keyturn"
RUNTIME_DIRECTORY = "/run/keyturn"
AUDIT_LOG = "/var/log/keyturn/audit.jsonl"


class Outline(NamedTuple):
    """The places that a config names, filled in, and the names of its credentials."""

    state: str
    runtime: str
    audit: str
    credentials: tuple[str, ...]


def outline(path: str, environ: Mapping[str, str]) -> Outline | None:
    """Return the outline of a config that nobody besides root and this user can write.

    None where that takes more than a look: it cannot be read, is no TOML, others can write it, or a path in question has a
    variable or is not written plainly.

    Args:
        path: of the file.
        environ: for systemd's `$STATE_DIRECTORY` and its like.
    """
    try:
        tree = tomllib.loads(read_trusted(path, MAX_BYTES).decode("utf-8-sig"))
        agent, credentials = _table(tree, "agent"), _table(tree, "credentials")
        return Outline(
            _plain(agent.get("state_directory"), environ, "STATE_DIRECTORY", "", STATE_DIRECTORY),
            _plain(agent.get("runtime_directory"), environ, "RUNTIME_DIRECTORY", "", RUNTIME_DIRECTORY),
            _plain(_table(agent, "audit").get("path"), environ, "LOGS_DIRECTORY", "/audit.jsonl", AUDIT_LOG),
            tuple(credentials),
        )
    except (KeyturnError, OSError, ValueError, RecursionError):
        return None


def _table(tree: dict[str, Any], key: str) -> dict[str, Any]:
    found = tree.get(key, {})
    if not isinstance(found, dict):
        raise ValueError(key)
    return found


def _plain(named: object, environ: Mapping[str, str], variable: str, below: str, otherwise: str) -> str:
    """Return the path that a key names, else what is below the first of systemd's directories, else the usual one."""
    if named is None:
        given = environ.get(variable, "").partition(":")[0]
        named = given + below if given else otherwise
    if not isinstance(named, str) or not named.startswith("/") or named != os.path.normpath(named):
        raise ValueError("not absolute, or not as short as it can be")
    if "${" in named or not named.isprintable():
        raise ValueError("not as it is used")
    return named
