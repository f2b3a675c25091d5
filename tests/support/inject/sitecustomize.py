"""Loaded by Python itself in a process whose PYTHONPATH names this folder: its calls to the kernel fail as a file says.

For faults that no mount and no limit makes (EIO, ESTALE, EDQUOT, a clock that is stepped between two calls). The file
(`$KEYTURN_FAULTS`) may change while the process runs. It is a JSON list of rules:

    {"call": "rename", "path": "uploader.env", "error": "EIO", "times": 1}

call    a function of `os`, or "thread" for the start of a thread
path    a part of what the call names: paths as the kernel sees them, descriptors resolved
error   the errno's name; or instead `step_s`: the call succeeds, and right before it the wall clock is stepped
times   how often; left out: always

Each time a rule strikes, a line goes to `$KEYTURN_FAULTS.hits`, so that a test can tell a fault from none.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

RULES = os.environ.get("KEYTURN_FAULTS", "")
CALLS = (
    "open",
    "read",
    "pread",
    "write",
    "pwrite",
    "fsync",
    "fdatasync",
    "rename",
    "unlink",
    "stat",
    "fchmod",
    "fchown",
)

real = {name: getattr(os, name) for name in CALLS}
real_start = threading.Thread.start
loaded: tuple[int, list[dict[str, Any]]] = (0, [])


def rules() -> list[dict[str, Any]]:
    global loaded
    try:
        stamp = real["stat"](RULES).st_mtime_ns
    except OSError:
        return []
    if stamp != loaded[0]:
        fd = real["open"](RULES, os.O_RDONLY)
        try:
            loaded = (stamp, json.loads(real["read"](fd, 65536)))
        finally:
            os.close(fd)
    return loaded[1]


def opened(fd: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return ""


def named(args: tuple[Any, ...], options: dict[str, Any]) -> str:
    """What a call names, as one text."""
    places = [options.get("src_dir_fd", options.get("dir_fd")), options.get("dst_dir_fd")]
    words = []
    for number, arg in enumerate(args[:2]):
        if isinstance(arg, int) and number == 0:
            words.append(opened(arg))
        elif isinstance(arg, str | os.PathLike):
            place = places[number]
            words.append((opened(place) + "/" if place is not None else "") + os.fspath(arg))
    return " -> ".join(words)


def struck(call: str, where: str) -> dict[str, Any] | None:
    for rule in rules():
        if rule["call"] == call and rule.get("path", "") in where and rule.get("times", 1) > 0:
            if "times" in rule:
                rule["times"] -= 1
            fd = real["open"](f"{RULES}.hits", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            real["write"](fd, f"{call} {where}\n".encode())
            os.close(fd)
            return rule
    return None


def step(seconds: float) -> None:
    """Set the agent's wall clock, and nobody else's."""
    clock = sys.modules["agent.system.clock"].Clock
    shifted = timedelta(seconds=seconds)
    clock.now = lambda _self: datetime.now(UTC) + shifted


def wrap(call: str) -> Any:
    def wrapped(*args: Any, **options: Any) -> Any:
        rule = struck(call, named(args, options)) if rules() else None
        if rule is not None and "step_s" in rule:
            step(rule["step_s"])
        elif rule is not None:
            number = getattr(errno, rule["error"])
            raise OSError(number, os.strerror(number))
        return real[call](*args, **options)

    return wrapped


def start(thread: threading.Thread) -> None:
    if struck("thread", thread.name):
        raise RuntimeError("can't start new thread")
    real_start(thread)


if RULES:
    for call in CALLS:
        wrapper = wrap(call)
        setattr(os, call, wrapper)
        for known in (os.supports_dir_fd, os.supports_fd, os.supports_follow_symlinks):
            if real[call] in known:
                known.add(wrapper)
    threading.Thread.start = start  # type: ignore[method-assign]
    Path(f"{RULES}.hits").touch()
