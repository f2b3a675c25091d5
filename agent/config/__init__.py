"""The config: TOML text in, frozen `Settings` out, or every problem of the file at once.

Two steps: `walk` converts the tree by the types of the settings classes, `checks` holds the rules that need
more than one key. `load` puts them together and is the place to start reading. Reference: docs/config.md.
"""

from agent.config.load import load, parse
from agent.config.registry import Registry

__all__ = ["Registry", "load", "parse"]
