"""The common path of all calls: an ordered fault strikes or the call is answered, and it is recorded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from .cloud import Cloud
from .errors import ApiError
from .faults import PLAYED_BY_THE_SERVER, UNANSWERED, Fault, FaultRule

__all__ = ["Reply", "receive"]


@dataclass(frozen=True)
class Reply:
    """An answer to send. `fault` tells the server how to treat the connection, where it should."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    fault: Fault | None = None


def receive(
    cloud: Cloud,
    action: str,
    access_key_id: str,
    answer: Callable[[], Reply],
    refuse: Callable[[ApiError], Reply],
    wrong_shape: bytes | None = None,
    product: str = "",
) -> Reply:
    """Handle one call of `action`.

    Args:
        cloud: its faults strike, and its log records the call.
        action: the name under which faults are ordered.
        access_key_id: the caller's, as far as it is known.
        answer: carries the call out; an ApiError that it raises is a refusal.
        refuse: makes the service's reply for a refusal or an ordered error.
        wrong_shape: an answer of the wrong shape in the service's format, where that is not JSON.
        product: what is called, for the record of a key's last use.
    """
    at = cloud.now()
    rule = cloud.faults.take(action)
    try:
        code = ""
        reply = answer() if rule is None or rule.fault.carries_out else _faulty(rule, wrong_shape)
    except ApiError as error:
        reply, code = refuse(error), error.code
    if rule is not None and rule.fault in PLAYED_BY_THE_SERVER:
        reply = replace(reply, fault=rule.fault)
    answered = rule is None or rule.fault not in UNANSWERED
    fault = rule.fault.value if rule else ""
    cloud.log.add(at, action, access_key_id, reply.status if answered else 0, code, fault, product)
    return reply


def _faulty(rule: FaultRule, wrong_shape: bytes | None) -> Reply:
    """Return the answer for a fault; where the fault is a broken connection it is never sent."""
    if rule.fault is Fault.STATUS:
        raise ApiError(rule.status, rule.code, rule.message)
    if rule.fault in UNANSWERED:
        return Reply(0, b"")
    if rule.fault is Fault.WRONG_SHAPE and rule.body is None and wrong_shape is not None:
        return Reply(200, wrong_shape)
    status, headers, body = rule.answer()
    return Reply(status, body, headers)
