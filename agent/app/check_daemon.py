"""What `check` learns from the daemon that runs: a config that it refused, and credentials that are not well."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from agent.app.daemon_users import daemon_users
from agent.control import client
from agent.core.errors import DaemonUnreachableError, KeyturnError
from agent.core.finding import Finding
from agent.core.policy import Condition
from agent.system.systemd_credentials import OF_THE_SERVICE, by_source
from agent.systemd_setup.as_service import DAEMON

ASK_S = 10.0
MENDED = "mend that, then `systemctl reload keyturn`, or `systemctl restart keyturn` where it says so"
_ILL = frozenset({Condition.FAILING, Condition.STALE, Condition.EXPIRED})


def daemon_findings(
    state: Path, runtime: Path, config: str, environ: Mapping[str, str], *, start: str = ""
) -> Iterator[Finding]:
    """Ask the daemon of this config. That none answers is a warning at most: a check comes before a start too.

    Args:
        state: the state directory, whose owner may run the daemon.
        runtime: the directory of its socket.
        config: the config that is checked.
        environ: the environment of the check, which knows where systemd takes the service's files from.
        start: the command that starts it; "" where no application asks it.
    """
    text = "no keyturn runs with this config; applications that ask get nothing"
    nobody = [Finding("warning", DAEMON, text, f"`{start}`")] if start else []
    try:
        found, _code = client.ask(runtime, {"command": "status"}, patience_s=ASK_S, agents=daemon_users(state))
        if found["agent"]["config"] != config:
            yield from nobody
            return
        for one in _told(found):
            yield replace(one, text=by_source(one.text, OF_THE_SERVICE, environ))
    except DaemonUnreachableError:
        yield from nobody
    except (KeyturnError, KeyError, TypeError):
        return


def _told(found: dict[str, Any]) -> Iterator[Finding]:
    agent = found["agent"]
    for problem in agent.get("config_problems", ()):
        text = f"the daemon that runs refused the config of its last reload: {problem}"
        yield Finding("error", DAEMON, text, MENDED)
    ill = {name: one for name, one in found["credentials"].items() if one["state"] in _ILL}
    for name, one in ill.items():
        yield Finding(
            "error", DAEMON, f"credentials.{name} is {one['state']}{_why(one)}", "`keyturn status` shows more"
        )
    if not ill and not agent.get("config_problems"):
        yield Finding("ok", DAEMON, f"pid {agent['pid']} runs with this config, and none of its credentials fails")


def _why(one: dict[str, Any]) -> str:
    if one["last_error"]:
        return f": failed {one['consecutive_failures']} times: {one['last_error']}"
    given_up = [f"{who['type']} {who['target']}: {who['last_outcome']}" for who in one["notify"] if who["last_outcome"]]
    return f": {'; '.join(given_up)}" if given_up else ""
