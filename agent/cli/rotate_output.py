"""What `rotate` prints for people: each step, and the end."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from agent.cli.output import MOODS, one_line, spoken, wait, width
from agent.cli.progress import Counter
from agent.core.text import first_few
from agent.system.columns import wrapped
from agent.system.terminal import paint
from agent.system.waiting import BEGUN, WAITING

_NOW = {
    "preflight": "looks at what is in the way",
    "rotate": "has the key replaced at its source",
    "announce": "tells the other hosts",
    "publish": "waits for the new key, proves it and writes it",
    "others": "refreshes what else holds the key",
    "notify": "tells the dependents",
    "fetched": "waits for those who fetched the old key",
    "fleet": "waits for the other hosts",
    "disable_old": "has the old key disabled",
    "prove_refused": "calls with the old key until it is refused",
    "delete_old": "has the old key deleted",
}
"""What goes on in a step, by its name."""


_DETAIL = 31
"""The column in which the detail of a step goes on in its next line."""


class RotateProgress:
    """Shows an emergency step by step: on a terminal what goes on now, which its end overwrites. Called with each step."""

    def __init__(self, *, silent: bool = False) -> None:
        """Begin.

        Args:
            silent: standard output is for JSON; what goes on now and what is waited for is still said.
        """
        self._silent, self._counter = silent, Counter()

    def __call__(self, one: dict[str, Any]) -> None:
        """Print one step."""
        if one["outcome"] == BEGUN:
            now = _NOW.get(one["detail"], one["detail"])
            self._counter.show(f"{_at(one)}  {one_line(now)} ...")
            return
        self._counter.above()
        if one["outcome"] == WAITING:
            wait(one)
            self._counter.again()
            return
        if not self._silent:
            step(one)
        self._counter.end()

    def end(self) -> None:
        """Take away what goes on now."""
        self._counter.end()


def step(one: dict[str, Any]) -> None:
    """Print one step of an emergency, as it ends; on a terminal its detail stands in a column of its own."""
    outcome = one_line(one["outcome"])
    head = f"{_at(one)}  {one_line(one['name']):<13} "
    detail = spoken(one.get("detail") or "")
    first, *rest = wrapped(detail, width(), " " * _DETAIL, f"{head}{outcome}  " if detail else f"{head}{outcome}")
    print(
        "\n".join([head + paint(outcome, MOODS.get(one["outcome"])) + first[len(head + outcome) :], *rest]), flush=True
    )


def _at(one: dict[str, Any]) -> str:
    return f"{one['at_ms'] / 1000:7.1f} s"


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
    for line in wrapped(spoken(played + last), width(), "  ", ""):
        print(paint(line, "good" if good else "bad"), flush=True)  # a document may follow, which takes a while


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
