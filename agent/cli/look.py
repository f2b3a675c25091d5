"""The commands that look: `check`, `status`, `audit show`, `audit verify`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from agent import audit, wiring
from agent import check as checks
from agent.cli import show
from agent.cli.options import moment
from agent.cli.reach import Reach, find
from agent.control import client
from agent.core.errors import EXIT_DAEMON_UNREACHABLE, EXIT_DONE, EXIT_FAILED, AuditError, DaemonUnreachableError
from agent.core.provider import Finding
from agent.logs import set_up
from agent.state import StateStore
from agent.status import whole
from agent.system.clock import Clock

WATCH_S = 2.0
STATUS_S = 10.0


def check(options: argparse.Namespace) -> int:
    """`keyturn check`: exit 1 where a line says error."""
    set_up("critical", "plain", os.environ)
    settings = wiring.load_settings(options.config, os.environ)
    findings = list(
        _shown(checks.findings(settings, options.config, os.environ, offline=options.offline), options.json)
    )
    failed = any(finding.level == "error" for finding in findings)
    if options.json:
        rows = [
            {"level": f.level, "place": f.place, "text": f.text, **({"remedy": f.remedy} if f.remedy else {})}
            for f in findings
        ]
        print(json.dumps({"ok": not failed, "findings": rows}))
    return EXIT_FAILED if failed else EXIT_DONE


def _shown(findings: Iterator[Finding], silent: bool) -> Iterator[Finding]:
    for finding in findings:
        if not silent:
            remedy = f"; {finding.remedy}" if finding.remedy else ""
            level = show.paint(f"{finding.level:<7}", show.MOODS[finding.level])
            print(f"{level} {finding.place}: {finding.text}{remedy}", flush=True)
        yield finding


def status(options: argparse.Namespace) -> int:
    """`keyturn status`: from the daemon, or from the state on disk, which it says and exits 69."""
    while True:
        found, code = _status(find(options))
        if options.json:
            print(json.dumps(found), flush=True)
        else:
            if options.watch and sys.stdout.isatty():
                print("\x1b[2J\x1b[H", end="")
            show.status(found, Clock().now())
        if not options.watch:
            return code
        time.sleep(WATCH_S)


def _status(reach: Reach) -> tuple[dict[str, Any], int]:
    try:
        return reach.ask({"command": "status"}, patience_s=STATUS_S)
    except client.ConnectionLostError:
        raise
    except DaemonUnreachableError:
        settings = reach.own_settings
        managed = wiring.Parts(settings, os.environ).credentials()
        states = StateStore(wiring.paths(settings)[0])
        for one in managed:
            one.state = states.peek(one.name)
        return whole(managed, Clock(), reach.config, None, None), EXIT_DAEMON_UNREACHABLE


def audit_show(options: argparse.Namespace) -> int:
    """`keyturn audit show`."""
    since = moment(options.since, "--since", Clock().now()) if options.since else None
    for record in audit.read(_log(options)):
        if options.credential and record.get("credential") != options.credential:
            continue
        if since and not _is_later(record, since):
            continue
        print(json.dumps(record, ensure_ascii=False) if options.json else _line(record))
    return EXIT_DONE


def audit_verify(options: argparse.Namespace) -> int:
    """`keyturn audit verify`: exit 1 where the log is not whole."""
    settings = wiring.load_settings(options.config, os.environ)
    state_directory, _runtime, path = wiring.paths(settings)
    verdict = audit.verify(path, audit.read_head(state_directory / wiring.AUDIT_HEAD), first_seq=options.from_seq)
    if options.json:
        print(json.dumps({"whole": verdict.whole, **dataclasses.asdict(verdict)}))
    elif verdict.whole:
        print(f"whole: {verdict.records} records in {', '.join(verdict.files)}")
    for problem in verdict.problems:
        print(f"keyturn: {problem}", file=sys.stderr)
    return EXIT_DONE if verdict.whole else EXIT_FAILED


def _log(options: argparse.Namespace) -> Path:
    settings = wiring.load_settings(options.config, os.environ)
    path = wiring.paths(settings)[2]
    if not os.path.lexists(path) and os.access(path.parent, os.X_OK):
        raise AuditError(
            f"{path}: there is no audit log yet", "it begins with the first `keyturn run` or `keyturn once`"
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
    try:
        return datetime.fromisoformat(str(record.get("time"))) >= since
    except (ValueError, TypeError):
        return True  # a foreign time is for the reader to see


def _value(value: Any) -> str:
    if isinstance(value, dict):
        value = f"{value.get('user', '?')}({value.get('uid', '?')})"
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return show.one_line(text)
