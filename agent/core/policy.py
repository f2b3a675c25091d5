"""When to refresh, and what to do with an answer: pure functions of what they are given.

The rules are the product contract's "When": a value without expiry is polled (10 % jitter), a session is
renewed at two thirds of its life (5 % jitter), failures back off exponentially with full jitter from 1 s
to 60 s, and a retry never outlives the expiry that it guards. `chance` is a float in [0, 1).
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from agent.core.credential import Credential

POLL_JITTER = 0.10
RENEW_AT = 2 / 3
RENEW_JITTER = 0.05
BACKOFF_BASE_S = 1.0
BACKOFF_CAP_S = 60.0
URGENT_LAST = 0.10
URGENT_CAP_S = 5.0
DEFAULT_MAX_STALENESS_S = 24 * 3600.0


class Change(StrEnum):
    """What a fetched value is, seen from the one in use."""

    FIRST = "first"
    SAME = "same"
    NEW = "new"
    WORSE = "worse"  # expires sooner than the value in use: not published


def backoff(failures: int, chance: float, cap_s: float = BACKOFF_CAP_S) -> float:
    """Seconds to wait after the given number of failures in a row: full jitter, never under a tenth of a second.

    Full jitter as in AWS's "Exponential Backoff And Jitter": uniform over [0, min(cap, base * 2^n)].
    """
    ceiling: float = min(cap_s, BACKOFF_BASE_S * 2 ** min(failures, 16))
    return max(0.1, ceiling * chance)


def next_poll(interval_s: float, chance: float) -> float:
    """Seconds until the next look at a value without expiry."""
    return interval_s * (1 + POLL_JITTER * (2 * chance - 1))


def next_renewal(obtained_at: datetime, expiration: datetime, now: datetime, chance: float) -> float:
    """Seconds until a session is to be renewed: two thirds of its life after it was obtained.

    A source may hand out the same session again when it is asked then (ECS metadata does): behind two thirds it
    is asked at a twentieth of what is left, within a second and a minute, and never in a busy loop.
    """
    life_s = (expiration - obtained_at).total_seconds()
    due_s = life_s * (RENEW_AT + RENEW_JITTER * (2 * chance - 1)) - (now - obtained_at).total_seconds()
    if due_s > 0:
        return due_s
    left_s = (expiration - now).total_seconds()
    return min(60.0, max(1.0, left_s / 20)) * (1 + POLL_JITTER * (2 * chance - 1))


def next_retry(failures: int, chance: float, now: datetime, value: Credential | None, life_s: float | None) -> float:
    """Seconds until the next try after a failure; more urgent inside the last tenth of a session's life."""
    cap_s = BACKOFF_CAP_S
    if value is not None and value.expiration is not None:
        left_s = (value.expiration - now).total_seconds()
        if life_s is not None and left_s < life_s * URGENT_LAST:
            cap_s = URGENT_CAP_S
        cap_s = max(1.0, min(cap_s, left_s / 2)) if left_s > 0 else URGENT_CAP_S
    return backoff(failures, chance, cap_s)


def judge(new: Credential, current: Credential | None) -> Change:
    """Say what `new` is. `current` holds whatever is known of the value in use.

    After a restart the secrets of the value in use are not known (they live in the sinks only), so a
    secret is compared only where both sides have one: a changed secret under an unchanged AccessKey id
    is then found as drift, when the sinks are compared.
    """
    if current is None:
        return Change.FIRST
    same_name = new.access_key_id == current.access_key_id and new.version_id == current.version_id
    same_life = new.expiration == current.expiration
    secrets = ("access_key_secret", "security_token", "bearer_token")
    known = [(getattr(new, name), getattr(current, name)) for name in secrets if getattr(current, name) is not None]
    if same_name and same_life and all(a == b for a, b in known):
        return Change.SAME
    if new.expiration is not None and current.expiration is not None and new.expiration < current.expiration:
        return Change.WORSE
    return Change.NEW
