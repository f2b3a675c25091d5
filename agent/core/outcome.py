"""The result of a refresh, for the engine and for whoever asked for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from agent.core.errors import KeyturnError


class Result(StrEnum):
    """The way in which a refresh that went well ended."""

    UNCHANGED = "unchanged"
    PUBLISHED = "published"
    REPAIRED = "repaired"
    """The value is the same, but a sink did not hold it."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a refresh that went well."""

    result: Result
    generation: int
    timings_ms: dict[str, int] = field(default_factory=dict)

    @property
    def publish_s(self) -> float:
        """Seconds from the provider's reply to the last sink switched, the proof of the value included."""
        return (self.timings_ms.get("verify", 0) + self.timings_ms.get("publish", 0)) / 1000


@dataclass(frozen=True, slots=True)
class Report:
    """The answer to whoever asked for a refresh: an outcome, or an error."""

    credential: str
    outcome: Outcome | None
    error: KeyturnError | None
