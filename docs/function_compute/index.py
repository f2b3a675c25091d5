"""A function that a timer calls: it does what is due for the RAM users of a config on the mounted file system.

`handler` is for a built-in Python runtime (request handler `index.handler`); server.py is the same for a custom runtime.
"""

from __future__ import annotations

import json
import os
from typing import Any

from agent.cli.main import main
from providers import function_compute

CONFIG = "/mnt/keyturn/keyturn.toml"


class InvocationFailed(Exception):
    """Makes Function Compute count the invocation as failed, so that its alarms see it."""


def perform(event: bytes, source: object) -> str:
    """Run keyturn with the session of the function's role; return a line for the log.

    Args:
        event: of the time trigger; or, by hand, `{"adopt": NAME}`, with `"dry_run": true` to look only.
        source: what brings the session, the context object or the request's headers.

    Raises:
        InvocationFailed: the lines above it in the log say why.
        SourceRefusedError: the function has no role.
    """
    command = command_of(event)
    with function_compute.invocation(source):
        code = main(["--config", os.environ.get("KEYTURN_CONFIG") or CONFIG, *command])
    if code:
        raise InvocationFailed(f"keyturn {' '.join(command)}: exit code {code}")
    return f"keyturn {' '.join(command)}: done"


def command_of(event: bytes) -> list[str]:
    """Return the command that an event asks for; that of a time trigger (triggerTime, triggerName, payload) does what is due."""
    try:
        asked = json.loads(event)
    except ValueError:
        asked = None
    name = asked.get("adopt") if isinstance(asked, dict) else None
    if not isinstance(name, str) or name.startswith("-"):
        return ["once", "--retry-for", "0s"]  # the calls to RAM are patient by themselves, and the trigger comes again
    return ["adopt", name, "--dry-run" if asked.get("dry_run") else "--yes"]


def handler(event: bytes, context: Any) -> str:
    """Answer an invocation in a built-in runtime."""
    return perform(event, context)
