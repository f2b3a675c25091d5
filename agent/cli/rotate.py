"""`keyturn rotate`: through the daemon, or by this process under the same lock where no daemon runs.

With a daemon it imports as little as `refresh`: the engine alone takes longer to import than an emergency takes whose cloud
answers at once (bench/safe.py).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import Any

from agent.cli import output
from agent.cli.daemon_client import Reach, Step, find
from agent.control import client
from agent.core.errors import CancelledError, DaemonUnreachableError, KeyturnError
from agent.emergency.request import emergency_request

FORESEE_S = 20.0


def rotate(options: argparse.Namespace) -> int:
    """Run the emergency and print what comes of it; return the exit code."""
    if options.drill:
        from agent.cli.rotate_drill import play  # the emulator, which no emergency needs

        return play(options)
    try:
        result, code = _rotated(options)
    except KeyturnError as error:
        if not options.json:
            raise
        from agent.emergency.report import Result  # what it consists of comes along

        result, code = Result(options.name, error=str(error)).as_json(), error.exit_code
    if options.json:
        print(json.dumps(result), file=options.out)
    else:
        output.rotated(result)
    return code


def _rotated(options: argparse.Namespace) -> tuple[dict[str, Any], int]:
    reach = find(options)
    request = {
        "command": "rotate",
        "credential": options.name,
        "reason": options.reason,
        "leaked": options.leaked,
        "disable_old": options.disable_old,
        "delete_old": options.delete_old,
        "force": options.force,
        "fleet": options.fleet,
        "allow_absent": options.allow_absent,
    }
    wanted = emergency_request(request, None)  # what is wrong with it is said before anything is asked
    asks = not options.yes and sys.stdin is not None and sys.stdin.isatty()
    if asks and not output.agreed(options.name, _foreseen(reach, options.name), disable_old=wanted.disable_old):
        raise CancelledError("nothing was done")
    progress: Step = output.wait if options.json else output.step
    try:
        return reach.ask(request, progress)
    except KeyboardInterrupt:
        print(
            f"keyturn: the daemon goes on with it; what comes of it: `keyturn audit show --credential {options.name}`, "
            "and the daemon's log",
            file=sys.stderr,
        )
        raise
    except client.ConnectionLostError:
        raise
    except DaemonUnreachableError:
        return _rotated_here(reach, options.config, request, progress)


def _rotated_here(reach: Reach, config: str, request: dict[str, Any], progress: Step) -> tuple[dict[str, Any], int]:
    from agent.cli.without_daemon import run_here, this_user  # the engine

    wanted = emergency_request(request, this_user())
    try:
        result = run_here(reach.own_settings, config, lambda commands: commands.rotate(wanted, progress))
    except KeyboardInterrupt:
        print(
            "keyturn: interrupted; what is done so far is on disk: run the same command again, which takes it up where it was "
            "and never rotates twice",
            file=sys.stderr,
        )
        raise
    return result.as_json(), result.exit_code


def _foreseen(reach: Reach, name: str) -> dict[str, Any]:
    """What the question shows. That it cannot be had keeps nobody from an emergency: then it says why."""
    try:
        try:
            return reach.ask({"command": "foresee", "credential": name}, output.wait, FORESEE_S)[0]
        except client.ConnectionLostError:
            raise
        except DaemonUnreachableError:
            from agent.app.commands import foresee_from_disk

            return foresee_from_disk(reach.own_settings, os.environ, name)
    except KeyturnError as error:
        return {"unknown": str(error)}
