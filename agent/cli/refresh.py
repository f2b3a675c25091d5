"""`keyturn refresh`: through the daemon, or by this process under the same lock where no daemon runs."""

from __future__ import annotations

import argparse
import json
from typing import Any

from agent.cli.daemon_client import find
from agent.cli.refresh_output import RefreshProgress, refreshed
from agent.control import client
from agent.core.errors import DaemonUnreachableError, KeyturnError


def refresh(options: argparse.Namespace) -> int:
    """Refresh and print what came of it; return the exit code. With `--json` one object, on failure too."""
    progress = RefreshProgress(silent=options.json)
    try:
        answer = _refreshed(options, progress)
    except KeyturnError as error:
        if not options.json:
            raise
        answer = failed(error)
    finally:
        progress.end()
    if options.json:
        print(json.dumps(answer), file=options.out)
    else:
        refreshed(answer, progress.said)
    return int(answer["exit_code"])


def failed(error: KeyturnError) -> dict[str, Any]:
    """Return the object of `--json` where nothing could be had done."""
    return {"credentials": [], "error": str(error), "exit_code": error.exit_code}


def _refreshed(options: argparse.Namespace, progress: RefreshProgress) -> dict[str, Any]:
    reach = find(options)
    try:
        return reach.ask({"command": "refresh", "names": options.names}, progress)[0]
    except client.ConnectionLostError:
        raise
    except DaemonUnreachableError:
        from agent.cli.without_daemon import run_here, this_user  # the engine
        from agent.core.events import Cause, Trigger

        cause = Cause(Trigger.OPERATOR, this_user())
        return run_here(
            reach.own_settings, options.config, lambda commands: commands.refresh(options.names, cause, progress)
        )
