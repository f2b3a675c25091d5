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
from typing import Any, NoReturn

from agent import audit
from agent.app import check as checks
from agent.app import wiring
from agent.app.status import whole
from agent.cli import output
from agent.cli.daemon_client import Reach, find
from agent.cli.option_types import moment
from agent.control import client
from agent.core.errors import (
    EXIT_DAEMON_UNREACHABLE,
    EXIT_DONE,
    EXIT_FAILED,
    AuditError,
    ConfigError,
    DaemonUnreachableError,
    KeyturnError,
)
from agent.core.provider import Finding
from agent.logs.setup import set_up
from agent.state.store import StateStore
from agent.system.clock import Clock
from agent.systemd_setup.unit import with_credentials

WATCH_S = 2.0
STATUS_S = 10.0


def check(options: argparse.Namespace) -> int:
    """`keyturn check`: exit 1 where a line says error."""
    set_up("critical", "plain", os.environ)
    environ = with_credentials(os.environ)
    settings = wiring.load_settings(options.config, environ)
    findings = list(_shown(checks.findings(settings, options.config, environ, offline=options.offline), options.json))
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
            level = output.paint(f"{finding.level:<7}", output.MOODS[finding.level])
            print(f"{level} {output.one_line(f'{finding.place}: {finding.text}{remedy}')}", flush=True)
        yield finding


def status(options: argparse.Namespace) -> int:
    """`keyturn status`: from the daemon, or from the state on disk, which it says and exits 69.

    `--watch` goes on until Ctrl-C, which is its proper end (0, as of watch(1)): over restarts of the daemon, and while
    the config on disk is broken. What is wrong at its beginning ends it as it would end a single look.
    """
    if options.watch:
        try:
            _watch(options)
        except KeyboardInterrupt:
            if output.is_terminal():
                print()  # the prompt does not begin behind ^C
            return EXIT_DONE
    found, code = _status(find(options))
    _print_status(found, options.json)
    return code


def _watch(options: argparse.Namespace) -> NoReturn:
    """Show it again and again; what cannot be had just now is a sentence, and the next look may have it."""
    first = _status(find(options))[0]
    found: dict[str, Any] | None = first
    pid, remark = first["agent"]["pid"], ""
    while True:
        if found is not None:
            remark = output.change_of_daemon(pid, found["agent"]["pid"]) or remark
            pid = found["agent"]["pid"]
            _redraw(found, remark, options.json)
        time.sleep(WATCH_S)
        try:
            found = _status(find(options))[0]
        except KeyturnError as error:
            found = None
            for problem in error.problems if isinstance(error, ConfigError) else [str(error)]:
                print(output.one_line(f"keyturn: {problem}"), file=sys.stderr, flush=True)


def _redraw(found: dict[str, Any], remark: str, as_json: bool) -> None:
    if as_json:
        _print_status(found, as_json)
        return
    now = Clock().now()
    lines = [output.dated(now, remark), *output.status_lines(found, now)]
    if output.is_terminal():
        lines = output.fitting(lines)
        sys.stdout.write(output.CLEAR)
    print("\n".join(lines), flush=True)


def _print_status(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(found), flush=True)
    else:
        print("\n".join(output.status_lines(found, Clock().now())))


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
        print(output.one_line(f"keyturn: {problem}"), file=sys.stderr)
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
    return output.one_line(text)
