"""What an emergency leaves in the audit log at its end, on failure too: `rotation_ended`, from which it can be told later.

A record has at most `MAX_LINE_BYTES`, and one that is longer is lost. So each text is cut, and of those left behind as many
are named as there is room for; a last entry `{"more": N}` says how many are not.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
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
        "left_behind": list(_left_behind(result.left_behind)),
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


def _left_behind(left: Sequence[LeftBehind]) -> Iterator[dict[str, Any]]:
    room = LEFT_BEHIND_BYTES
    for at, one in enumerate(left):
        entry = {
            "credential": cut(one.credential, DETAIL_BYTES),
            "dependent": cut(one.dependent, DETAIL_BYTES) or None,
            "reason": str(one.reason),
            "move": cut(one.move, DETAIL_BYTES),
        }
        room -= len(json.dumps(entry, ensure_ascii=False).encode("utf-8", "backslashreplace"))
        if room < 0:
            yield {"more": len(left) - at}
            return
        yield entry


def _bytes(text: str) -> int:
    return len(json.dumps(text, ensure_ascii=False).encode("utf-8", "backslashreplace"))
