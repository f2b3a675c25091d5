"""Several questions at once, each on a thread of its own, and whoever asks waits for no longer than a deadline.

What has not answered by then goes on by itself and is heard by nobody: so only for questions that change nothing and have a
limit of their own. The threads keep no process from its end.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from queue import Empty, SimpleQueue
from typing import TypeVar

from agent.core.errors import KeyturnError, SourceUnavailableError

T = TypeVar("T")
MOST_AT_ONCE = 16


class Questions:
    """Questions with one deadline for all."""

    def __init__(self, deadline_s: float) -> None:
        """Let the time run from now on."""
        self._until = time.monotonic() + deadline_s
        self._todo: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0

    @property
    def left_s(self) -> float:
        """The seconds until the deadline."""
        return max(0.0, self._until - time.monotonic())

    def ask(self, question: Callable[[], T]) -> Future[T]:
        """Have a thread call `question`; return the future of its answer, for `answer`."""
        future: Future[T] = Future()

        def run() -> None:
            try:
                future.set_result(question())
            except BaseException as error:
                future.set_exception(error)

        self._todo.put(run)
        with self._lock:
            if self._threads < MOST_AT_ONCE:
                self._threads += 1
                threading.Thread(target=self._work, daemon=True).start()
        return future

    def answer(self, future: Future[T]) -> T:
        """Wait for an answer until the deadline.

        Raises:
            SourceUnavailableError: there was none by then.
            KeyturnError: what the question raised; anything else is reported as a fault, without its text.
        """
        wait([future], self.left_s)
        if not future.done():
            raise SourceUnavailableError("no answer in time", "see whether it hangs, and try again")
        error = future.exception()
        if error is None or isinstance(error, KeyturnError):
            return future.result()
        raise KeyturnError(f"failed with {type(error).__name__}", "please report it") from None

    def _work(self) -> None:
        while True:
            with self._lock:
                try:
                    todo = self._todo.get_nowait()
                except Empty:
                    self._threads -= 1
                    return
            if self.left_s:
                todo()
