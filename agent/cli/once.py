"""`keyturn once`: always by this process, under the lock."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Sequence
from typing import Any

from agent.app import wiring
from agent.app.daemon_users import daemon_users
from agent.cli import output, refresh_output
from agent.cli.daemon_client import Step
from agent.cli.option_types import seconds
from agent.cli.refresh import failed
from agent.cli.refresh_output import RefreshProgress
from agent.cli.without_daemon import run_here
from agent.control import client
from agent.core.errors import BusyError, KeyturnError, NotPermittedError
from agent.core.settings import Settings
from agent.logs.log import log
from agent.state.store import ServicesStateError
from agent.system.journal_stream import is_stream
from agent.system.waiting import WAITING
from agent.systemd_setup.needs import DEFAULT_CONFIG

ASK_S = 10.0
ONE_PASS = (
    "it is the service's, which alone has its credentials: `systemctl start keyturn-once` does one pass as the service"
)


def once(options: argparse.Namespace) -> int:
    """Refresh once and print what came of it; return the exit code. With `--json` one object, on failure too.

    For cron, images and containers. In a unit, what happens is logged as the daemon logs it instead.
    """
    in_journal = is_stream(os.environ, sys.stderr)
    progress = RefreshProgress(silent=options.json)
    try:
        answer = _once(options, _log_wait if in_journal else progress, in_journal)
    except KeyturnError as error:
        if not options.json:
            raise
        answer = {**failed(error), "rotations": []}
    finally:
        progress.end()
    if in_journal:
        _log_rotations(answer["rotations"])
    if options.json:
        print(json.dumps(answer), file=options.out)
    elif not in_journal:
        refresh_output.refreshed(answer, progress.said)
        refresh_output.turned(answer["rotations"])
    return int(answer["exit_code"])


def _once(options: argparse.Namespace, show: Step, in_journal: bool) -> dict[str, Any]:
    retry_for_s = seconds(options.retry_for, "--retry-for")
    settings = wiring.load_settings(options.config, os.environ)
    warn = _log_warning if in_journal else _print_warning
    try:
        return run_here(
            settings,
            options.config,
            lambda commands: commands.once(options.names, show, warn, retry_for_s=retry_for_s),
            logged=in_journal,
        )
    except (BusyError, ServicesStateError) as error:
        raise _with_another_way(error, settings, _refresh(options)) from error


def _with_another_way(error: KeyturnError, settings: Settings, refresh: str) -> KeyturnError:
    """Return why `once` cannot work on this state, with the command that does the same: it depends on whether a daemon runs."""
    state, runtime, _audit = wiring.paths(settings)
    try:
        found, _code = client.ask(runtime, {"command": "status"}, patience_s=ASK_S, agents=daemon_users(state))
        pid = found["agent"]["pid"]
    except NotPermittedError:
        return BusyError(f"{state}: a daemon works on this state directory", f"as root, {refresh} does the same")
    except (KeyturnError, KeyError, TypeError):
        return ServicesStateError(error.problem, ONE_PASS) if isinstance(error, ServicesStateError) else error
    problem = f"{state}: the daemon (pid {pid}) works on this state directory"
    return BusyError(problem, f"{refresh} has it do the same, now")


def _refresh(options: argparse.Namespace) -> str:
    """Return the command that has the daemon of the same config do the same, as it is typed."""
    is_found = options.config == (os.environ.get("KEYTURN_CONFIG") or DEFAULT_CONFIG)
    config = [] if is_found else ["--config", options.config]
    return f"`{shlex.join(['keyturn', *config, 'refresh', *options.names])}`"


def _log_rotations(rotations: Sequence[dict[str, Any]]) -> None:
    for one in rotations:
        if one["error"]:
            log.error("the keys of a RAM user need somebody", credential=one["credential"], error=one["error"])
        elif one["waits_for"]:
            log.info("the keys of a RAM user wait", credential=one["credential"], detail=one["waits_for"])


def _log_wait(one: dict[str, Any]) -> None:
    if one["outcome"] == WAITING:
        log.info("waiting", detail=one["detail"])


def _log_warning(text: str) -> None:
    log.warning("fleet", detail=text)


def _print_warning(text: str) -> None:
    print(output.one_line(f"keyturn: warning: {text}"), file=sys.stderr)
