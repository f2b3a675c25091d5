"""The values that a config writes as strings. Settings classes take them from `agent.core.settings`."""

from __future__ import annotations


class Duration(float):
    """Seconds. Written in the config as a string with a unit: `"500ms"`, `"30s"`, `"15m"`, `"12h"`, `"2d"`."""


class FileMode(int):
    """Permission bits. Written in the config as an octal string like `"0640"`."""


class FilePath(str):
    """An absolute path. `${VAR}` in it was replaced from the environment when the config was read."""
