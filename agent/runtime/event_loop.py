"""One loop, one inbox, and workers that only ever answer through it.

Signals, timers, control commands and the ends of slow work are functions put into the inbox. The loop's thread calls
them one after the other, so what the engine keeps is changed on that thread alone and needs no lock. The loop sleeps in
poll(2) on an eventfd, on an alarm that neither a suspend nor a clock step delays, and on a watch that a clock step
wakes: it does not wake up before something is due.

Slow work runs on a daemon thread of its own, not on a pool: docs/adr/0001. At most `MAX_WORKERS` are at work, so that a
config of thousands does not open a thousand connections at once; urgent work (to tell the dependents, an emergency)
never queues behind them.
"""

from __future__ import annotations

import os
import queue
import select
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FuturesTimeoutError
from contextlib import nullcontext
from functools import partial
from typing import TypeVar

from agent.core.errors import CancelledError, KeyturnError, SourceUnavailableError
from agent.logs.log import log
from agent.system.clock import Alarm, StepWatch

T = TypeVar("T")
MAX_WORKERS = 256


class EventLoop:
    """The inbox, the alarm and the workers."""

    def __init__(self) -> None:
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._alarm = Alarm()
        self._poll = select.poll()
        self._poll.register(self._bell, select.POLLIN)
        self._poll.register(self._alarm, select.POLLIN)
        self._steps = StepWatch()
        self._poll.register(self._steps, select.POLLIN)
        self._signalled, self._signals = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._poll.register(self._signalled, select.POLLIN)
        self._slots = threading.Semaphore(MAX_WORKERS)
        self._workers: set[threading.Thread] = set()
        self.cancel = threading.Event()

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

    def start(
        self,
        work: Callable[[], T],
        done: Callable[[T | None, BaseException | None], None],
        *,
        urgent: bool = False,
    ) -> threading.Thread:
        """Run `work` on a thread of its own; the loop then calls `done(value, error)`.

        Where no thread can be started, `done` gets that as its error. `urgent` work does not wait for one of the
        `MAX_WORKERS` to come back.
        """

        def run() -> None:
            value, error = None, None
            with nullcontext() if urgent else self._slots:
                try:
                    if self.cancel.is_set():
                        raise CancelledError("the agent is stopping")
                    value = work()
                except BaseException as caught:
                    error = caught
            self._workers.discard(threading.current_thread())
            self.post(partial(done, value, error))

        thread = threading.Thread(target=run, daemon=True)
        self._workers.add(thread)
        try:
            thread.start()
        except (RuntimeError, MemoryError):  # the limit of processes, or of memory
            self._workers.discard(thread)
            self.post(partial(done, None, _no_thread()))
        return thread

    def busy(self) -> int:
        """Return how many workers have not come back."""
        return len(self._workers)

    def turn(self, wake_at: float | None) -> None:
        """Sleep until a message comes or boottime `wake_at`; then call what is in the inbox."""
        self._alarm.set(wake_at)
        self._poll.poll()
        self._alarm.clear()
        self._steps.clear()
        _empty(os.eventfd_read, self._bell)
        _empty(os.read, self._signalled, 512)
        self.drain()

    def drain(self) -> None:
        """Call every message that is in the inbox now. A message that raises ends neither the loop nor the others."""
        for _ in range(self._inbox.qsize()):
            safely(self._inbox.get())


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


def _no_thread() -> SourceUnavailableError:
    return SourceUnavailableError(
        "no thread can be started for this work: there are too many, or there is no memory",
        "raise TasksMax= or MemoryMax= of keyturn's unit, or end other processes",
    )


def _empty(read: Callable[..., object], *arguments: int) -> None:
    try:
        read(*arguments)
    except BlockingIOError:
        pass
