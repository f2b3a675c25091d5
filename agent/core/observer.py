"""The interface through which the engine reports what can be seen from outside; agent/metrics/ implements it.

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
