"""`python -m agent` is `keyturn`."""

from agent.cli.entry import entry

entry()
