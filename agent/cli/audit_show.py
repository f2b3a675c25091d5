"""`keyturn audit show`."""

from __future__ import annotations

import argparse
import os
import stat
import sys
from collections.abc import Collection
from datetime import datetime
from pathlib import Path
from typing import Any

from agent.audit.lines import FIELDS
from agent.audit.reader import read
from agent.cli import output
from agent.cli.option_types import moment
from agent.config.outline import outline
from agent.core.errors import EXIT_DONE, AuditError, KeyturnError, UsageError
from agent.core.text import nearest
from agent.core.timestamps import moment_of
from agent.system.clock import Clock
from agent.system.systemd_unit import service_user


def audit_show(options: argparse.Namespace) -> int:
    """Print the records that were asked for; return the exit code."""
    since = moment(options.since, "--since", Clock().now()) if options.since else None
    path, credentials = _log_and_credentials(options.config)
    _refuse_none(path)
    wanted, named = options.credential, set(credentials)
    for record in read(path, _passed_over):
        named.add(str(record.get("credential")))
        if wanted and record.get("credential") != wanted:
            continue
        if since and not _is_later(record, since):
            continue
        print(output.json_line(record, options.out) if options.json else _line(record), file=options.out)
    if wanted and wanted not in named:  # one that left the config is in the log
        near = nearest(wanted, named - {"None"})
        raise UsageError(
            f"there is no credential {wanted!r}, neither in the config nor in the audit log",
            f"did you mean {near}?" if near else "see `keyturn status`",
        )
    return EXIT_DONE


def _log_and_credentials(config: str) -> tuple[Path, Collection[str]]:
    """Return where the log is, and the names of the credentials.

    Raises:
        ConfigError, NotPermittedError: the config does not say.
    """
    found = outline(config, os.environ)
    if found is not None:
        return Path(found.audit), found.credentials
    from agent.app import wiring  # imports every type that the config uses

    settings = wiring.load_settings(config, os.environ)
    return wiring.paths(settings)[2], settings.credentials.keys()


def _refuse_none(path: Path) -> None:
    if os.path.lexists(path) and not stat.S_ISREG(path.lstat().st_mode):
        raise AuditError(f"{path} is not a regular file", "find out who put it there, and move it away")
    if not os.path.lexists(path) and os.access(path.parent, os.X_OK):
        raise AuditError(
            f"{path}: there is no audit log yet",
            "it begins with the first start: `systemctl start keyturn`"
            if service_user()
            else "it begins with the first `keyturn run` or `keyturn once`",
        )


def _passed_over(error: KeyturnError) -> None:
    print(output.one_line(f"keyturn: warning: {error}"), file=sys.stderr)


def _line(record: dict[str, Any]) -> str:
    parts = [f"{record.get('time')}  {record.get('event', '?'):<18}"]
    if "credential" in record:
        parts.append(f"{record['credential']}")
    if "generation" in record:
        parts.append(f"gen {record['generation']}")
    parts.extend(f"{name}={_value(record[name])}" for name in FIELDS[2:] if name in record)
    return "  ".join(parts)


def _is_later(record: dict[str, Any], since: datetime) -> bool:
    at = moment_of(str(record.get("time")))
    return at is None or at >= since  # a foreign time is for the reader to see


def _value(value: Any) -> str:
    if isinstance(value, dict):
        value = f"{value.get('user', '?')}({value.get('uid', '?')})"
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return output.one_line(text)
