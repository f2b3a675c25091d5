"""The config: from TOML text to frozen `Settings`, or to a list of every problem in the file.

Two steps: `converter` converts the tree by the types of the settings classes, `checks` holds the rules that need
more than one key. `load` puts them together and is the place to start reading. Reference: docs/config.md. `outline` is for
commands that need no more than where the daemon is. This file imports nothing, so that those do not pay for the rest.
"""
