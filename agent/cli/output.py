"""What the commands share that print for people. Programs use `--json`.

What each prints: status_output.py, refresh_output.py, rotate_output.py, plan_output.py, audit_line.py.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, TextIO

from agent.core.text import escaped
from agent.system.columns import columns, padded
from agent.system.local_time import LocalTime, local_times
from agent.system.terminal import is_terminal, paint, terminal_size
from agent.system.waiting import WAITING

MOODS = {
    "fresh": "good", "pending": "so-so", "failing": "so-so", "stale": "bad", "expired": "bad",
    "ok": "good", "warning": "so-so", "error": "bad", "done": "good", "failed": "bad",
}  # fmt: skip


def one_line(text: str) -> str:
    """Return the text with everything escaped that could forge a line or control a terminal."""
    return escaped(text)


def spoken(text: str) -> str:
    """Return a sentence of a daemon's or a record's as one line for people, with its times in their zone."""
    return one_line(local_times(text))


def json_line(value: dict[str, Any], out: TextIO) -> str:
    """Return a value as JSON in one line: with its letters where `out` is UTF-8, as JSON is to be, else with escapes."""
    return json.dumps(value, ensure_ascii=(out.encoding or "").lower().replace("-", "") != "utf8")


def table(rows: Sequence[Sequence[str]], moods: Sequence[str | None] = ()) -> Iterator[str]:
    """Yield rows with aligned columns; the second column of each row after the first is painted in its mood."""
    widths = [max(columns(row[column]) for row in rows) for column in range(len(rows[0]))]
    for number, row in enumerate(rows):
        cells = [padded(cell, width) for cell, width in zip(row, widths, strict=True)]
        if number and moods:
            cells[1] = paint(cells[1], moods[number - 1])
        yield "  ".join(cells).rstrip()


def width() -> int | None:
    """Return the columns that a line may have: of the terminal; None where standard output is none, and nothing is wrapped."""
    return terminal_size().columns if is_terminal() else None


def fitting(lines: Sequence[str], taken: int = 0) -> list[str]:
    """Return as many lines as the terminal shows, from the top, and the last, which sums them up; before it, how many are left out.

    Args:
        lines: one at least.
        taken: lines of the terminal that are not for them, besides the one of the cursor.
    """
    height = max(1, terminal_size().lines - 1 - taken)
    if len(lines) <= height:
        return list(lines)
    kept = max(0, height - 2)
    return [*lines[:kept], f"... {len(lines) - kept - 1} more lines", lines[-1]][-height:]


def dated(now: datetime, remark: str) -> str:
    """Return the first line of one look among many: when it was, in the zone of whoever looks, and a remark."""
    return f"-- {LocalTime(now).zoned(now)}{f'  {remark}' if remark else ''}"


def change_of_daemon(before: int | None, now: int | None) -> str:
    """Return what became of the daemon between two looks, by its pids; "" for nothing."""
    if before == now:
        return ""
    if now is None:
        return f"the daemon (pid {before}) went away"
    return f"the daemon was restarted (pid {now}, was {before})" if before else f"the daemon runs (pid {now})"


def wait(one: dict[str, Any]) -> None:
    """What is waited for, on standard error: standard output is for what came of it. Other steps are not shown."""
    if one["outcome"] == WAITING:
        at = f"{one['at_ms'] / 1000:7.1f} s"
        print(f"{at}  waits for {spoken(one['detail'])}", file=sys.stderr, flush=True)
