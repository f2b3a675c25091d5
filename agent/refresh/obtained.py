"""What `obtain` hands to `publish` (agent/refresh/pipeline.py)."""

from __future__ import annotations

from dataclasses import dataclass

from agent.cloud.verify import Verification
from agent.core.credential import Credential
from agent.core.policy import Change


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
