"""What a command does itself where no daemon runs: the same engine, under the same lock (docs/adr/0013)."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

from agent.app import wiring
from agent.app.commands import Commands
from agent.app.wiring import NotifierOf
from agent.core.errors import CancelledError
from agent.core.events import Event, Trigger
from agent.core.settings import Settings
from agent.engine.engine import Engine
from agent.runtime.event_loop import settle

T = TypeVar("T")
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LINGER_S = 5.0
"""Seconds that the end waits for commands to be stopped: a hook that hangs would go on without anybody who knows of it."""


def run_here(
    settings: Settings,
    config_path: str,
    environ: Mapping[str, str],
    work: Callable[[Commands], T],
    say: Callable[[str], None],
    notifier_of: NotifierOf = wiring.notifier_of,
) -> T:
    """Run the engine on this thread while `work` runs on a thread of its own; return what it returned.

    Args:
        settings: the config.
        config_path: its file.
        environ: the environment of the command.
        work: what is to be done.
        say: called with each remark on the audit log, before anything is done.
        notifier_of: makes the dependents of their settings.

    Raises:
        KeyturnError: the application cannot be opened, or what `work` raised.
        KeyboardInterrupt: a signal asked for the end, and everything that was started has been stopped.
    """
    application = wiring.open_application(settings, config_path, environ, notifier_of=notifier_of)
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
        with _ending_by_signal(engine) as heard:
            threading.Thread(target=play, daemon=True).start()
            engine.run()
            engine.linger(LINGER_S)
    finally:
        application.close()
    if heard:
        raise KeyboardInterrupt
    if not done.done():
        raise CancelledError("interrupted", "run the same command again")
    return done.result()


@contextmanager
def _ending_by_signal(engine: Engine) -> Iterator[list[int]]:
    """Let a signal end the engine in good order, a second one at once; yield what was heard.

    cron, a container's end and a closed terminal send these; by default the process would end where it stands, and leave a
    hook behind.
    """
    heard: list[int] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        if heard:
            raise KeyboardInterrupt
        heard.append(number)
        engine.post(engine.stop)

    if threading.current_thread() is not threading.main_thread():  # an embedding program has its own way with signals
        yield heard
        return
    engine.wake_on_signals()
    ours = [number for number in _ENDING if signal.getsignal(number) is not signal.SIG_IGN]  # nohup ignores SIGHUP
    before = {number: signal.signal(number, stop) for number in ours}
    try:
        yield heard
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
