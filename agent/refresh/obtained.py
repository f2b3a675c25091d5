"""What passes from one stage of a rotation to the next; the types carry the order."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from agent.cloud.verify import Verification
from agent.core.credential import Credential
from agent.core.events import Actor, Trigger
from agent.core.policy import Change


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a rotation takes place, and who asked for it."""

    trigger: Trigger
    actor: Actor | None = None
    reason: str | None = None

    def as_fields(self) -> dict[str, Any]:
        """The fields of an audit record."""
        return {
            "trigger": str(self.trigger),
            "actor": self.actor.as_json() if self.actor else None,
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True)
class Obtained:
    """A value that may be published, or need not be: `change` says what it is.

    Attributes:
        proof: None where nothing had to be, or could be, proved.
        proved_at: boottime seconds.
        poll_s: seconds until the source wants to be asked again, for a value without expiry.
    """

    value: Credential
    change: Change
    proof: Verification | None
    proved_at: float
    fetch_ms: int
    verify_ms: int | None
    poll_s: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one refresh: `what` is "unchanged", "published" or "repaired"."""

    what: str
    generation: int
    timings_ms: dict[str, int] = field(default_factory=dict)

    @property
    def publish_s(self) -> float:
        """Seconds from the provider's reply to the last sink switched, the proof of the value included."""
        return (self.timings_ms.get("verify", 0) + self.timings_ms.get("publish", 0)) / 1000
