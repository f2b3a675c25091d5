"""Who counts what the engine does: one narrow interface, and nobody by default.

The engine's own pages say what happens; this one says what of it can be seen from outside (agent/metrics/). An
observer is called on the engine's thread, between two steps of its work: it takes note, and does nothing else.
"""

from __future__ import annotations

from agent.core.outcome import Outcome


class Observer:
    """Hears of each refresh and each notification; this one forgets them."""

    def refreshed(self, credential: str, outcome: Outcome) -> None:
        """A refresh went well: the value is unchanged, or the sinks hold it now."""

    def failed(self, credential: str, event: str) -> None:
        """A refresh failed; `event` is the audit's word: fetch_failed, verify_failed or publish_failed."""

    def told(self, credential: str, notifier: str, outcome: str) -> None:
        """A dependent was told, or not: `notifier` is its type, `outcome` told, failed or gave_up."""

    def changed(self) -> None:
        """Something else changed that can be seen from outside: an alarm was raised, or taken back."""


NOBODY = Observer()
