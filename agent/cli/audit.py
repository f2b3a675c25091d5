"""`keyturn audit show` and `keyturn audit verify`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import stat
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

from agent import audit
from agent.app import wiring
from agent.cli import output
from agent.cli.option_types import moment
from agent.core.errors import (
    EXIT_DONE,
    EXIT_FAILED,
    AuditError,
    UsageError,
)
from agent.core.settings import Settings
from agent.core.text import nearest
from agent.core.timestamps import moment_of
from agent.system.clock import Clock
from agent.system.systemd_unit import service_user


def audit_show(options: argparse.Namespace) -> int:
    """Print the records that were asked for; return the exit code."""
    since = moment(options.since, "--since", Clock().now()) if options.since else None
    settings = wiring.load_settings(options.config, os.environ)
    wanted, named = options.credential, set(settings.credentials)
    for record in audit.read(_log(settings)):
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


def audit_verify(options: argparse.Namespace) -> int:
    """Print whether the audit log is whole; return 1 where it is not."""
    settings = wiring.load_settings(options.config, os.environ)
    state_directory, _runtime, path = wiring.paths(settings)
    verdict = audit.verify_against(path, state_directory / wiring.AUDIT_HEAD, first_seq=options.from_seq)
    if options.json:
        print(json.dumps({"whole": verdict.whole, **dataclasses.asdict(verdict)}), file=options.out)
    elif verdict.whole:
        print(f"whole: {verdict.records} records in {', '.join(verdict.files)}")
    for sentence in (*verdict.problems, *verdict.notes):
        print(output.one_line(f"keyturn: {sentence}"), file=sys.stderr)
    return EXIT_DONE if verdict.whole else EXIT_FAILED


def _log(settings: Settings) -> Path:
    path = wiring.paths(settings)[2]
    if os.path.lexists(path) and not stat.S_ISREG(path.lstat().st_mode):
        raise AuditError(f"{path} is not a regular file", "find out who put it there, and move it away")
    if not os.path.lexists(path) and os.access(path.parent, os.X_OK):
        raise AuditError(
            f"{path}: there is no audit log yet",
            "it begins with the first start: `systemctl start keyturn`"
            if service_user()
            else "it begins with the first `keyturn run` or `keyturn once`",
        )
    return path


def _line(record: dict[str, Any]) -> str:
    parts = [f"{record.get('time')}  {record.get('event', '?'):<18}"]
    if "credential" in record:
        parts.append(f"{record['credential']}")
    if "generation" in record:
        parts.append(f"gen {record['generation']}")
    parts.extend(f"{name}={_value(record[name])}" for name in audit.FIELDS[2:] if name in record)
    return "  ".join(parts)


def _is_later(record: dict[str, Any], since: datetime) -> bool:
    at = moment_of(str(record.get("time")))
    return at is None or at >= since  # a foreign time is for the reader to see


def _value(value: Any) -> str:
    if isinstance(value, dict):
        value = f"{value.get('user', '?')}({value.get('uid', '?')})"
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return output.one_line(text)
