"""What commands print for people. Programs use `--json`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, TextIO

from agent.core.alarms import ends
from agent.core.text import escaped, first_few
from agent.core.timestamps import rfc3339
from agent.system.terminal import paint, terminal_size
from agent.system.waiting import WAITING

MOODS = {
    "fresh": "good", "pending": "so-so", "failing": "so-so", "stale": "bad", "expired": "bad",
    "ok": "good", "warning": "so-so", "error": "bad", "done": "good", "failed": "bad",
}  # fmt: skip


def one_line(text: str) -> str:
    """Return the text with everything escaped that could forge a line or control a terminal."""
    return escaped(text)


def json_line(value: dict[str, Any], out: TextIO) -> str:
    """Return a value as JSON in one line: with its letters where `out` is UTF-8, as JSON is to be, else with escapes."""
    return json.dumps(value, ensure_ascii=(out.encoding or "").lower().replace("-", "") != "utf8")


def table(rows: Sequence[Sequence[str]], moods: Sequence[str | None] = ()) -> Iterator[str]:
    """Yield rows with aligned columns; the second column of each row after the first is painted in its mood."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for number, row in enumerate(rows):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        if number and moods:
            cells[1] = paint(cells[1], moods[number - 1])
        yield "  ".join(cells).rstrip()


def fitting(lines: Sequence[str]) -> list[str]:
    """Return as many lines as the terminal shows, from the top; the last says how many are left out."""
    height = terminal_size().lines - 1
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


def turned(rotations: Sequence[dict[str, Any]]) -> None:
    """Print what the looks at the keys of RAM users came to."""
    for one in rotations:
        if one["error"]:
            print(one_line(f"keyturn: {one['error']}"), file=sys.stderr)
        elif one["waits_for"]:
            print(one_line(f"{one['credential']}: its rotation waits for {one['waits_for']}"))


def wait(one: dict[str, Any]) -> None:
    """What is waited for, on standard error: standard output is for what came of it. Other steps are not shown."""
    if one["outcome"] == WAITING:
        at = f"{one['at_ms'] / 1000:7.1f} s"
        print(f"{at}  waits for {one_line(one['detail'])}", file=sys.stderr, flush=True)


def step(one: dict[str, Any]) -> None:
    """Print one step of an emergency, as it ends; or what it waits for."""
    if one["outcome"] == WAITING:
        wait(one)
        return
    detail = f"  {one_line(one['detail'])}" if one.get("detail") else ""
    at = f"{one['at_ms'] / 1000:7.1f} s"
    outcome = paint(one_line(one["outcome"]), MOODS.get(one["outcome"]))
    print(f"{at}  {one_line(one['name']):<13} {outcome}{detail}", flush=True)


def rotated(result: dict[str, Any], *, drill: bool = False) -> None:
    """Print the end of an emergency, or of a drill, which must not be read as that of an emergency."""
    played = "in the drill: " if drill else ""
    for note in result["notes"]:  # a command stands alone, ready to be pasted: not that of a drill
        print(one_line(note if note.startswith("aliyun ") and not drill else f"note: {note}"))
    if result["new_access_key_id"]:
        print(
            one_line(
                f"{played}{result['credential']}: {result['old_access_key_id']} -> {result['new_access_key_id']}, "
                f"generation {result['generation']}"
            )
        )
    if "error" in result:
        sys.stdout.flush()
        print(one_line(f"keyturn: {played}{result['error']}"), file=sys.stderr, flush=True)
    if (fleet := result.get("fleet")) is not None:
        print(one_line(f"{played}fleet: {_fleet(fleet)}"))
    good = result["safe"] and result["all_moved"]
    last = f"{_safety(result)}; {_moved(result)}" if result["old_access_key_id"] else "this command did nothing itself"
    print(
        paint(one_line(played + last), "good" if good else "bad"), flush=True
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


def status_lines(whole: dict[str, Any], now: datetime) -> Iterator[str]:
    """Yield the table of `status`, and what is wrong with each credential."""
    agent = whole["agent"]
    running = (
        f"pid {agent['pid']}, since {agent['started_at']}" if agent["pid"] else "not running; from the state on disk"
    )
    yield one_line(f"keyturn {agent['version']}, {running}, {agent['config']}")
    for problem in agent.get("config_problems", ()):  # an older daemon does not say
        yield one_line(f"config refused at {agent['config_refused_at']}, the old one stays: {problem}")
    for key in agent.get("client_keys", ()):  # likewise
        if key["is_alarm"]:
            yield one_line(_client_key(key, now))
    if (fleet := agent.get("fleet")) is not None and not fleet["connected"]:
        for_s = f" for {span(fleet['down_for_s'])}" if fleet.get("down_for_s") is not None else ""
        why = fleet["error"] or "not connected yet"
        yield one_line(f"the fleet's board is away{for_s}: {why}; everything else goes on as on one host")
    head = ("credential", "state", "gen", "access key", "verified", "published", "expires", "next")
    made = (_status_row(name, one, now) for name, one in whole["credentials"].items())
    rows = [head, *(tuple(map(one_line, row)) for row in made)]
    yield from table(rows, [MOODS.get(row[1]) for row in rows[1:]])
    for name, one in whole["credentials"].items():
        for line in _troubles(one):
            yield one_line(f"  {name}: {line}")


def _client_key(key: dict[str, Any], now: datetime) -> str:
    users = ", ".join(first_few(key["credentials"]))
    when = f"{ends(_parsed(key['expires_at']), now)} ({key['expires_at']})"
    return f"ClientKey {key['key_id']} {when}: {key['path']}, which signs for {users}"


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
    for alarm in one.get("alarms", ()):  # an older daemon does not say
        yield alarm["text"]
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
    yield from _clients(one)
    yield from _rotation(one.get("rotation") or {})
    yield from _canary(one.get("canary") or {"looks": ()})  # an older daemon does not say


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


def _clients(one: dict[str, Any]) -> Iterator[str]:
    """Yield how many processes fetched it, and name those that may still use an older generation."""
    clients = one.get("clients") or []  # an older daemon does not say
    moved = [who for who in clients if who["pickup"] == "confirmed"]
    if moved:
        yield f"generation {one['generation']} was fetched, pickup confirmed: {_processes(moved)}"
    behind = [who for who in clients if who["pickup"] != "confirmed"]
    if behind:
        latest = max(who["expires_at"] for who in behind)
        yield f"an older generation may be in use until {latest}: {_processes(behind)}"


def _processes(clients: Sequence[dict[str, Any]]) -> str:
    return ", ".join(first_few([_process(who) for who in clients]))


def _process(who: dict[str, Any]) -> str:
    name = f"pid {who['pid']}" if who["pid"] else f"user {who['user']}"
    return " ".join(filter(None, [name, who["executable"], f"({who['unit']})" if who["unit"] else ""]))


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
