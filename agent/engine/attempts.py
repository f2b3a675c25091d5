"""What the engine keeps about a credential while it works on it: the attempt in flight, those that wait, the abandoned."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from agent.core.events import Cause
from agent.core.outcome import Report
from agent.refresh.managed_credential import ManagedCredential


@dataclass
class Attempt:
    """One refresh, from its start to its report."""

    managed: ManagedCredential
    cause: Cause
    waiting: list[Callable[[Report], None]]
    retry_until: float | None = None
    thread: threading.Thread | None = None
    waits_for: set[str] = field(default_factory=set)  # bases that are refreshed first
    over: bool = False


@dataclass
class RefreshSlot:
    """What the engine keeps about one credential besides `ManagedCredential`."""

    managed: ManagedCredential
    attempt: Attempt | None = None
    queued: Attempt | None = None
    again: Attempt | None = None  # waits for its retry
    emergency: Cause | None = None  # rotates it just now; the schedule leaves the credential alone meanwhile
    abandoned: list[threading.Thread] = field(default_factory=list)
    tried: bool = False  # counts for the first pass: it was asked, or what was published before still stands
    key_refused: bool = False  # what failed last was the key that signed, which is the base's
    answered_at: float = float("-inf")  # boottime of the last refresh that went well
