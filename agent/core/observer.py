"""The interface through which the engine reports what can be seen from outside; agent/metrics/ and agent/fleet/ implement it.

An observer is called on the loop's thread, between two steps of its work, so it only takes note and returns at once.
"""

from __future__ import annotations

from agent.core.outcome import Outcome


class Observer:
    """An observer that ignores everything, and the base class of those that do not."""

    def refreshed(self, credential: str, outcome: Outcome) -> None:
        """Take note that a refresh went well: the value is unchanged, or the sinks hold it now."""

    def failed(self, credential: str, event: str) -> None:
        """Take note that a refresh failed; `event` is the audit's: fetch_failed, verify_failed or publish_failed."""

    def told(self, credential: str, notifier: str, outcome: str) -> None:
        """Take note of a notification; `notifier` is the dependent's type, `outcome` is told, failed or gave_up."""

    def changed(self) -> None:
        """Take note that something else changed that can be seen from outside, such as an alarm."""


NOBODY = Observer()


class Observers(Observer):
    """Several observers as one, each called in the order in which it came."""

    def __init__(self) -> None:
        """Begin with none."""
        self._all: list[Observer] = []

    def add(self, observer: Observer) -> None:
        """Call this one, too, from now on."""
        self._all.append(observer)

    def refreshed(self, credential: str, outcome: Outcome) -> None:
        """Tell each."""
        for one in self._all:
            one.refreshed(credential, outcome)

    def failed(self, credential: str, event: str) -> None:
        """Tell each."""
        for one in self._all:
            one.failed(credential, event)

    def told(self, credential: str, notifier: str, outcome: str) -> None:
        """Tell each."""
        for one in self._all:
            one.told(credential, notifier, outcome)

    def changed(self) -> None:
        """Tell each."""
        for one in self._all:
            one.changed()
