"""Faults that can be ordered for the next calls, and the answers that they make.

There are two kinds. A fault of content (a status, rubbish, …) is an answer that the service gives before it looks at the
request, so it needs no valid signature. A fault of the connection (drip, lost reply, …) is carried out by the server.
"""

from __future__ import annotations

import enum
import threading
from dataclasses import dataclass

__all__ = ["PLAYED_BY_THE_SERVER", "UNANSWERED", "Fault", "FaultQueue", "FaultRule", "default_code"]

OVERSIZED_BYTES = 10 * 1024 * 1024

# Documented codes of the shared KMS gateway; the other statuses only need some code.
_DEFAULT_CODES = {
    400: "InvalidParameter",
    401: "AuthenticationFail",
    403: "Forbidden.NoPermission",
    404: "Forbidden.ResourceNotFound",
    409: "Rejected.Unavailable",
    429: "Rejected.Throttling",
    500: "InternalFailure",
    503: "ServiceUnavailableTemporary",
}


class Fault(enum.Enum):
    """The kinds of fault."""

    STATUS = "status"
    """An error status with a JSON error body."""
    RUBBISH = "rubbish"
    """200 with a body that is no JSON."""
    OVERSIZED = "oversized"
    """200 with a body of 10 MB."""
    EMPTY = "empty"
    """200 without a body."""
    WRONG_SHAPE = "wrong_shape"
    """200 with JSON that is no answer of the action."""
    REDIRECT = "redirect"
    """302 to another host."""
    HANG = "hang"
    """No answer, until the caller leaves or the server stops. The call is not carried out."""
    RESET = "reset"
    """The connection is reset (TCP RST). The call is not carried out."""
    DRIP = "drip"
    """The call is carried out; its answer, status line included, comes one byte at a time."""
    LOSE_REPLY = "lose_reply"
    """The call is carried out, then the connection is reset before the answer: the caller cannot know."""

    @property
    def carries_out(self) -> bool:
        """Whether the service carries the call out, and only the answer suffers."""
        return self in (Fault.DRIP, Fault.LOSE_REPLY)


UNANSWERED = frozenset({Fault.HANG, Fault.RESET, Fault.LOSE_REPLY})
"""Faults that leave the caller without an answer."""

PLAYED_BY_THE_SERVER = UNANSWERED | {Fault.DRIP}
"""Faults of the connection rather than of the content."""


def default_code(status: int) -> str:
    """Return a code that fits `status`, for faults that name none."""
    return _DEFAULT_CODES.get(status, "InternalFailure" if status >= 500 else "InvalidParameter")


_BODIES = {
    Fault.RUBBISH: b"<html><body>Bad things happened</body></html>",
    Fault.EMPTY: b"",
    Fault.WRONG_SHAPE: b'["this", {"is": "not"}, "what you asked for"]',
}


@dataclass(frozen=True)
class FaultRule:
    """An ordered fault; None as `action` fits every call."""

    fault: Fault
    action: str | None = None
    status: int = 500
    code: str = "InternalFailure"
    message: str = "ordered by the test"
    body: bytes | None = None
    location: str = "https://redirected.invalid/"

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Return status, extra headers and body of a fault of content, except STATUS (whose body depends on the product)."""
        if self.fault is Fault.REDIRECT:
            return 302, {"Location": self.location}, self.body or b""
        if self.body is not None:
            return 200, {}, self.body
        if self.fault is Fault.OVERSIZED:
            return 200, {}, b'{"RequestId":"' + b"x" * OVERSIZED_BYTES + b'"}'
        return 200, {}, _BODIES[self.fault]


class FaultQueue:
    """The ordered faults in their order; each call takes the first one that fits its action."""

    def __init__(self) -> None:
        """Start without any fault."""
        self._lock = threading.Lock()
        self._pending: list[tuple[FaultRule, int]] = []

    def add(self, rule: FaultRule, times: int = 1) -> None:
        """Let `rule` hit the next `times` calls that fit."""
        with self._lock:
            self._pending.append((rule, times))

    def take(self, action: str) -> FaultRule | None:
        """Return the fault for this call of `action`, if there is one, and use it up once."""
        with self._lock:
            for place, (rule, times) in enumerate(self._pending):
                if rule.action in (None, action):
                    self._pending[place : place + 1] = [(rule, times - 1)] if times > 1 else []
                    return rule
        return None

    def clear(self) -> None:
        """Forget all faults that have not happened yet."""
        with self._lock:
            self._pending.clear()
