"""The rules for when to refresh, and for what to do with an answer: pure functions of their arguments.

The rules are the product contract's "When". While the value in use lives and there is time (CALM), a failure is a
warning, and the source is spared; in the last tenth of a session's life (URGENT), a failure is an error, and the
source is asked every few seconds. `chance` is a float in [0, 1).

The daemon runs these functions, and so does bench/fleet.py, which shows that 10,000 hosts keep below the quotas of
KMS (450 calls a second) and STS (100 AssumeRole a second; both: Alibaba Cloud, "Performance data" and "Quotas").
Why the calm window has equal jitter, a start with a value on disk does not hurry, and a dead value does: docs/adr/0008.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from agent.core.credential import Credential
from agent.core.retry import FLOOR_S, full_jitter

POLL_JITTER = 0.10
RENEW_AT = 2 / 3
RENEW_JITTER = 0.05
BACKOFF_BASE_S = 1.0
BACKOFF_CAP_S = 60.0
URGENT_LAST = 0.10
URGENT_CAP_S = 5.0
GUARD = 0.25
"""The largest part of a session's remaining life that one retry may wait, so that several retries fit in."""
CALM_PACE = 1 / 120
"""The longest first retry in the calm window, as a part of the session's life: half a minute for one of an hour."""
START_SPREAD_S = 30.0
"""Seconds over which a fleet that starts at once spreads its first fetches, where a value is on disk."""
OVERDUE_SPREAD_S = 300.0
DEFAULT_MAX_STALENESS_S = 24 * 3600.0
LONGEST_RENEWAL_S = 24 * 3600.0
"""The longest wait for the renewal of a session, whatever expiry it names: a source may err by centuries."""


class Condition(StrEnum):
    """The condition of a credential in `status`, from good to bad."""

    FRESH = "fresh"
    PENDING = "pending"
    FAILING = "failing"
    STALE = "stale"
    EXPIRED = "expired"


ALARMS = (Condition.STALE, Condition.EXPIRED)


class Window(StrEnum):
    """The urgency of the next refresh; later members are worse."""

    FRESH = "fresh"  # no refresh is due
    CALM = "calm"  # due or failing, and the value in use lives for a while: a failure is a warning
    URGENT = "urgent"  # the last tenth of a session's life: a failure is an error
    EXPIRED = "expired"  # the value in use is dead, or there is none


class Change(StrEnum):
    """The relation of a fetched value to the one in use."""

    FIRST = "first"
    SAME = "same"
    NEW = "new"
    WORSE = "worse"  # expires sooner than the value in use: not published


@dataclass(frozen=True, slots=True)
class Standing:
    """Everything about a credential that the time of its next refresh depends on.

    Attributes:
        published: whether there is a value in use.
        obtained_at: when it was obtained; for a session only.
        expiration: when it dies, None for one that lives until rotated.
        failures: refreshes that failed in a row since the last one that went well.
        poll_s: seconds between two looks at a value without expiry.
        watched: whether it is polled although it expires.
    """

    published: bool = False
    obtained_at: datetime | None = None
    expiration: datetime | None = None
    failures: int = 0
    poll_s: float = 60.0
    watched: bool = False

    def life_s(self) -> float:
        """Return how long the session lived when it was obtained, in seconds."""
        if self.expiration is None or self.obtained_at is None:
            return 0.0
        return (self.expiration - self.obtained_at).total_seconds()

    def left_s(self, now: datetime) -> float:
        """Return how long the session still lives, in seconds; negative once it is dead."""
        return (self.expiration - now).total_seconds() if self.expiration is not None else float("inf")


def assess(standing: Standing, now: datetime) -> Window:
    """Return the window in which a credential is."""
    left_s = standing.left_s(now)
    if not standing.published or left_s <= 0:
        return Window.EXPIRED
    if left_s < standing.life_s() * URGENT_LAST:
        return Window.URGENT
    overdue = standing.expiration is not None and left_s < standing.life_s() * (1 - RENEW_AT)
    return Window.CALM if standing.failures or overdue else Window.FRESH


