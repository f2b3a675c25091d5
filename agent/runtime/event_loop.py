"""One loop, two inboxes, and workers that only ever answer through them: docs/adr/0001.

Signals, commands and the ends of slow work are functions put into an inbox. The loop's thread calls
them one after the other, so what the engine keeps is changed on that thread alone and needs no lock. The loop sleeps in
poll(2) on an eventfd, on an alarm that neither a suspend nor a clock step delays, and on a watch that a clock step
wakes: it does not wake up before something is due.

A turn calls what is there for `TURN_S`, not longer than the message at hand: with a thousand ends waiting, the
watchdog is fed and a command heard all the same. What people and the service manager wait for comes before the ends of work.
"""

from __future__ import annotations

import os
import queue
import select
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FuturesTimeoutError
from functools import partial
from typing import TypeVar

from agent.core.errors import KeyturnError
from agent.logs.log import log
from agent.runtime.workers import Lane, Work, Workers
from agent.system.clock import Alarm, StepWatch

T = TypeVar("T")
TURN_S = 0.05
"""Seconds after which a turn calls nothing more."""


class EventLoop:
    """The inboxes, the alarm and the workers."""

    def __init__(self) -> None:
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._ends: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._alarm = Alarm()
        self._poll = select.poll()
        self._poll.register(self._bell, select.POLLIN)
        self._poll.register(self._alarm, select.POLLIN)
        self._steps = StepWatch()
        self._poll.register(self._steps, select.POLLIN)
        self._signalled, self._signals = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._poll.register(self._signalled, select.POLLIN)
        self.cancel = threading.Event()
        self._workers = Workers(self.post_end, self.cancel)
        self._turn_ends_at = 0.0

    def wake_on_signals(self) -> None:
        """Have every signal end the loop's sleep. From the main thread.

        Python runs a handler only between two bytecodes of the main thread: a signal that another thread received,
        or that came just before poll(2) began, would otherwise wait for the next alarm, which may be an hour away.
        """
        signal.set_wakeup_fd(self._signals, warn_on_full_buffer=False)

    def post(self, message: Callable[[], None]) -> None:
        """Have the loop's thread call `message`. From any thread and from signal handlers."""
        self._inbox.put(message)
        os.eventfd_write(self._bell, 1)

    def submit(self, function: Callable[[], T]) -> Future[T]:
        """Have the loop call `function`; return a future of what it returns or raises. From any thread."""
        future: Future[T] = Future()
        self.post(partial(settle, future, function))
        return future

    def post_end(self, message: Callable[[], None]) -> None:
        """Have the loop's thread call `message` behind what it was posted, and behind earlier ends. From any thread."""
        self._ends.put(message)
        os.eventfd_write(self._bell, 1)

    def start(
        self,
        work: Callable[[], T],
        done: Callable[[T | None, BaseException | None], None],
        lane: Lane,
        *,
        first: bool = False,
    ) -> Work:
        """Run `work` on a thread of its own; the loop then calls `done(value, error)`: `Workers.start`."""
        return self._workers.start(work, done, lane, first=first)

    def abandon(self, work: Work) -> None:
        """Give the place of a piece of work to the next: it hangs, and nobody waits for it."""
        self._workers.abandon(work)

    def stop_working(self) -> None:
        """Tell workers to come back, and begin no more work."""
        self.cancel.set()
        self._workers.wake()

    def busy(self, without: Lane | None = None) -> int:
        """Return how many workers have not come back, those of one lane perhaps left out."""
        return self._workers.busy(without)

    def turn(self, wake_at: float | None) -> None:
        """Sleep until a message comes or boottime `wake_at`; then call what is in the inboxes, for as long as a turn lasts.

        A message that raises ends neither the loop nor the others.
        """
        self._alarm.set(wake_at)
        self._poll.poll()
        self._alarm.clear()
        self._steps.clear()
        _empty(os.eventfd_read, self._bell)
        _empty(os.read, self._signalled, 512)
        self._turn_ends_at = time.monotonic() + TURN_S
        self._call_some(self._inbox)
        self._call_some(self._ends)
        if not (self._inbox.empty() and self._ends.empty()):
            os.eventfd_write(self._bell, 1)

    def has_time(self) -> bool:
        """Return whether the present turn may begin with something more."""
        return time.monotonic() < self._turn_ends_at

    def drain(self) -> None:
        """Call every message that is there now, however long that takes."""
        for inbox in (self._inbox, self._ends):
            for _ in range(inbox.qsize()):
                safely(inbox.get())

    def _call_some(self, inbox: queue.SimpleQueue[Callable[[], None]]) -> None:
        for _ in range(inbox.qsize()):
            safely(inbox.get())
            if not self.has_time():
                return


def settle(future: Future[T], function: Callable[[], T]) -> None:
    """Call `function`, and put what it returns or raises into `future`."""
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(function())
    except BaseException as error:
        future.set_exception(error)


def answer_of(future: Future[T], timeout_s: float, late: KeyturnError) -> T:
    """Return what the future holds, or raise it. To be called on another thread than the loop's, which would wait for itself.

    Raises:
        KeyturnError: `late`, where nothing came in time.
    """
    try:
        return future.result(timeout_s)
    except FuturesTimeoutError:
        if future.done():
            raise  # it is what the function raised
        raise late from None


def safely(act: Callable[[], None]) -> None:
    """Call `act`; log what it raises. No fault of one credential, and no exhausted resource, may end the loop."""
    try:
        act()
    except KeyturnError as error:
        log.error("a step failed", error=str(error))
    except Exception:
        log.error("a fault of keyturn itself; please report it", exc_info=True)


def _empty(read: Callable[..., object], *arguments: int) -> None:
    try:
        read(*arguments)
    except BlockingIOError:
        pass
