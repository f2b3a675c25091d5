"""The emulator's record of calls, with which a test or the demo counts what was refused."""

from __future__ import annotations

import threading
from collections import Counter, deque
from dataclasses import asdict, dataclass

__all__ = ["Call", "CallLog", "Use"]


@dataclass(frozen=True)
class Use:
    """The last use of a key: when, and the product that was called, such as `sts`."""

    at: float
    product: str


@dataclass(frozen=True)
class Call:
    """One request as the service saw it. `status` 0: no answer was given (hang, reset)."""

    number: int
    at: float
    action: str
    access_key_id: str
    status: int
    code: str = ""
    fault: str = ""

    @property
    def refused(self) -> bool:
        """Whether the service refused the call (a 4xx). A 5xx or a broken connection is a failure, not a refusal."""
        return 400 <= self.status < 500


class CallLog:
    """A list of the newest calls, with totals of all calls."""

    def __init__(self, limit: int = 10_000) -> None:
        """Keep the newest `limit` calls."""
        self._lock = threading.Lock()
        self._calls: deque[Call] = deque(maxlen=limit)
        self._count = 0
        self._by_action: Counter[str] = Counter()
        self._by_code: Counter[str] = Counter()
        self._by_key: dict[str, Counter[str]] = {}
        self._last_used: dict[str, Use] = {}

    def add(
        self,
        at: float,
        action: str,
        access_key_id: str,
        status: int,
        code: str = "",
        fault: str = "",
        product: str = "",
    ) -> Call:
        """Record one call; numbers start at 1 and never repeat."""
        with self._lock:
            self._count += 1
            call = Call(self._count, at, action, access_key_id, status, code, fault)
            self._calls.append(call)
            self._by_action[action] += 1
            self._by_code[code or ("OK" if status else "NoAnswer")] += 1
            if 0 < status < 400:
                self._last_used[access_key_id] = Use(at, product)
            verdict = "refused" if call.refused else "answered" if 0 < status < 400 else "failed"
            self._by_key.setdefault(access_key_id, Counter())[verdict] += 1
            return call

    def since(self, number: int = 0) -> list[Call]:
        """Return the calls after number `number`, oldest first, as far as they are still kept."""
        with self._lock:
            return [call for call in self._calls if call.number > number]

    def last_used(self, access_key_id: str) -> Use | None:
        """Return the last answered call that was signed with a key; None for none."""
        with self._lock:
            return self._last_used.get(access_key_id)

    def summary(self) -> dict[str, object]:
        """Return counts by action, by code and by access key id, since the start."""
        with self._lock:
            return {
                "calls": self._count,
                "by_action": dict(self._by_action),
                "by_code": dict(self._by_code),
                "by_access_key_id": {
                    key: {verdict: counts[verdict] for verdict in ("answered", "refused", "failed")}
                    for key, counts in self._by_key.items()
                },
            }


def as_json(call: Call) -> dict[str, object]:
    """Return the record as the admin API shows it."""
    return asdict(call)
