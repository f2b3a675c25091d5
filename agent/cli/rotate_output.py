"""What `rotate` prints for people: each step, and the end."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from agent.cli.output import MOODS, one_line, spoken, wait
from agent.core.text import first_few
from agent.system.terminal import paint
from agent.system.waiting import WAITING


def step(one: dict[str, Any]) -> None:
    """Print one step of an emergency, as it ends; or what it waits for."""
    if one["outcome"] == WAITING:
        wait(one)
        return
    detail = f"  {spoken(one['detail'])}" if one.get("detail") else ""
    at = f"{one['at_ms'] / 1000:7.1f} s"
    outcome = paint(one_line(one["outcome"]), MOODS.get(one["outcome"]))
    print(f"{at}  {one_line(one['name']):<13} {outcome}{detail}", flush=True)


def rotated(result: dict[str, Any], *, drill: bool = False) -> None:
    """Print the end of an emergency, or of a drill, which must not be read as that of an emergency."""
    played = "in the drill: " if drill else ""
    for note in result["notes"]:  # a command stands alone, ready to be pasted: not that of a drill
        print(spoken(note if note.startswith("aliyun ") and not drill else f"note: {note}"))
    if result["new_access_key_id"]:
        print(
            one_line(
                f"{played}{result['credential']}: {result['old_access_key_id']} -> {result['new_access_key_id']}, "
                f"generation {result['generation']}"
            )
        )
    if "error" in result:
        sys.stdout.flush()
        print(spoken(f"keyturn: {played}{result['error']}"), file=sys.stderr, flush=True)
    if (fleet := result.get("fleet")) is not None:
        print(one_line(f"{played}fleet: {_fleet(fleet)}"))
    good = result["safe"] and result["all_moved"]
    last = f"{_safety(result)}; {_moved(result)}" if result["old_access_key_id"] else "this command did nothing itself"
    print(
        paint(spoken(played + last), "good" if good else "bad"), flush=True
    )  # a document may follow, which takes a while


def _fleet(rows: Sequence[dict[str, Any]]) -> str:
    """How many of the other hosts are on the new key, and which are not."""
    behind = [
        f"{one['host']} ({'absent; ' if one['state'] == 'absent' else ''}{one['why']})"
        for one in rows
        if not one["moved"]
    ]
    proved = f"{len(rows) - len(behind)} of {len(rows)} other hosts proved the new key"
    return proved + (f"; not {', '.join(first_few(behind))}" if behind else "")


def _safety(result: dict[str, Any]) -> str:
    """Whether the old key is dead, and no more than was seen of it."""
    old = result["old_access_key_id"]
    if result["safe"] and result["time_to_safe_ms"] is None:
        return f"safe: the old key {old} was seen refused before this command"
    if result["safe"]:
        gone = ", and then deleted" if result["old_key"] == "deleted" else ""
        return f"safe: the old key was seen refused {result['time_to_safe_ms'] / 1000:.1f} s after the command{gone}"
    if result["old_key"] == "disabled":
        return f"not safe: the old key {old} is disabled, but was not seen refused"
    if result["new_access_key_id"]:
        return f"not safe: the old key {old} was not seen refused"
    return f"not safe: {old} is still in use"


def _moved(result: dict[str, Any]) -> str:
    """Who is on the new key, and how far that is known."""
    told = result.get("assumed", ())  # an older daemon does not say
    names = first_few(list(dict.fromkeys(str(one["dependent"]) for one in told)))
    only = f"; only assumed: {', '.join(names)}" if names else ""
    return f"{_known_to_be_moved(result)}{only}"


def _known_to_be_moved(result: dict[str, Any]) -> str:
    if result["all_moved"]:
        return "all moved: nobody here is known to be left behind"
    whom = dict.fromkeys(f"{_who(one)} ({one['reason']}; to move it: {one['move']})" for one in result["left_behind"])
    return f"left behind: {', '.join(whom)}" if whom else "nobody moved"


def _who(left: dict[str, Any]) -> str:
    return str(left["dependent"] or f"credentials.{left['credential']}")
