"""What a command waits for: said before anybody takes the silence for a hang, and again while it lasts.

`Activity` holds what is waited for, with try, cause and next try; the thread that waits writes it. `Silence` is the thread
that says it, and is told of everything else that is said.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Self, TypeVar

from agent.core.errors import KeyturnError

T = TypeVar("T")
FIRST_S, AGAIN_S = 3.5, 8.0
"""A wait is to be announced at most 5 s after it began, then at least every 10 s; to look what it is takes a moment."""
BUSY = "the agent itself, which is busy or stuck (a slow disk, for example) and says no more"
WAITING = "waiting"
"""The outcome of what is shown like a step, and is no end of one."""
BEGUN = "begun"
"""Likewise: a step begins."""


class Activity:
    """What one thread does or waits for now. Written by that thread, read by any."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._describe: Callable[[], str] | None = None
        self._next_at: float | None = None
        self._begun("the beginning")

    def begin(self, what: str) -> None:
        """Note what is waited for from now on: the first try of it."""
        with self._lock:
            self._begun(what)

    def failed(self, cause: str) -> None:
        """Note why the present try failed."""
        with self._lock:
            self._cause = cause

    @contextmanager
    def asking(self, describe: Callable[[], str]) -> Iterator[None]:
        """Have somebody else say, for as long as this lasts, what the present try waits for; "" for nothing in particular."""
        with self._lock:
            self._describe = describe
        try:
            yield
        finally:
            with self._lock:
                self._describe = None

    def pausing(self, pause: Callable[[float], T]) -> Callable[[float], T]:
        """Return a `pause` that is known as the time until the next try."""

        def paused(seconds: float) -> T:
            with self._lock:
                self._next_at = time.monotonic() + seconds
            try:
                return pause(seconds)
            finally:
                with self._lock:
                    self._next_at, self._since = None, time.monotonic()
                    self._attempt += 1

        return paused

    def __str__(self) -> str:
        with self._lock:
            what, attempt, cause = self._what, self._attempt, self._cause
            next_at, since, describe = self._next_at, self._since, self._describe
        now = time.monotonic()
        if next_at is not None:
            return tried(what, attempt, cause, next_s=next_at - now)
        text = tried(what, attempt, cause, for_s=now - since)
        try:
            inside = describe() if describe is not None else ""
        except KeyturnError:
            inside = BUSY
        return f"{text}; {inside}" if inside else text

    def _begun(self, what: str) -> None:
        self._what, self._attempt, self._cause = what, 1, ""
        self._since = time.monotonic()
        self._next_at = None


class Silence:
    """Says what is waited for whenever nothing was said for a while. From its entry to its exit, on a thread of its own."""

    def __init__(
        self,
        describe: Callable[[], str],
        say: Callable[[dict[str, Any]], None],
        *,
        first_s: float = FIRST_S,
        again_s: float = AGAIN_S,
    ) -> None:
        """Begin with nothing said.

        Args:
            describe: what is waited for now; comes back within a second.
            say: called with that, in the form of a step of an emergency.
            first_s: the silence after which it is said.
            again_s: the pause after which it is said again.
        """
        self._describe, self._say, self._first_s, self._again_s = describe, say, first_s, again_s
        self._changed = threading.Condition()
        self._began = self._due = 0.0
        self._entered = time.monotonic()
        self._over = False

    def heard(self, *, of_a_wait: bool = False) -> None:
        """Note that something else was said; where it was said of a wait, the next word of it comes after `again_s`."""
        self._quiet_for(self._again_s if of_a_wait else self._first_s)

    def _quiet_for(self, seconds: float) -> None:
        with self._changed:
            self._began = time.monotonic()
            self._due = self._began + seconds
            self._changed.notify()

    def __enter__(self) -> Self:
        """Start the clock."""
        self._quiet_for(self._first_s)
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Say nothing any more."""
        with self._changed:
            self._over = True
            self._changed.notify()

    def _watch(self) -> None:
        while True:
            with self._changed:
                while not self._over and (left_s := self._due - time.monotonic()) > 0:
                    self._changed.wait(left_s)
                if self._over:
                    return
                self._due = time.monotonic() + self._again_s
                began = self._began
            with suppress(Exception):  # nobody may hear it; what is waited for goes on
                self._say(self._wait(self._described(), began))

    def _described(self) -> str:
        try:
            return self._describe()
        except Exception:  # whoever knows it is busy, or stuck: that is worth saying, too
            return BUSY

    def _wait(self, what: str, began: float) -> dict[str, Any]:
        now = time.monotonic()
        ms, at_ms = (round((now - since) * 1000) for since in (began, self._entered))
        return {"name": "wait", "outcome": WAITING, "ms": ms, "detail": what, "at_ms": at_ms}


def tried(what: str, attempt: int, cause: str, *, for_s: float | None = None, next_s: float | None = None) -> str:
    """Return what is waited for in words: why the last try failed and when the next one comes; from the second on, which it is."""
    if next_s is not None:
        why = f" ({cause})" if cause else ""
        return f"{what}: try {attempt} failed{why}, next try in {max(0.0, next_s):.1f} s"
    since = f", for {for_s:.0f} s now" if for_s is not None and for_s >= 1 else ""
    before = f"; the one before failed ({cause})" if cause and attempt > 1 else ""
    return f"{what}{f': try {attempt}' if attempt > 1 else ''}{since}{before}"
