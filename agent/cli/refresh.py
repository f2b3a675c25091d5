"""The commands that do something: `run`, `once`, `refresh`, `rotate`.

`refresh` and `rotate` go through the daemon's socket. Where no daemon runs they do the work themselves,
with the same engine under the same lock; so does `once`, always.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from agent.app import wiring
from agent.app.refresh_now import chosen, emergency_request
from agent.app.refresh_now import refresh as refresh_now
from agent.app.wiring import House
from agent.cli import output
from agent.cli.daemon_client import Step, find
from agent.cli.option_types import seconds
from agent.control import client
from agent.control.server import user_name
from agent.core.errors import CancelledError, DaemonUnreachableError, KeyturnError
from agent.core.events import Actor, Event, Trigger
from agent.core.settings import Settings
from agent.emergency.procedure import Emergency
from agent.emergency.report import Result
from agent.logs.setup import log, set_up
from agent.refresh.obtained import Cause
from agent.system.journald import is_stream

T = TypeVar("T")


def run(options: argparse.Namespace) -> int:
    """`keyturn run`."""
    from agent.app.daemon import Daemon
    from agent.system.systemd_notify import ServiceManager

    settings = wiring.load_settings(options.config, os.environ)
    set_up(settings.agent.log_level, settings.agent.log_format, os.environ)
    house = wiring.open_house(settings, options.config, os.environ)
    try:
        Daemon(house, ServiceManager(os.environ)).run()
    finally:
        house.close()
    return 0


def once(options: argparse.Namespace) -> int:
    """`keyturn once`: for cron, images and containers; in a unit, what happens is logged as the daemon logs it."""
    retry_for_s = seconds(options.retry_for, "--retry-for")
    settings = wiring.load_settings(options.config, os.environ)
    in_journal = is_stream(os.environ, sys.stderr)
    answer = _by_ourselves(
        settings,
        options.config,
        lambda house: refresh_now(house.engine, options.names, Cause(Trigger.START), retry_for_s=retry_for_s),
        logged=in_journal,
    )
    if not in_journal:
        output.refreshed(answer)
    return int(answer["exit_code"])


def refresh(options: argparse.Namespace) -> int:
    """`keyturn refresh`."""
    reach = find(options)
    try:
        answer, _code = reach.ask({"command": "refresh", "names": options.names})
    except client.ConnectionLostError:
        raise
    except DaemonUnreachableError:
        cause = Cause(Trigger.OPERATOR, _me())
        answer = _by_ourselves(
            reach.own_settings, options.config, lambda house: refresh_now(house.engine, options.names, cause)
        )
    if options.json:
        print(json.dumps(answer))
    else:
        output.refreshed(answer)
    return int(answer["exit_code"])


def rotate(options: argparse.Namespace) -> int:
    """`keyturn rotate`."""
    try:
        result, code = _rotated(options)
    except KeyturnError as error:
        if not options.json:
            raise
        result, code = Result(options.name, error=str(error)).as_json(), error.exit_code
    if options.json:
        print(json.dumps(result))
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
        "force": options.force,
    }
    emergency_request(request, _me())
    asks = not options.yes and sys.stdin is not None and sys.stdin.isatty()
    if asks and not output.agreed(options.name, options.disable_old):
        raise CancelledError("nothing was done")
    progress: Step = (lambda _step: None) if options.json else output.step
    try:
        return reach.ask(request, progress)
    except client.ConnectionLostError:
        raise
    except DaemonUnreachableError:
        return _rotate_by_ourselves(reach.own_settings, options.config, request, progress)


def _rotate_by_ourselves(
    settings: Settings, path: str, request: dict[str, Any], progress: Step
) -> tuple[dict[str, Any], int]:
    def work(house: House) -> tuple[dict[str, Any], int]:
        (name,) = chosen(house.engine, [str(request["credential"])])
        managed = house.engine.desks[name].managed
        emergency = Emergency(
            house.engine, managed, house.parts.authority(name), house.parts.cloud(), emergency_request(request, _me())
        )
        result = emergency.run(progress)
        return result.as_json(), result.exit_code

    return _by_ourselves(settings, path, work)


def _by_ourselves(settings: Settings, path: str, work: Callable[[House], T], *, logged: bool = False) -> T:
    """Run the engine here for as long as `work` takes, which runs on a thread of its own.

    Unless `logged`, what went wrong is printed as the command's own outcome; the log would say it a second time.
    """
    if logged:
        set_up(settings.agent.log_level, settings.agent.log_format, os.environ)
    else:
        set_up("debug" if settings.agent.log_level == "debug" else "critical", "auto", os.environ)
    house = wiring.open_house(settings, path, os.environ)
    answers: list[T] = []
    faults: list[BaseException] = []

    def play() -> None:
        try:
            answers.append(work(house))
        except BaseException as error:
            faults.append(error)
        house.engine.loop.post(house.engine.stop)

    try:
        for remark in house.audit.remarks:
            if logged:
                log.error("the audit log was not as it should be", detail=remark)
            else:
                print(f"keyturn: {remark}", file=sys.stderr)
            house.audit.record(Event.RECOVERED, trigger=str(Trigger.RECOVERY), error=remark)
        house.engine.recover()
        threading.Thread(target=play, daemon=True).start()
        house.engine.run()
    finally:
        house.close()
    if faults:
        raise faults[0]
    if not answers:
        raise CancelledError("interrupted", "run the same command again")
    return answers[0]


def _me() -> Actor:
    return Actor(os.getuid(), user_name(os.getuid()), os.getpid())
