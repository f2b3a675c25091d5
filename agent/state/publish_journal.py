"""What the sinks of one credential hold, and how a publish that was interrupted is finished or undone.

The order of a publish, which no caller can get wrong without being told at once:

    begin    the staged files are flushed; the point of no return, once this is on disk
    switched every sink holds the new generation
    close    the record of it is in the audit log

`take_back` goes back to the generation before, while no file was switched; `roll_back` does so after a crash. Why the
order is this one: docs/adr/0004.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from agent.state.records import Published


class OutOfOrderError(Exception):
    """The error that a step cannot follow the one before: a fault of keyturn itself."""


class PublishJournal:
    """The publish journal of one credential. Changed by its own methods alone, on the loop's thread."""

    def __init__(
        self,
        published: Published | None = None,
        *,
        before: Published | None = None,
        staged: Iterable[dict[str, Any]] = (),
        is_switched: bool = False,
        audit_seq: int = 0,
        spent: int = 0,
    ) -> None:
        self._published = published or Published()
        self._before, self._staged = before, tuple(staged)
        self._is_switched, self._audit_seq, self._spent = is_switched, audit_seq, spent

    @property
    def published(self) -> Published:
        """The newest generation: what the sinks hold, or shall hold while a publish is open."""
        return self._published

    @property
    def before(self) -> Published | None:
        """The generation to which an open publish would go back; None where none is open."""
        return self._before

    @property
    def staged(self) -> tuple[dict[str, Any], ...]:
        """The staged files of an open publish, as agent/sinks/transaction describes them."""
        return self._staged

    @property
    def audit_seq(self) -> int:
        """The number of the newest audit record when the publish began."""
        return self._audit_seq

    @property
    def spent(self) -> int:
        """The newest generation that was taken back although somebody may have heard of it; 0 for none."""
        return self._spent

    @property
    def is_open(self) -> bool:
        """Whether a publish was begun and is not known to have ended."""
        return self._before is not None

    @property
    def is_switched(self) -> bool:
        """Whether every sink of the open publish is switched, so that only its audit record is missing."""
        return self._is_switched

    @property
    def is_half_switched(self) -> bool:
        """Whether the open publish is not known to have reached every sink."""
        return self.is_open and not self._is_switched

    @property
    def next_generation(self) -> int:
        """The number of the next publish; one that a crash took back is not given to another value."""
        return max(self._published.generation, self._spent) + 1

    def begin(self, published: Published, staged: Iterable[dict[str, Any]], audit_seq: int) -> None:
        """Open a publish of `published`, whose files are staged and flushed."""
        self._require(not self.is_open, "a publish begins while another one is open")
        self._before, self._staged, self._audit_seq = self._published, tuple(staged), audit_seq
        self._published, self._is_switched = published, False

    def switched(self) -> None:
        """Note that every sink holds the new generation."""
        self._require(self.is_open, "sinks are switched without a publish")
        self._is_switched = True

    def close(self) -> None:
        """Note that the audit log has the record of the publish, too."""
        self._require(self.is_open and self._is_switched, "a publish is closed before its sinks were switched")
        self._end()

    def take_back(self) -> None:
        """Go back to the generation before: no file was switched, and nobody can have heard of this one."""
        self._require(self.is_half_switched, "a publish is taken back that is not open, or was switched")
        assert self._before is not None
        self._published = self._before
        self._end()

    def roll_back(self) -> None:
        """Go back to the generation before, after a crash; the number is not given out again."""
        self.count_on(self._published.generation)
        self.take_back()

    def amend(self, published: Published) -> None:
        """Correct what is known of the generation that stands: a proof, an expiry, a version."""
        self._require(not self.is_open, "what an open publish brings is amended")
        self._require(published.generation == self._published.generation, "another generation is no amendment")
        self._published = published

    def count_on(self, generation: int) -> None:
        """Give out no number up to and including `generation`."""
        self._spent = max(self._spent, generation)

    def _end(self) -> None:
        self._before, self._staged, self._is_switched = None, (), False

    @staticmethod
    def _require(holds: bool, otherwise: str) -> None:
        if not holds:
            raise OutOfOrderError(otherwise)
