"""What a command does itself where no daemon runs: the same engine, under the same lock (docs/adr/0013)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import TypeVar

from agent.app import wiring
from agent.app.commands import Commands
from agent.core.errors import CancelledError
from agent.core.events import Event, Trigger
from agent.core.settings import Settings
from agent.runtime.event_loop import settle

T = TypeVar("T")


def run_here(
    settings: Settings,
    config_path: str,
    environ: Mapping[str, str],
    work: Callable[[Commands], T],
    say: Callable[[str], None],
) -> T:
    """Run the engine on this thread while `work` runs on a thread of its own; return what it returned.

    Args:
        settings: the config.
        config_path: its file.
        environ: the environment of the command.
        work: what is to be done.
        say: called with each remark on the audit log, before anything is done.

    Raises:
        KeyturnError: the application cannot be opened, or what `work` raised.
    """
    application = wiring.open_application(settings, config_path, environ)
    engine, done = application.engine, Future[T]()
    commands = Commands(application, engine.clock.now())

    def play() -> None:
        settle(done, lambda: work(commands))
        engine.post(engine.stop)

    try:
        for remark in application.audit.remarks:
            say(remark)
            application.audit.record(Event.RECOVERED, trigger=str(Trigger.RECOVERY), error=remark)
        engine.recover()
        threading.Thread(target=play, daemon=True).start()
        engine.run()
    finally:
        application.close()
    if not done.done():
        raise CancelledError("interrupted", "run the same command again")
    return done.result()
