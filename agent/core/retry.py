"""Trying again: exponential back-off with full jitter, a cap and a deadline.

The pause after the n-th failure is drawn from the whole of [0, min(cap, base * 2^n)], as in AWS's "Exponential Backoff
And Jitter" (Marc Brooker, AWS Architecture Blog, 2015). Of the schemes compared there, full jitter makes the fewest calls:
thousands of hosts whose keys change at one moment, or whose source comes back at one moment, do not ask in step.

Randomness, time and sleep are arguments, so that a test needs no clock.
"""

from __future__ import annotations

from collections.abc import Callable

FLOOR_S = 0.1
"""The shortest pause: the draw may be next to nothing, and a loop without a pause helps nobody."""


def full_jitter(failures: int, chance: float, base_s: float, cap_s: float) -> float:
    """Return the seconds to wait after that many failures in a row; `chance` is in [0, 1)."""
    ceiling_s = min(cap_s, base_s * 2.0 ** min(failures, 16))  # beyond that the cap counts, and a float has an end
    return max(FLOOR_S, ceiling_s * chance)


class Retry:
    """One operation that is tried again until it works or its time is up.

    ::

        retry = Retry(0.4, 4.0, timeout_s, chance=random.random, pause=time.sleep, monotonic=time.monotonic)
        while not work():
            if not retry.again():
                raise TimeoutError
    """

    def __init__(
        self,
        base_s: float,
        cap_s: float,
        limit_s: float,
        *,
        chance: Callable[[], float],
        pause: Callable[[float], object],
        monotonic: Callable[[], float],
    ) -> None:
        """Start the clock.

        Args:
            base_s: the longest first pause; each further one may be twice as long, up to `cap_s`.
            cap_s: the longest pause of all.
            limit_s: seconds from now after which nothing is tried again.
            chance: in [0, 1).
            pause: sleeps that many seconds. What it raises ends the retrying; what it returns does not matter here.
            monotonic: seconds, for the time that has passed.
        """
        self._base_s, self._cap_s, self._limit_s = base_s, cap_s, limit_s
        self._chance, self._pause, self._monotonic = chance, pause, monotonic
        self._began = monotonic()
        self.attempts = 1
        """The number of tries, the one under way included."""

    def again(self, limit_s: float | None = None) -> bool:
        """Pause, then return True for another try; return False at once when the time is up.

        The last pause is cut off at the deadline, so that the whole time is used.

        Args:
            limit_s: counts from the start like the one of the constructor, for failures that deserve less patience.
        """
        limit_s = self._limit_s if limit_s is None else min(limit_s, self._limit_s)
        left_s = self._began + limit_s - self._monotonic()
        if left_s <= 0:
            return False
        self._pause(min(left_s, full_jitter(self.attempts - 1, self._chance(), self._base_s, self._cap_s)))
        self.attempts += 1
        return True
