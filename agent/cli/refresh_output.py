"""What `once` and `refresh` print for people: each credential as its refresh ends, then what became of the rest."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from agent.cli import output
from agent.cli.output import one_line, spoken
from agent.cli.progress import Counter
from agent.system.terminal import paint
from agent.system.waiting import BEGUN, WAITING


class RefreshProgress:
    """Shows what a refresh of several says while it lasts; called with each step."""

    def __init__(self, *, silent: bool = False) -> None:
        """Begin.

        Args:
            silent: standard output is for JSON; the counter stays.
        """
        self._silent, self._counter = silent, Counter()
        self.said: set[str] = set()
        """The credentials of which the end was printed."""

    def __call__(self, step: dict[str, Any]) -> None:
        """Print one step; of a single credential nothing is said before its end."""
        self._counter.above()
        if step["outcome"] == WAITING:
            output.wait(step)
        elif step.get("of", 0) > 1:
            if step["outcome"] != BEGUN and not self._silent:
                row(step)
                self.said.add(step["credential"])
            self._counter.show(f"{step['done']} of {step['of']} refreshed")
            return
        self._counter.again()

    def end(self) -> None:
        """Take the counter away."""
        self._counter.end()


def row(one: dict[str, Any]) -> None:
    """Print what came of one credential; why it failed on standard error."""
    good = "error" not in one
    line = f"{one_line(one['credential'])}: {paint(one_line(one['outcome']), 'good' if good else 'bad')}"
    if one["generation"]:
        line += f", generation {one['generation']}"
    if one["access_key_id"]:
        line += f", {one_line(one['access_key_id'])}"
    print(line, flush=True)
    if not good:
        print(spoken(f"keyturn: {one['error']}"), file=sys.stderr, flush=True)


def refreshed(answer: dict[str, Any], said: frozenset[str] | set[str] = frozenset()) -> None:
    """Print what `once` and `refresh` did: of those that were said already, only who was told."""
    for one in answer["credentials"]:
        is_said = one["credential"] in said
        if not is_said:
            row(one)
        for told in one["notify"]:
            if told["last_outcome"] and (one["outcome"] != "unchanged" or told["last_outcome"] != "told"):
                owed = " (still owed)" if told["owed"] else ""
                whose = f"{one['credential']}: " if is_said else "  "
                print(spoken(f"{whose}{told['type']} {told['target']}: {told['last_outcome']}{owed}"))


def turned(rotations: Sequence[dict[str, Any]]) -> None:
    """Print what the looks at the keys of RAM users came to."""
    for one in rotations:
        if one["error"]:
            print(spoken(f"keyturn: {one['error']}"), file=sys.stderr)
        elif one["waits_for"]:
            print(spoken(f"{one['credential']}: its rotation waits for {one['waits_for']}"))
