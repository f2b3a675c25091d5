"""What a command does itself where no daemon runs: the same engine, under the same lock."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import TypeVar

from agent.app import wiring
from agent.app.wiring import Application
from agent.core.errors import CancelledError
from agent.core.events import Actor, Event, Trigger
from agent.core.settings import Settings
from agent.logs.log import log
from agent.logs.setup import set_up
from agent.system.accounts import actor_name

T = TypeVar("T")


def run_here(settings: Settings, path: str, work: Callable[[Application], T], *, logged: bool = False) -> T:
    """Run the engine here for as long as `work` takes, which runs on a thread of its own.

    Unless `logged`, what went wrong is printed as the command's own outcome; the log would say it a second time.
    """
    if logged:
        set_up(settings.agent.log_level, settings.agent.log_format, os.environ)
    else:
        set_up("debug" if settings.agent.log_level == "debug" else "critical", "auto", os.environ)
    house = wiring.open_application(settings, path, os.environ)
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


def this_user() -> Actor:
    """Return who runs this command."""
    return Actor(os.getuid(), actor_name(os.getuid()), os.getpid())
