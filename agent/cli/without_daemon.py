"""What a command does itself where no daemon runs: the same engine, under the same lock."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from agent.app import wiring
from agent.app.commands import Commands
from agent.control.server import user_name
from agent.core.errors import CancelledError
from agent.core.events import Actor, Event, Trigger
from agent.core.settings import Settings
from agent.logs.log import log
from agent.logs.setup import set_up
from agent.runtime.event_loop import settle

T = TypeVar("T")


def run_here(settings: Settings, path: str, work: Callable[[Commands], T], *, logged: bool = False) -> T:
    """Run the engine in this process for as long as `work` takes, which runs on a thread of its own.

    Unless `logged`, what went wrong is printed as the command's own outcome; the log would say it a second time.

    Raises:
        KeyturnError: the application cannot be opened, or what `work` raised.
    """
    if logged:
        set_up(settings.agent.log_level, settings.agent.log_format, os.environ)
    else:
        set_up("debug" if settings.agent.log_level == "debug" else "critical", "auto", os.environ)
    application = wiring.open_application(settings, path, os.environ)
    engine, done = application.engine, Future[T]()
    commands = Commands(application, engine.clock.now())

    def play() -> None:
        settle(done, lambda: work(commands))
        engine.post(engine.stop)

    try:
        for remark in application.audit.remarks:
            if logged:
                log.error("the audit log was not as it should be", detail=remark)
            else:
                print(f"keyturn: {remark}", file=sys.stderr)
            application.audit.record(Event.RECOVERED, trigger=str(Trigger.RECOVERY), error=remark)
        engine.recover()
        threading.Thread(target=play, daemon=True).start()
        engine.run()
    finally:
        application.close()
    if not done.done():
        raise CancelledError("interrupted", "run the same command again")
    return done.result()


def this_user() -> Actor:
    """Return who runs this command."""
    return Actor(os.getuid(), user_name(os.getuid()), os.getpid())
