"""`keyturn rotate --drill`: plays the emergency, and says what that shows and what it cannot."""

from __future__ import annotations

import argparse
import json
import os
from typing import Any

from agent.app import wiring
from agent.cli import output, rotate_output
from agent.cli.without_daemon import this_user
from agent.core.errors import KeyturnError
from agent.drill.drill import CANNOT_SHOW, Drilled, drill
from agent.emergency.report import Result
from agent.emergency.request import emergency_request
from agent.logs.setup import set_up


def play(options: argparse.Namespace, request: dict[str, Any]) -> int:
    """Run the drill and print what comes of it; return the exit code that the emergency would have.

    Args:
        options: of the command line.
        request: the emergency, as the daemon would be asked for it.
    """
    try:
        drilled = _played(options, request)
    except KeyturnError as error:
        if not options.json:
            raise
        print(json.dumps({**Result(options.name, error=str(error)).as_json(), "drill": True}), file=options.out)
        return error.exit_code
    if options.json:
        print(json.dumps(drilled.as_json()), file=options.out)
    else:
        _show_end(drilled)
    return drilled.exit_code


def _played(options: argparse.Namespace, request: dict[str, Any]) -> Drilled:
    settings = wiring.load_settings(options.config, os.environ)
    wanted = emergency_request(request, this_user())
    set_up("critical", "auto", os.environ)  # the command prints what went wrong, and the log would repeat it
    begin = _say_nothing if options.json else _begin
    show = rotate_output.RotateProgress(silent=options.json)
    try:
        return drill(settings, options.config, os.environ, wanted, show, begin)
    finally:
        show.end()


def _say_nothing(_directory: str) -> None:
    pass


def _begin(directory: str) -> None:
    _say("a drill: the cloud is an emulator on loopback, its keys are made up, and nobody is told")
    _say(f"files, state and audit log are below {directory}, which is removed at the end", flush=True)


def _show_end(drilled: Drilled) -> None:
    shown = drilled.emergency
    for one in drilled.would_tell:
        _say(f"would tell {one.dependent} of credentials.{one.credential}: {one.how}")
    for remark in drilled.remarks:
        _say(f"played otherwise: {remark}")
    _say("the time that each step took:")
    for step in shown["steps"]:
        _say(f"  {_seconds(step['ms'])}  {step['name']}")
    if shown["time_to_safe_ms"] is not None:
        _say(f"  {_seconds(shown['time_to_safe_ms'])}  from the command to safe")
    for what in CANNOT_SHOW:
        _say(f"a drill cannot show {what}")
    rotate_output.rotated(shown, drill=True)


def _seconds(milliseconds: int) -> str:
    return f"{milliseconds / 1000:7.3f} s"


def _say(text: str, *, flush: bool = False) -> None:
    print(output.one_line(text), flush=flush)
