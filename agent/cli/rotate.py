"""`keyturn rotate`: through the daemon, or by this process under the same lock where no daemon runs.

With a daemon it imports as little as `refresh`: the engine alone takes longer to import than an emergency takes whose cloud
answers at once (bench/safe.py).
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any, Protocol

from agent.cli.daemon_client import Reach, Step, find
from agent.cli.rotate_output import RotateProgress, rotated
from agent.control import client
from agent.core.errors import CancelledError, DaemonUnreachableError, KeyturnError, UsageError
from agent.emergency.request import Request, emergency_request
from agent.system.file_names import typed_text

FORESEE_S = 5.0
"""Seconds that the question waits for the cloud: whoever is asked has no time."""


class Onlooker(Protocol):
    """Whoever keeps what becomes of an emergency, for its report."""

    def asked(self, request: Request) -> None:
        """It begins."""

    def step(self, step: dict[str, Any]) -> None:
        """A step has ended, or something is waited for."""

    def ended(self, result: dict[str, Any]) -> None:
        """It has ended, and this came of it."""

    def failed(self, error: KeyturnError) -> None:
        """It could not be had done."""


class Nobody:
    """The onlooker of an emergency without a report."""

    asked = step = ended = failed = staticmethod(lambda _of: None)


def rotate(options: argparse.Namespace) -> int:
    """Run the emergency and print what comes of it; return the exit code."""
    if options.report is not None and (options.dry_run or options.drill):
        raise UsageError(
            "--report is for an emergency, which neither --dry-run nor --drill has", "leave one of them out"
        )
    if options.dry_run:
        from agent.cli.plan import dry_run  # which looks at every process

        return dry_run(options, _request(options))
    if options.drill:
        from agent.cli.rotate_drill import play  # the emulator, which no emergency needs

        return play(options, _request(options))
    if options.report is None:
        return _rotate(options, Nobody())
    from agent.cli.rotate_report import RotateReport, ended_in_good_order

    report = RotateReport(options.report, options.config)
    with ended_in_good_order():
        try:
            return _rotate(options, report)
        finally:
            report.write()


def _rotate(options: argparse.Namespace, onlooker: Onlooker) -> int:
    try:
        result, code = _rotated(options, onlooker)
        onlooker.ended(result)
    except KeyturnError as error:
        onlooker.failed(error)
        if not options.json:
            raise
        from agent.emergency.report import Result  # what it consists of comes along

        result, code = Result(options.name, error=str(error)).as_json(), error.exit_code
    if options.json:
        print(json.dumps(result), file=options.out)
    else:
        rotated(result)
    return code


def _rotated(options: argparse.Namespace, onlooker: Onlooker) -> tuple[dict[str, Any], int]:
    reach, request = find(options), _request(options)
    wanted = emergency_request(request, None)  # what is wrong with it is said before anything is asked
    asks = not options.yes and sys.stdin is not None and sys.stdin.isatty()
    if asks and not _is_agreed(reach, wanted, request):
        raise CancelledError("nothing was done")
    show = RotateProgress(silent=options.json)

    def progress(step: dict[str, Any]) -> None:
        onlooker.step(step)
        show(step)

    onlooker.asked(wanted)
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
    finally:
        show.end()


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


def _request(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "command": "rotate",
        "credential": options.name,
        "reason": typed_text(options.reason),
        "leaked": options.leaked,
        "disable_old": options.disable_old,
        "delete_old": options.delete_old,
        "force": options.force,
        "fleet": options.fleet,
        "allow_absent": options.allow_absent,
    }


def _is_agreed(reach: Reach, wanted: Request, request: dict[str, Any]) -> bool:
    """Ask, with the plan in short. That it cannot be had keeps nobody from an emergency: then it says why."""
    from agent.cli import plan, plan_output  # what only a person at a terminal needs

    try:
        found = plan.planned(reach, wanted.credential, request, FORESEE_S)
    except KeyturnError as error:
        found = {"unknown": str(error)}
    return plan_output.agreed(wanted.credential, found, disable_old=wanted.disable_old, delete_old=wanted.delete_old)
