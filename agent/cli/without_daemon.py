"""How a command does its work itself where no daemon runs (docs/adr/0013), and who asks for it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TypeVar

from agent.app import without_daemon
from agent.app.commands import Commands
from agent.core.events import Actor
from agent.core.settings import Settings
from agent.logs.log import log
from agent.logs.setup import set_up
from agent.system.accounts import actor_name

T = TypeVar("T")


def run_here(settings: Settings, path: str, work: Callable[[Commands], T], *, logged: bool = False) -> T:
    """Run the engine in this process for as long as `work` takes; return what it returned.

    Unless `logged`, only the critical is logged: the command prints what went wrong, and the log would repeat it.

    Raises:
        KeyturnError: the application cannot be opened, or what `work` raised.
    """
    if logged:
        set_up(settings.agent.log_level, settings.agent.log_format, os.environ)
    else:
        set_up("debug" if settings.agent.log_level == "debug" else "critical", "auto", os.environ)

    def say(remark: str) -> None:
        if logged:
            log.error("the audit log was not as it should be", detail=remark)
        else:
            print(f"keyturn: {remark}", file=sys.stderr)

    return without_daemon.run_here(settings, path, os.environ, work, say)


def this_user() -> Actor:
    """Return who runs this command."""
    return Actor(os.getuid(), actor_name(os.getuid()), os.getpid())
