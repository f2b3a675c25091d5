"""`keyturn once`: always by this process, under the lock."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

from agent.app import wiring
from agent.cli import output
from agent.cli.option_types import seconds
from agent.cli.without_daemon import run_here
from agent.core.events import Cause, Trigger
from agent.logs.log import log
from agent.system.journald import is_stream


def once(options: argparse.Namespace) -> int:
    """Refresh once and print what came of it; return the exit code.

    For cron, images and containers. In a unit, what happens is logged as the daemon logs it instead.
    """
    retry_for_s = seconds(options.retry_for, "--retry-for")
    settings = wiring.load_settings(options.config, os.environ)
    in_journal = is_stream(os.environ, sys.stderr)
    show = _log_wait if in_journal else output.wait
    answer = run_here(
        settings,
        options.config,
        lambda commands: commands.refresh(options.names, Cause(Trigger.START), show, retry_for_s=retry_for_s),
        logged=in_journal,
    )
    if not in_journal:
        output.refreshed(answer)
    return int(answer["exit_code"])


def _log_wait(one: dict[str, Any]) -> None:
    log.info("waiting", detail=one["detail"])
