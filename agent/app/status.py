"""What `status` shows: one object, contract, without a secret; made by the daemon, or from the state on disk."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from agent import __version__
from agent.core.errors import KeyturnError
from agent.core.policy import ALARMS, WELL, WORST_FIRST
from agent.core.timestamps import rfc3339
from agent.refresh.managed_credential import ManagedCredential
from agent.sinks.transaction import transaction
from agent.state.records import GAVE_UP, called, key
from agent.system.clock import Clock

NAMED = 5
"""How many credentials one line names."""


def whole(
    credentials: Iterable[ManagedCredential], clock: Clock, config: str, pid: int | None, started_at: datetime | None
) -> dict[str, Any]:
    """The object of `status --json`; `pid` and `started_at` are None when no daemon runs."""
    return {
        "agent": {"version": __version__, "pid": pid, "started_at": stamp(started_at), "config": config},
        "credentials": {managed.name: one(managed, clock) for managed in credentials},
    }


def one(managed: ManagedCredential, clock: Clock) -> dict[str, Any]:
    """What there is to know of one credential."""
    state, done = managed.state, managed.state.published
    due = managed.next_refresh_at
    return {
        "provider": managed.provider.type_name,
        "state": managed.condition(clock.now()),
        "generation": done.generation,
        "access_key_id": done.access_key_id or None,
        "version_id": done.version_id or None,
        "expires_at": stamp(done.expiration),
        "published_at": stamp(done.published_at),
        "verified": done.verified == "verified",
        "last_success_at": stamp(state.last_success_at),
        "next_refresh_at": stamp(clock.at(due)) if due is not None else None,
        "consecutive_failures": state.consecutive_failures,
        "last_error": state.last_error or None,
        "sinks": _sinks(managed),
        "notify": notifications(managed),
    }


def summary(credentials: Iterable[ManagedCredential], now: datetime) -> str:
    """One line for `systemctl status`: how many are well, then the others, the worst first."""
    conditions = [(managed.condition(now), managed) for managed in credentials]
    well = sum(1 for condition, _managed in conditions if condition == WELL)
    worst_first = sorted((each for each in conditions if each[0] != WELL), key=lambda each: WORST_FIRST.index(each[0]))
    ill = [_told(managed, condition) for condition, managed in worst_first]
    return "; ".join([f"{well} of {len(conditions)} credentials fresh", *_first_few(ill)])


def starting(waiting: Sequence[str], total: int) -> str:
    """The same line before READY: for whose first answer, be it a failure, the start waits."""
    answered = f"starting: {total - len(waiting)} of {total} credentials answered"
    return f"{answered}; waiting for {', '.join(_first_few(waiting))}" if waiting else answered


def _first_few(texts: Sequence[str]) -> list[str]:
    return [*texts[:NAMED], *([f"and {len(texts) - NAMED} more"] if len(texts) > NAMED else [])]


def _told(managed: ManagedCredential, condition: str) -> str:
    """Only what stands still: a line that counts seconds would be a new one at each look."""
    if condition not in ALARMS:
        return f"{managed.name} {condition}{_whose(managed)}"
    last = stamp(managed.state.last_success_at)
    return f"{managed.name} {condition} ({f'last success {last}' if last else 'never obtained'})"


def _whose(managed: ManagedCredential) -> str:
    """Which dependent it is about, where its refreshes go well and it is one."""
    if managed.state.consecutive_failures:
        return ""
    gave_up = [tuple(name.split("\0")) for name, how in managed.state.last_outcome.items() if how.startswith(GAVE_UP)]
    owed = [debt.identity for debt in managed.state.debts]
    about, what = (gave_up, "was given up") if gave_up else (owed, "to be told")
    return f" ({called(about[0])} {what})" if len(about) == 1 else ""


def stamp(moment: datetime | None) -> str | None:
    """Write it out; None for a moment that never was."""
    return rfc3339(moment) if moment else None


def _sinks(managed: ManagedCredential) -> list[dict[str, Any]]:
    return [
        {"type": sink.type_name, "target": sink.target, "in_sync": managed.in_sync.get(sink.target)}
        for sink in managed.sinks
    ]


def notifications(managed: ManagedCredential) -> list[dict[str, Any]]:
    """How each dependent was told, and what is known of its pickup."""
    state = managed.state
    owed = {debt.identity for debt in state.debts}
    return [
        {
            "type": notifier.type_name,
            "target": notifier.target,
            "owed": notifier.identity in owed,
            "last_outcome": state.last_outcome.get(key(notifier.identity)),
            "pickup": state.pickup.get(key(notifier.identity)),
        }
        for notifier in managed.notifiers
    ]


def look_at_sinks(managed: ManagedCredential) -> None:
    """Find out which sinks are in sync now, where the value is known to this process.

    A sink that cannot be read (somebody put a symlink there) hides no other credential: whether the sinks of this
    one are in sync is not known then, and its next refresh says what is wrong.
    """
    if managed.value is None:
        return
    try:
        survey = transaction.survey(managed.sinks, managed.value, managed.state.published.generation)
    except (KeyturnError, OSError):
        managed.in_sync = {}
        return
    out = set(survey.out_of_sync)
    managed.in_sync = {sink.target: sink.target not in out for sink in managed.sinks}
