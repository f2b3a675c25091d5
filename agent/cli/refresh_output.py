"""What `once` and `refresh` print of their outcome for people."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from agent.cli.output import one_line
from agent.system.terminal import paint


def refreshed(answer: dict[str, Any]) -> None:
    """Print what `once` and `refresh` did."""
    for row in answer["credentials"]:
        good = "error" not in row
        line = f"{one_line(row['credential'])}: {paint(one_line(row['outcome']), 'good' if good else 'bad')}"
        if row["generation"]:
            line += f", generation {row['generation']}"
        if row["access_key_id"]:
            line += f", {one_line(row['access_key_id'])}"
        print(line)
        if not good:
            print(one_line(f"keyturn: {row['error']}"), file=sys.stderr)
        for one in row["notify"]:
            if one["last_outcome"] and (row["outcome"] != "unchanged" or one["last_outcome"] != "told"):
                owed = " (still owed)" if one["owed"] else ""
                print(one_line(f"  {one['type']} {one['target']}: {one['last_outcome']}{owed}"))


def turned(rotations: Sequence[dict[str, Any]]) -> None:
    """Print what the looks at the keys of RAM users came to."""
    for one in rotations:
        if one["error"]:
            print(one_line(f"keyturn: {one['error']}"), file=sys.stderr)
        elif one["waits_for"]:
            print(one_line(f"{one['credential']}: its rotation waits for {one['waits_for']}"))