def next_refresh(standing: Standing, now: datetime, chance: float) -> float:
    """Return the seconds until the next refresh of a credential whose last one ended just now, well or badly."""
    if standing.failures:
        return _next_retry(standing, now, chance)
    poll_s = _jittered(standing.poll_s, chance)
    if standing.expiration is None:
        return poll_s
    renewal_s = _next_renewal(standing, now, chance)
    return min(poll_s, renewal_s) if standing.watched else renewal_s


def first_refresh(standing: Standing, now: datetime, chance: float) -> float:
    """Return the seconds until the first refresh after a start; 0.0 where there is no value that works."""
    if assess(standing, now) is Window.EXPIRED:
        return 0.0
    if standing.expiration is None or standing.watched:
        return chance * min(standing.poll_s, START_SPREAD_S)
    due_s = _due_s(standing, now, chance)
    return due_s if due_s > 0 else chance * min(OVERDUE_SPREAD_S, standing.left_s(now) * GUARD)


def backoff(failures: int, chance: float, cap_s: float = BACKOFF_CAP_S) -> float:
    """Return the seconds to wait after that many failures in a row, with full jitter (agent/core/retry.py)."""
    return full_jitter(failures, chance, BACKOFF_BASE_S, cap_s)


def judge(new: Credential, current: Credential | None, *, same_source: bool = True) -> Change:
    """Compare a fetched value with what is known of the value in use.

    After a restart the secrets of the value in use are not known (they live in the sinks only), so a
    secret is compared only where both sides have one: a changed secret under an unchanged AccessKey id
    is then found as drift, when the sinks are compared.

    Args:
        same_source: whether both come from the same source, asked in the same way. Where the config was changed in
            between (a role whose sessions live 1 h instead of 12 h), an earlier expiry is what the operator wants.
    """
    if current is None:
        return Change.FIRST
    same_name = new.access_key_id == current.access_key_id and new.version_id == current.version_id
    same_life = new.expiration == current.expiration
    secrets = ("access_key_secret", "security_token", "bearer_token")
    known = [(getattr(new, name), getattr(current, name)) for name in secrets if getattr(current, name) is not None]
    if same_name and same_life and all(a == b for a, b in known):
        return Change.SAME
    timed = new.expiration is not None and current.expiration is not None
    if timed and same_source and new.expiration < current.expiration:  # type: ignore[operator]
        return Change.WORSE
    return Change.NEW


def _next_retry(standing: Standing, now: datetime, chance: float) -> float:
    window, guarded_s = assess(standing, now), max(FLOOR_S, standing.left_s(now) * GUARD)
    if window is Window.EXPIRED:
        return backoff(standing.failures, chance)
    if window is Window.URGENT:
        return backoff(standing.failures, chance, min(URGENT_CAP_S, guarded_s))
    pace_s = standing.poll_s if standing.expiration is None else standing.life_s() * CALM_PACE
    ceiling_s = max(BACKOFF_BASE_S, pace_s) * 2.0 ** min(standing.failures - 1, 16)
    return min(BACKOFF_CAP_S, guarded_s, ceiling_s) * (1 + chance) / 2


def _next_renewal(standing: Standing, now: datetime, chance: float) -> float:
    """Return the seconds until a session is two thirds through its life.

    A source may then hand out the same session again (ECS metadata does). From there on it is asked whenever a twentieth
    of the remaining life has passed, after a second at least and a minute at most, so never in a busy loop.
    """
    due_s = _due_s(standing, now, chance)
    return due_s if due_s > 0 else _jittered(min(60.0, max(1.0, standing.left_s(now) / 20)), chance)


def _due_s(standing: Standing, now: datetime, chance: float) -> float:
    age_s = (now - (standing.obtained_at or now)).total_seconds()
    due_s = standing.life_s() * (RENEW_AT + RENEW_JITTER * (2 * chance - 1)) - age_s
    return min(due_s, LONGEST_RENEWAL_S * (1 - RENEW_JITTER * chance))


def _jittered(seconds: float, chance: float) -> float:
    return seconds * (1 + POLL_JITTER * (2 * chance - 1))
