"""The part of root's `check` that the service's own user does, in the service's sandbox (docs/adr/0017).

Root may read and write what the service may not, and the other way round a file of the service's is none for root to
trust. So root looks at the set-up alone (`agent.systemd_setup.check`), and the rest is asked of `keyturn check` in the
transient unit of `check_command`.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from agent.core.errors import EXIT_CONFIG, EXIT_NOT_PERMITTED, EXIT_USAGE, KeyturnError
from agent.core.finding import Finding
from agent.core.settings import Settings
from agent.system.process import Completed, run_command
from agent.system.systemd_credentials import by_source
from agent.system.systemd_unit import USER, service_user
from agent.systemd_setup import unit
from agent.systemd_setup.check import PLACE, is_the_services
from agent.systemd_setup.check_command import check_argv
from agent.systemd_setup.install import canonical_names, planned, systemd_runs
from agent.systemd_setup.needs import needs_of

DAEMON = "daemon"
"""The place of what the daemon says; like PLACE, root's own look says it."""
_ENDS = frozenset({EXIT_USAGE, EXIT_NOT_PERMITTED, EXIT_CONFIG})
"""Exit codes of a keyturn that cannot use its config; the service would end with them and not be restarted."""
_BASE_S, _EACH_S = 300.0, 120.0
_OUTPUT = 16 * 1024 * 1024


def applies(config: str) -> bool:
    """Return whether root's check of this config leaves the looking to the service's user."""
    try:
        return os.geteuid() == 0 and systemd_runs() and service_user() is not None and is_the_services(config)
    except KeyturnError:  # the check of the set-up says it
        return False


def findings(settings: Settings, config: str, environ: Mapping[str, str], *, offline: bool) -> Iterator[Finding]:
    """Yield what `check` finds as the service.

    Args:
        settings: the config, valid.
        config: its path.
        environ: the environment in which root read it.
        offline: whether to use no network.

    Raises:
        KeyturnError: the service's user could not look; the text says why.
    """
    name = f"keyturn-check-{os.getpid()}"
    options = ["--json", *(["--offline"] if offline else [])]
    argv = [*_unit(settings, config, environ, name), *options]
    limit_s = _BASE_S + _EACH_S * len(settings.credentials)
    done = run_command(argv, timeout_s=limit_s, cancel=threading.Event(), output_limit=_OUTPUT)
    given = f"/run/credentials/{name}.service"
    for found in _told(done, config, name):
        yield replace(found, text=by_source(found.text, given, environ), remedy=by_source(found.remedy, given, environ))


def _unit(settings: Settings, config: str, environ: Mapping[str, str], name: str) -> list[str]:
    needs = needs_of(settings, config, environ)
    plan = planned(needs, config, Path("/"), canonical_names(needs.units))
    (wanted, *_same) = plan.drop_ins.values()
    return check_argv(unit.installed() or "", unit.fragments(), wanted, config, name)


def _told(done: Completed, config: str, name: str) -> Iterator[Finding]:
    """Yield the findings of the other check, but for those that root's own look has.

    Raises:
        KeyturnError: it said none.
    """
    if done.status in _ENDS:
        lines = done.stderr.decode("utf-8", "replace").splitlines()
        yield from (
            Finding("error", config, f"{USER} cannot use it: {line.removeprefix('keyturn: ')}") for line in lines
        )
        return
    try:
        rows = json.loads(done.stdout)["findings"]
    except (ValueError, KeyError, TypeError):
        raise KeyturnError(
            f"whether {USER} can do it in its sandbox could not be seen: `systemd-run` {done.outcome} {done.text(500)}".strip(),
            f"see `journalctl -u {name}`; the service would fare alike",
        ) from None
    for row in rows:
        if row["place"] not in (PLACE, DAEMON, config):
            yield Finding(row["level"], row["place"], row["text"], row.get("remedy", ""))
