"""Log lines that somebody outside can cause as often as he likes: one in a while, with how many were left out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

PERIOD_S = 60.0


class Seldom:
    """Lets one line through in each period."""

    def __init__(self, period_s: float = PERIOD_S, now: Callable[[], float] = time.monotonic) -> None:
        """Let the first line through."""
        self._period_s, self._now = period_s, now
        self._lock = threading.Lock()
        self._next = float("-inf")
        self._left_out = 0

    def due(self) -> dict[str, int] | None:
        """Return the fields for the line if it may be written now: how many were left out. None where it may not."""
        with self._lock:
            now = self._now()
            if now < self._next:
                self._left_out += 1
                return None
            left_out, self._left_out, self._next = self._left_out, 0, now + self._period_s
            return {"left_out": left_out} if left_out else {}
