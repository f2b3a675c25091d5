"""`keyturn refresh`: through the daemon, or by this process under the same lock where no daemon runs."""

from __future__ import annotations

import argparse
import json

from agent.cli import output, refresh_output
from agent.cli.daemon_client import find
from agent.control import client
from agent.core.errors import DaemonUnreachableError


def refresh(options: argparse.Namespace) -> int:
    """Refresh and print what came of it; return the exit code."""
    reach = find(options)
    try:
        answer, _code = reach.ask({"command": "refresh", "names": options.names}, output.wait)
    except client.ConnectionLostError:
        raise
    except DaemonUnreachableError:
        from agent.cli.without_daemon import run_here, this_user  # the engine
        from agent.core.events import Cause, Trigger

        cause = Cause(Trigger.OPERATOR, this_user())
        answer = run_here(
            reach.own_settings, options.config, lambda commands: commands.refresh(options.names, cause, output.wait)
        )
    if options.json:
        print(json.dumps(answer), file=options.out)
    else:
        refresh_output.refreshed(answer)
    return int(answer["exit_code"])
