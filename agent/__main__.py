"""`python -m agent` is `keyturn`."""

from agent.cli.main import entry

entry()
