"""Slow work, each piece on a daemon thread of its own: docs/adr/0001.

The loop only hands work over. The threads are started by one that does nothing else, since a start waits until the new
thread runs: with a hundred that want the interpreter, for a tenth of a second each. Each kind of work has a `Lane`:

* Of the pieces that began within the last quarter of a second, or that ended and were not heard by the loop yet, only a few are at
  work at once. What answers at once would gain nothing by more threads, which only take the interpreter from the loop;
  and the answers of a thousand credentials must not pile up in front of it.
* One that takes longer waits for somebody else, and makes room for the next: a hundred sources that do not answer hold
  up nobody. There is a limit for these, too, so that a config of thousands does not open a thousand connections.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from typing import Any

from agent.core.errors import CancelledError, KeyturnError, SourceUnavailableError

SLOW_S = 0.25
"""Seconds after which a piece of work waits for somebody else rather than for the processor."""


class Lane(Enum):
    """What work is for, with how many pieces of it begin within `SLOW_S`, and how many are under way at most."""

    CANARY = (8, 64)
    """To look whether a key still works: behind everything else."""
    REFRESH = (16, 256)
    """To ask a source."""
    TELL = (16, 512)
    """To tell a dependent."""
    URGENT = (64, 1024)
    """For an emergency, or an operator who waits: behind nothing else."""

    def __init__(self, at_once: int, under_way: int) -> None:
        self.at_once, self.under_way = at_once, under_way


class Work:
    """One piece of work, from its call to its end.

    Attributes:
        lane: what it is for.
        began_at: when its thread was started, by the monotonic clock.
    """

    def __init__(self, run: Callable[[], Any], done: Callable[[Any, BaseException | None], None], lane: Lane) -> None:
        self.lane = lane
        self.began_at = 0.0
        self._run, self._done = run, done
        self._is_over = False

    @property
    def is_over(self) -> bool:
        """Whether its thread has come back."""
        return self._is_over

    def run(self) -> Callable[[], None]:
        """Do it; return what the loop is to call."""
        value, error = None, None
        try:
            value = self._run()
        except BaseException as caught:
            error = caught
        return self.end(value, error)

    def end(self, value: Any, error: BaseException | None) -> Callable[[], None]:
        """Note that it is over; return what the loop is to call."""
        self._is_over = True
        del self._run
        return partial(self._done, value, error)


@dataclass(slots=True)
class _Traffic:
    """What is in one lane."""

    waiting: deque[Work] = field(default_factory=deque)
    at_work: set[Work] = field(default_factory=set)
    unheard: set[Work] = field(default_factory=set)

    def room_in_s(self, lane: Lane, now: float) -> float | None:
        """Return the seconds until the next piece may begin, 0.0 for now; None where another must end first."""
        if len(self.at_work) + len(self.unheard) < lane.at_once:
            return 0.0
        if len(self.at_work) >= lane.under_way:
            return None
        began = sorted((work.began_at for work in self.at_work), reverse=True)
        counted = lane.at_once - len(self.unheard)  # of those at work, the newest that still count
        if counted <= 0:
            return None
        return max(0.0, began[counted - 1] + SLOW_S - now)


class Workers:
    """The threads that do the work. Safe to use from any thread."""

    def __init__(self, hand_back: Callable[[Callable[[], None]], None], cancel: threading.Event) -> None:
        """Keep where ends go; no thread is started before there is work.

        Args:
            hand_back: called on any thread with what the loop is to call.
            cancel: set when the agent stops: what has not begun then comes back as cancelled.
        """
        self._hand_back, self._cancel = hand_back, cancel
        self._changed = threading.Condition()
        self._lanes = {lane: _Traffic() for lane in Lane}
        self._abandoned: set[Work] = set()
        self._starter: threading.Thread | None = None

    def start(
        self,
        run: Callable[[], Any],
        done: Callable[[Any, BaseException | None], None],
        lane: Lane,
        *,
        first: bool = False,
    ) -> Work:
        """Have `run` called on a thread of its own, and then `done(value, error)` by the loop.

        Args:
            run: the work.
            done: what the loop calls; where no thread can be started, with that as the error.
            lane: what the work is for.
            first: before everything that waits in this lane.
        """
        work = Work(run, done, lane)
        with self._changed:
            waiting = self._lanes[lane].waiting
            waiting.appendleft(work) if first else waiting.append(work)
            self._changed.notify()
            if self._starter is None:
                self._starter = threading.Thread(target=self._start_all, name="starter", daemon=True)
                try:
                    self._starter.start()
                except (RuntimeError, MemoryError):  # the limit of processes, or of memory
                    self._starter = None
                    self._fail_waiting()
        return work

    def abandon(self, work: Work) -> None:
        """Give the place of a piece of work to the next: it hangs, and nobody waits for it."""
        at_work = self._lanes[work.lane].at_work
        with self._changed:
            if work in at_work:  # else it has just come back, and will be heard
                at_work.discard(work)
                self._abandoned.add(work)
                self._changed.notify()

    def wake(self) -> None:
        """Look again at what waits: the agent stops."""
        with self._changed:
            self._changed.notify()

    def busy(self, without: Lane | None = None) -> int:
        """Return how many pieces of work have not come back, those of one lane perhaps left out."""
        with self._changed:
            counted = [traffic for lane, traffic in self._lanes.items() if lane is not without]
            there = sum(len(traffic.waiting) + len(traffic.at_work) for traffic in counted)
            return there + len(self._abandoned)

    # -- on the starter's thread --------------------------------------------------------------------

    def _start_all(self) -> None:
        try:
            while True:
                self._start_next()
        except BaseException:
            # No memory, most likely: the next piece of work brings another starter, which goes on with what waits.
            with self._changed:
                self._starter = None
            raise

    def _start_next(self) -> None:
        with self._changed:
            work = self._next()
            while work is None:
                self._changed.wait(self._pause_s())
                work = self._next()
            if self._cancel.is_set():
                self._end(work, work.end(None, CancelledError("the agent is stopping")))
                return
            work.began_at = time.monotonic()
            self._lanes[work.lane].at_work.add(work)
        try:
            threading.Thread(target=self._run, args=(work,), daemon=True).start()
        except (RuntimeError, MemoryError):
            with self._changed:
                self._end(work, work.end(None, _no_thread()))

    def _next(self) -> Work | None:
        now = time.monotonic()
        for lane in reversed(Lane):  # the urgent first
            traffic = self._lanes[lane]
            if traffic.waiting and (self._cancel.is_set() or traffic.room_in_s(lane, now) == 0):
                return traffic.waiting.popleft()
        return None

    def _pause_s(self) -> float | None:
        now = time.monotonic()
        rooms_s = [traffic.room_in_s(lane, now) for lane, traffic in self._lanes.items() if traffic.waiting]
        return min((room_s for room_s in rooms_s if room_s is not None), default=None)

    # -- ends ---------------------------------------------------------------------------------------

    def _run(self, work: Work) -> None:
        heard = work.run()
        with self._changed:
            self._end(work, heard)

    def _end(self, work: Work, heard: Callable[[], None]) -> None:
        """Hand an end to the loop; it counts until the loop has heard it. With the lock held."""
        traffic = self._lanes[work.lane]
        traffic.at_work.discard(work)
        self._abandoned.discard(work)
        traffic.unheard.add(work)

        def hear() -> None:
            try:
                heard()
            finally:
                with self._changed:
                    traffic.unheard.discard(work)
                    if traffic.waiting:
                        self._changed.notify()

        self._hand_back(hear)

    def _fail_waiting(self) -> None:
        for traffic in self._lanes.values():
            while traffic.waiting:
                work = traffic.waiting.popleft()
                self._end(work, work.end(None, _no_thread()))


def _no_thread() -> KeyturnError:
    return SourceUnavailableError(
        "no thread can be started for this work: there are too many, or there is no memory",
        "raise TasksMax= or MemoryMax= of keyturn's unit, or end other processes",
    )
