"""What `status` says below a credential's row: what is wrong with it, or all that is known of it where it was named."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from agent.core.text import first_few
from agent.core.timestamps import moment_of


def moment(text: str | None) -> datetime | None:
    """Return a time of `status --json`."""
    return moment_of(text) if text else None


def wrong_with(one: dict[str, Any]) -> Iterator[str]:
    """Yield what somebody has to know, or do something about."""
    for alarm in one.get("alarms", ()):  # an older daemon does not say
        yield alarm["text"]
    if one["last_error"]:
        times = one["consecutive_failures"]
        yield f"failed {'once' if times == 1 else f'{times} times'}: {one['last_error']}"
    for sink in one["sinks"]:
        if sink["in_sync"] is False:
            yield f"{sink['type']} {sink['target']} differs from what was published"
    for told in one["notify"]:
        if told["owed"] or told["last_outcome"] not in (None, "told") or told["pickup"] == "not picked up":
            yield _told(told)
    if behind := [who for who in one.get("clients") or () if who["pickup"] != "confirmed"]:
        latest = max(who["expires_at"] for who in behind)
        yield f"an older generation may be in use until {latest}: {_processes(behind)}"
    yield from _rotation(one.get("rotation") or {})
    yield from _canary(one.get("canary") or {"looks": ()})  # likewise


def all_of(one: dict[str, Any]) -> Iterator[str]:
    """Yield the rest: what it is, where it is, and who has it."""
    if one["generation"]:
        key = f"{one['access_key_id'] or 'a value without a key id'}, generation {one['generation']}"
        proved = "verified" if one["verified"] else "not verified"
        yield f"{key}, published {one['published_at']}, {proved}"
        if one.get("version_id"):
            yield f"version {one['version_id']} of the secret"
    if one["expires_at"]:
        yield f"expires {one['expires_at']}"
    if one.get("last_success_at"):
        due = f", next {one['next_refresh_at']}" if one["next_refresh_at"] else ""
        yield f"refreshed {one['last_success_at']}{due}"
    for sink in one["sinks"]:
        if sink["in_sync"] is not False:
            yield f"{sink['type']} {sink['target']}{': as published' if sink['in_sync'] else ''}"
    for told in one["notify"]:
        if not told["owed"] and told["last_outcome"] in (None, "told") and told["pickup"] != "not picked up":
            yield _told(told)
    if moved := [who for who in one.get("clients") or () if who["pickup"] == "confirmed"]:
        yield f"generation {one['generation']} was fetched, pickup confirmed: {_processes(moved)}"


def _told(told: dict[str, Any]) -> str:
    state = told["last_outcome"] or "not told yet"
    if told["owed"]:
        state = f"owed; {told['last_outcome']}" if told["last_outcome"] not in (None, "told") else "owed"
    pickup = f", pickup {told['pickup']}" if told["pickup"] and told["last_outcome"] else ""
    return f"{told['type']} {told['target']}: {state}{pickup}"


def _rotation(seen: dict[str, Any]) -> Iterator[str]:
    """Yield what the rotation of a RAM user's keys waits for, where that is somebody's doing."""
    if seen.get("waits_for") and (seen.get("remedy") or seen.get("stopped")):
        remedy = f"; {seen['remedy']}" if seen.get("remedy") else ""
        yield f"rotation {'stopped' if seen['stopped'] else 'waits'}: {seen['waits_for']}{remedy}"


def _canary(seen: dict[str, Any]) -> Iterator[str]:
    """Yield the places whose newest look went wrong."""
    for look in seen["looks"]:
        if look["outcome"] not in ("accepted", "restricted"):
            yield f"canary {look['outcome']} at {look['where']}, {look['at']}: {look['error']}"


def _processes(clients: Sequence[dict[str, Any]]) -> str:
    return ", ".join(first_few([_process(who) for who in clients]))


def _process(who: dict[str, Any]) -> str:
    name = f"pid {who['pid']}" if who["pid"] else f"user {who['user']}"
    return " ".join(filter(None, [name, who["executable"], f"({who['unit']})" if who["unit"] else ""]))
