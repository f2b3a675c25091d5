"""`keyturn status`: from the daemon, or from the state on disk."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from typing import Any, NoReturn

from agent.cli import output
from agent.cli.daemon_client import Reach, find
from agent.control import client
from agent.core.errors import (
    EXIT_CONFIG,
    EXIT_DAEMON_UNREACHABLE,
    EXIT_DONE,
    ConfigError,
    DaemonUnreachableError,
    KeyturnError,
)
from agent.system.clock import Clock
from agent.system.terminal import cleared, is_terminal

WATCH_S = 2.0
STATUS_S = 10.0
RELOAD_S = 150.0
"""Longer than the daemon waits for the end of a reload (agent/app/daemon.py, `_wait_for_reload`)."""


def status(options: argparse.Namespace) -> int:
    """Print what the daemon shows, or else what stands on disk; return 69 where no daemon answers.

    `--fail-if-refused` is for ExecReload= of keyturn.service: a reload that changed nothing has failed. One that is under
    way is waited for.

    `--watch` goes on until Ctrl-C, which is its proper end (exit code 0): over restarts of the daemon, and while the
    config on disk is broken. What is wrong at its beginning ends it as it would end a single look.
    """
    if options.watch:
        try:
            _watch(options)
        except KeyboardInterrupt:
            if is_terminal():
                print()  # the prompt does not begin behind ^C
            return EXIT_DONE
    found, code = _status(find(options), after_reload=options.fail_if_refused)
    _print_status(found, options)
    return EXIT_CONFIG if options.fail_if_refused and found["agent"].get("config_refused_at") else code


def _watch(options: argparse.Namespace) -> NoReturn:
    """Print it again and again; where it cannot be had, print why, and look again."""
    first = _status(find(options))[0]
    found: dict[str, Any] | None = first
    pid, remark = first["agent"]["pid"], ""
    while True:
        if found is not None:
            remark = output.change_of_daemon(pid, found["agent"]["pid"]) or remark
            pid = found["agent"]["pid"]
            _redraw(found, remark, options)
        time.sleep(WATCH_S)
        try:
            found = _status(find(options))[0]
        except KeyturnError as error:
            found = None
            for problem in error.problems if isinstance(error, ConfigError) else [str(error)]:
                print(output.one_line(f"keyturn: {problem}"), file=sys.stderr, flush=True)


def _redraw(found: dict[str, Any], remark: str, options: argparse.Namespace) -> None:
    if options.json:
        _print_status(found, options)
        return
    now = Clock().now()
    lines = [output.dated(now, remark), *output.status_lines(found, now)]
    if is_terminal():
        lines = output.fitting(lines)
        sys.stdout.write(cleared())
    print("\n".join(lines), flush=True)


def _print_status(found: dict[str, Any], options: argparse.Namespace) -> None:
    if options.json:
        print(json.dumps(found), file=options.out, flush=True)
    else:
        print("\n".join(output.status_lines(found, Clock().now())))


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
