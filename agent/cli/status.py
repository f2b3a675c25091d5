"""`keyturn status`: from the daemon, or from the state on disk; a glance, and an alarm for monitoring."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Collection, Sequence
from typing import Any, NoReturn

from agent.cli import output
from agent.cli.daemon_client import Reach, find
from agent.cli.status_output import Screen, alarms_of, status_lines
from agent.control import client
from agent.core.errors import (
    EXIT_CONFIG,
    EXIT_DAEMON_UNREACHABLE,
    EXIT_DONE,
    EXIT_FAILED,
    ConfigError,
    DaemonUnreachableError,
    KeyturnError,
    UsageError,
)
from agent.core.names import known_names
from agent.core.text import nearest
from agent.system.clock import Clock
from agent.system.terminal import cleared, is_terminal, terminal_size

WATCH_S = 2.0
STATUS_S = 10.0
RELOAD_S = 150.0
"""Longer than the daemon waits for the end of a reload (agent/app/daemon.py, `_wait_for_reload`)."""
STATES = ("fresh", "pending", "failing", "stale", "expired")
ALARMS = (*STATES, "owed", "old", "restricted", "differs", "behind")
"""What `--fail-if` knows: the states of the contract, and what else can be wrong with a credential in any of them."""


def status(options: argparse.Namespace) -> int:
    """Print what the daemon shows, or else what stands on disk; return 69 where no daemon answers.

    `--fail-if` returns 1 where it is true of a credential that is shown, with or without a daemon: what is wrong with a
    credential is worse than that nobody looks after it.

    `--fail-if-refused` is for ExecReload= of keyturn.service: a reload that changed nothing has failed. One that is under
    way is waited for.

    `--watch` goes on until Ctrl-C, which is its proper end (exit code 0): over restarts of the daemon, and while the
    config on disk is broken. What is wrong at its beginning ends it as it would end a single look.
    """
    alarms = _alarms(options.fail_if)
    if options.watch:
        if alarms:
            raise UsageError("--fail-if is for a single look, and --watch goes on", "leave one of them out")
        try:
            _watch(options)
        except KeyboardInterrupt:
            if is_terminal():
                print()  # the prompt does not begin behind ^C
            return EXIT_DONE
    whole, code = _status(find(options), after_reload=options.fail_if_refused)
    found = _named(whole, options.names)
    _print_status(found, options)
    if options.fail_if_refused and found["agent"].get("config_refused_at"):
        return EXIT_CONFIG
    return EXIT_FAILED if any(alarms & set(alarms_of(one)) for one in found["credentials"].values()) else code


def _alarms(given: Sequence[str]) -> set[str]:
    """Return what `--fail-if` names, by commas or again and again.

    Raises:
        UsageError: it names something else.
    """
    words = [word.strip() for text in given for word in text.split(",")]
    for word in words:
        if word not in ALARMS:
            from agent.core.suspects import without_suspects  # needed only once something is wrong

            near = nearest(word, ALARMS)
            known = f"it knows {', '.join(ALARMS)}"
            raise UsageError(
                f"--fail-if: {without_suspects(word)!r} is no state", f"did you mean {near}? {known}" if near else known
            )
    return set(words)


def _named(whole: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Return the status with the credentials that were named alone; with all where none was.

    Raises:
        UsageError: there is none of that name.
    """
    known = whole["credentials"]
    try:
        chosen = known_names(list(known), names)
    except UsageError as error:
        states = [name for name in names if name in ALARMS and name not in known]
        if not states:
            raise
        raise UsageError(error.problem, f"states are given with commas: --fail-if {','.join(states)}") from error
    return {**whole, "credentials": {name: known[name] for name in chosen}}


def _watch(options: argparse.Namespace) -> NoReturn:
    """Print it again and again; where it cannot be had, print why, and look again."""
    first = _status(find(options))[0]
    found: dict[str, Any] | None = _named(first, options.names)
    pid, remark = first["agent"]["pid"], ""
    while True:
        if found is not None:
            remark = output.change_of_daemon(pid, found["agent"]["pid"]) or remark
            pid = found["agent"]["pid"]
            _redraw(found, remark, options)
        time.sleep(WATCH_S)
        try:
            found = _still_there(_status(find(options))[0], options.names)
        except KeyturnError as error:
            found = None
            for problem in error.problems if isinstance(error, ConfigError) else [str(error)]:
                print(output.one_line(f"keyturn: {problem}"), file=sys.stderr, flush=True)


def _still_there(whole: dict[str, Any], names: Collection[str]) -> dict[str, Any]:
    """Return the status with the named credentials that a reload has left."""
    chosen = {name: one for name, one in whole["credentials"].items() if not names or name in names}
    return {**whole, "credentials": chosen}


def _redraw(found: dict[str, Any], remark: str, options: argparse.Namespace) -> None:
    if options.json:
        _print_status(found, options)
        return
    now, screen = Clock().now(), _screen(taken=2)  # the line of the time, and the one of the cursor
    head, lines = output.dated(now, remark), list(status_lines(found, now, screen, options.names))
    if is_terminal():
        lines = output.fitting(lines, taken=1)
        sys.stdout.write(cleared())
    print("\n".join([head, *lines]), flush=True)


def _print_status(found: dict[str, Any], options: argparse.Namespace) -> None:
    if options.json:
        print(json.dumps(found), file=options.out, flush=True)
    else:
        print("\n".join(status_lines(found, Clock().now(), _screen(taken=1), options.names)))


def _screen(taken: int) -> Screen:
    """Return where it is shown, without as many lines as are taken."""
    if not is_terminal():
        return Screen()
    size = terminal_size()
    return Screen(size.columns, size.lines - taken)


def _status(reach: Reach, *, after_reload: bool = False) -> tuple[dict[str, Any], int]:
    try:
        if after_reload:
            return reach.ask({"command": "status", "after_reload": True}, patience_s=RELOAD_S)
        return reach.ask({"command": "status"}, patience_s=STATUS_S)
    except client.ConnectionLostError:
        raise
    except DaemonUnreachableError:
        from agent.app.commands import status_from_disk  # with all that a credential consists of

        found = status_from_disk(reach.own_settings, reach.config, os.environ)
        return found, EXIT_DAEMON_UNREACHABLE
