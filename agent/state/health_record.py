"""How the refreshes of one credential fare: failures in a row, the last success, whether the alarm was raised."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from agent.core.errors import reason
from agent.core.policy import Window


@dataclass(frozen=True, slots=True)
class Recovered:
    """The state that a success ended."""

    failures: int
    was_stale: bool
    previous_success_at: datetime | None

    @property
    def from_trouble(self) -> bool:
        """Whether there was anything to recover from."""
        return bool(self.failures) or self.was_stale


class HealthRecord:
    """The health of one credential. Changed by its own methods alone, on the loop's thread."""

    def __init__(
        self,
        *,
        last_success_at: datetime | None = None,
        tried_since: datetime | None = None,
        failures: int = 0,
        last_error: str = "",
        is_stale: bool = False,
    ) -> None:
        self._last_success_at, self._tried_since = last_success_at, tried_since
        self._failures, self._last_error, self._is_stale = failures, last_error, is_stale
        self._window = Window.FRESH

    @property
    def last_success_at(self) -> datetime | None:
        """When a refresh last succeeded."""
        return self._last_success_at

    @property
    def tried_since(self) -> datetime | None:
        """When the first refresh failed, while nothing ever succeeded."""
        return self._tried_since

    @property
    def failures(self) -> int:
        """Failures in a row, 0 after a success."""
        return self._failures

    @property
    def last_error(self) -> str:
        """Why the last refresh failed; "" after a success."""
        return self._last_error

    @property
    def is_stale(self) -> bool:
        """Whether the alarm was raised, and nothing has taken it back."""
        return self._is_stale

    @property
    def window(self) -> Window:
        """The window in which a refresh failed last, FRESH after a success; in memory only."""
        return self._window

    def succeeded(self, now: datetime) -> Recovered:
        """Note a success; return what it ended."""
        ended = Recovered(self._failures, self._is_stale, self._last_success_at)
        self._failures, self._last_error, self._is_stale, self._window = 0, "", False, Window.FRESH
        self._last_success_at = now
        return ended

    def failed(self, text: str, now: datetime) -> bool:
        """Note a failure; return whether it is the first of a run with this reason."""
        first = not self._failures or reason(self._last_error) != reason(text)
        if self._last_success_at is None and self._tried_since is None:
            self._tried_since = now
        self._failures += 1
        self._last_error = text
        return first

    def judged(self, window: Window) -> bool:
        """Note the window of a failure; return whether it is another one than before."""
        before, self._window = self._window, window
        return window is not before

    def raise_alarm(self) -> None:
        """Note that no refresh succeeded for too long."""
        self._is_stale = True

    def take_back_alarm(self) -> None:
        """Note that the staleness limit lies ahead again."""
        self._is_stale = False
