"""What commands print for people. Programs use `--json`."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from agent.core.text import escaped
from agent.core.timestamps import rfc3339
from agent.system.terminal import paint

MOODS = {
    "fresh": "good", "pending": "so-so", "failing": "so-so", "stale": "bad", "expired": "bad",
    "ok": "good", "warning": "so-so", "error": "bad", "done": "good", "failed": "bad",
}  # fmt: skip

CLEAR = "\x1b[H\x1b[2J"


def one_line(text: str) -> str:
    """Return the text with everything escaped that could forge a line or control a terminal."""
    return escaped(text)


def table(rows: Sequence[Sequence[str]], moods: Sequence[str | None] = ()) -> Iterator[str]:
    """Yield rows with aligned columns; the second column of each row after the first is painted in its mood."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for number, row in enumerate(rows):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        if number and moods:
            cells[1] = paint(cells[1], moods[number - 1])
        yield "  ".join(cells).rstrip()


def is_terminal() -> bool:
    """Return whether standard output is a terminal."""
    return sys.stdout.isatty()


def fitting(lines: Sequence[str]) -> list[str]:
    """Return as many lines as the terminal shows, from the top; the last says how many are left out."""
    height = shutil.get_terminal_size().lines - 1
    if len(lines) <= height:
        return list(lines)
    return [*lines[: max(1, height - 1)], f"... {len(lines) - max(1, height - 1)} more lines"]


def dated(now: datetime, remark: str) -> str:
    """Return the first line of one look among many: when it was, and a remark."""
    return f"-- {rfc3339(now)}{f'  {remark}' if remark else ''}"


def change_of_daemon(before: int | None, now: int | None) -> str:
    """Return what became of the daemon between two looks, by its pids; "" for nothing."""
    if before == now:
        return ""
    if now is None:
        return f"the daemon (pid {before}) went away"
    return f"the daemon was restarted (pid {now}, was {before})" if before else f"the daemon runs (pid {now})"


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


def agreed(name: str, disable_old: bool) -> bool:
    """Ask before an emergency; return whether the answer was yes."""
    then = " and disable the key before it" if disable_old else ""
    print(f"Rotate {name} at its source now{then}? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def step(one: dict[str, Any]) -> None:
    """Print one step of an emergency, as it ends."""
    detail = f"  {one_line(one['detail'])}" if one.get("detail") else ""
    at = f"{one['at_ms'] / 1000:7.1f} s"
    outcome = paint(one_line(one["outcome"]), MOODS.get(one["outcome"]))
    print(f"{at}  {one_line(one['name']):<13} {outcome}{detail}", flush=True)


def rotated(result: dict[str, Any]) -> None:
    """Print the end of an emergency."""
    for note in result["notes"]:
        print(one_line(f"note: {note}"))
    if result["new_access_key_id"]:
        print(
            one_line(
                f"{result['credential']}: {result['old_access_key_id']} -> {result['new_access_key_id']}, "
                f"generation {result['generation']}"
            )
        )
    if result["safe"]:
        print(
            paint(
                f"safe: the old key was seen refused {result['time_to_safe_ms'] / 1000:.1f} s after the command", "good"
            )
        )
    elif result["old_key"] == "active" and result["new_access_key_id"]:
        print(f"the old key {one_line(str(result['old_access_key_id']))} was not seen refused: take it for active")
    if "error" in result:
        print(one_line(f"keyturn: {result['error']}"), file=sys.stderr)


def status_lines(whole: dict[str, Any], now: datetime) -> Iterator[str]:
    """Yield the table of `status`, and what is wrong with each credential."""
    agent = whole["agent"]
    running = (
        f"pid {agent['pid']}, since {agent['started_at']}" if agent["pid"] else "not running; from the state on disk"
    )
    yield one_line(f"keyturn {agent['version']}, {running}, {agent['config']}")
    for problem in agent.get("config_problems", ()):  # an older daemon does not say
        yield one_line(f"config refused at {agent['config_refused_at']}, the old one stays: {problem}")
    head = ("credential", "state", "gen", "access key", "verified", "published", "expires", "next")
    made = (_status_row(name, one, now) for name, one in whole["credentials"].items())
    rows = [head, *(tuple(map(one_line, row)) for row in made)]
    yield from table(rows, [MOODS.get(row[1]) for row in rows[1:]])
    for name, one in whole["credentials"].items():
        for line in _troubles(one):
            yield one_line(f"  {name}: {line}")


def _status_row(name: str, one: dict[str, Any], now: datetime) -> tuple[str, ...]:
    return (
        name,
        one["state"],
        str(one["generation"]),
        one["access_key_id"] or "-",
        "yes" if one["verified"] else "no",
        _ago(one["published_at"], now),
        _ahead(one["expires_at"], now),
        _ahead(one["next_refresh_at"], now),
    )


def _troubles(one: dict[str, Any]) -> Iterable[str]:
    if one["last_error"]:
        yield f"failed {one['consecutive_failures']} times: {one['last_error']}"
    for sink in one["sinks"]:
        if sink["in_sync"] is False:
            yield f"{sink['type']} {sink['target']} differs from what was published"
    for told in one["notify"]:
        state = told["last_outcome"]
        if told["owed"]:
            state = f"owed; {state}" if state and state != "told" else "owed"
        if state:
            pickup = f", pickup {told['pickup']}" if told["pickup"] else ""
            yield f"{told['type']} {told['target']}: {state}{pickup}"


def _parsed(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def _ago(text: str | None, now: datetime) -> str:
    return f"{span((now - _parsed(text)).total_seconds())} ago" if text else "-"


def _ahead(text: str | None, now: datetime) -> str:
    if not text:
        return "-"
    left_s = (_parsed(text) - now).total_seconds()
    if abs(left_s) < 1:
        return "now"
    return f"in {span(left_s)}" if left_s > 0 else f"{span(-left_s)} ago"


def span(seconds: float) -> str:
    """Return a time span in its largest sensible unit."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f}{unit}"
    return f"{max(0.0, seconds):.0f}s"
