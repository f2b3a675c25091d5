"""What an emergency leaves in the audit log at its end, on failure too: `rotation_ended`, from which it can be told later.

A record has at most `MAX_LINE_BYTES`, and one that is longer is lost. So each text is cut, and of those left behind and of the
other hosts as many are named as there is room for; a last entry `{"more": N}` says how many are not.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from agent.emergency.left_behind import LeftBehind
from agent.emergency.report import OldKey, Result

TEXT_BYTES = 4096
"""Of the reason and the error, each. The reason stands as a whole in `rotation_requested`."""
DETAIL_BYTES = 512
"""Of each other text."""
MAX_STEPS = 64
LEFT_BEHIND_BYTES = 128 * 1024
"""Of all those left behind together: half of what a record may have."""
HOSTS_BYTES = 64 * 1024
"""Of all other hosts together: a thousand with names of 30 characters that moved fit."""


def end_record(result: Result, duration_ms: int) -> dict[str, Any]:
    """Return the fields of `rotation_ended` that say how an emergency ended.

    Args:
        result: what came of it.
        duration_ms: since the command.
    """
    return {
        "access_key_id": result.new_access_key_id or None,
        "previous_access_key_id": result.old_access_key_id or None,
        "version_id": result.version_id or None,
        "generation": result.generation or None,
        "steps": [_step(one) for one in result.steps[:MAX_STEPS]],
        "left_behind": list(
            _fitting(map(_left_behind, result.left_behind), len(result.left_behind), LEFT_BEHIND_BYTES)
        ),
        "hosts": _hosts(result.fleet),
        "outcome": outcome(result),
        "error": cut(result.error, TEXT_BYTES) if result.error else None,
        "duration_ms": duration_ms,
    }


def outcome(result: Result) -> str:
    """Return in a few words what became of the old key: the `outcome` of the record."""
    if result.safe:
        more = "" if result.old_key is OldKey.DISABLED else f", {result.old_key}"
        return f"old key refused{more}"
    if result.old_key is not OldKey.ACTIVE:
        return f"old key {result.old_key}, not seen refused"
    return "replaced, old key active" if result.new_access_key_id else "old key in use"


def cut(text: str, most: int) -> str:
    """Return a text that takes at most so many bytes in a record, with an ellipsis where something is missing."""
    if len(text) <= most and _bytes(text) <= most:
        return text
    kept = text[:most]
    while _bytes(kept) > most - len("…".encode()):
        kept = kept[: len(kept) * 9 // 10]
    return f"{kept}…"


def _step(step: dict[str, Any]) -> dict[str, Any]:
    named = {name: step[name] for name in ("name", "outcome", "ms", "at_ms") if name in step}
    return named | ({"detail": cut(step["detail"], DETAIL_BYTES)} if step.get("detail") else {})


def _left_behind(one: LeftBehind) -> dict[str, Any]:
    return {
        "credential": cut(one.credential, DETAIL_BYTES),
        "dependent": cut(one.dependent, DETAIL_BYTES) or None,
        "reason": str(one.reason),
        "move": cut(one.move, DETAIL_BYTES),
    }


def _hosts(fleet: Sequence[dict[str, Any]] | None) -> list[dict[str, Any]] | None:
    """Return the other hosts of the fleet, those that have not moved first; None where they were not waited for."""
    if fleet is None:
        return None
    rows = sorted(fleet, key=lambda row: (row["moved"], row["at_ms"] or 0, row["host"]))
    return list(_fitting(map(_host, rows), len(rows), HOSTS_BYTES))


def _host(row: dict[str, Any]) -> dict[str, Any]:
    if row["moved"]:
        return {"host": row["host"], "at_ms": row["at_ms"]}
    return {"host": row["host"], "state": row["state"], "why": cut(row["why"] or "", DETAIL_BYTES)}


def _fitting(entries: Iterable[dict[str, Any]], count: int, room: int) -> Iterator[dict[str, Any]]:
    """Yield as many of `count` entries as take at most `room` bytes, then how many more there are."""
    for at, entry in enumerate(entries):
        room -= len(json.dumps(entry, ensure_ascii=False).encode("utf-8", "backslashreplace"))
        if room < 0:
            yield {"more": count - at}
            return
        yield entry


def _bytes(text: str) -> int:
    return len(json.dumps(text, ensure_ascii=False).encode("utf-8", "backslashreplace"))
