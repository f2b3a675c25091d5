"""`keyturn audit report`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from agent.app import wiring
from agent.audit.head import Remembered
from agent.audit.hmac_key import HmacKey
from agent.audit.proof import Witnesses
from agent.audit.reader import brothers, look_for_log
from agent.cli import output
from agent.cli.audit_log import refuse_unknown, warn
from agent.cli.audit_verify import configured_keys, given_keys, known_head, settings_of_this_host
from agent.cli.document_file import encoded, reserved
from agent.cli.option_types import moment
from agent.core.errors import EXIT_DONE, EXIT_FAILED, AuditError, NotPermittedError, UsageError
from agent.core.settings import CredentialSettings, FileSinkSettings, Settings
from agent.core.text import first_few
from agent.evidence.collect import Collected, collect
from agent.evidence.model import Configured, LogRange, Report
from agent.evidence.plain import plain
from agent.evidence.report import SHOWN, report
from agent.system.clock import Clock
from agent.system.reserved_file import ReservedFile
from agent.system.terminal import paint, terminal_size

OUTPUT_WIDTH = 100
"""Columns of the table in a file."""


def audit_report(options: argparse.Namespace) -> int:
    """Print the report, or write it to a file; return 1 where the log did not verify: the report is made all the same."""
    with reserved(options.output) as file:
        return _report(options, file)


def _report(options: argparse.Namespace, file: ReservedFile | None) -> int:
    now = Clock().now()
    since = moment(options.since, "--since", now) if options.since else None
    sources = _sources(options)
    _refuse_none(sources.log)
    if file is not None:
        file.refuse([Path(options.config), sources.log, *brothers(sources.log)])
    found, log = _collected(sources, since, options.from_seq)
    refuse_unknown(options.credential, {*found.histories, *(sources.configured or {})})
    made = report(found, log, sources.configured, now=now, since=since, credential=options.credential)
    if file is not None:
        file.write(encoded("".join(_rendered(made, options.format, is_file=True))))
    else:
        _print(_rendered(made, options.format, is_file=False), options)
    return EXIT_DONE if _is_sound(log) else EXIT_FAILED


def _is_sound(log: LogRange) -> bool:
    """Say on standard error, too, that the log did not verify: a program may read the report."""
    for problem in first_few(log.problems, SHOWN):
        print(output.one_line(f"keyturn: {problem}"), file=sys.stderr)
    if not log.verified:
        print("keyturn: the audit log did not verify; the report says so first", file=sys.stderr)
    return log.verified


# -- where it comes from ---------------------------------------------------------------------------------


class _Sources(NamedTuple):
    """What the report is made of.

    Attributes:
        configured: what the config says of each credential; None where the log is all there is.
        log: its newest file.
        head: the state's file about it, or what somebody knows of a copy's newest record.
        witnesses: the keys that authenticate its records.
    """

    configured: Mapping[str, Configured] | None
    log: Path
    head: Path | Remembered | None
    witnesses: Witnesses


def _sources(options: argparse.Namespace) -> _Sources:
    keys = given_keys(options)
    if options.log:
        return _Sources(None, Path(options.log), known_head(options.head), Witnesses(keys))
    if options.head:
        raise UsageError("--head is for a copy of the log: here the state has the head", "name the copy by --log")
    settings = settings_of_this_host(options.config)
    state_directory, _runtime, log_path = wiring.paths(settings)
    configured = _configured(settings, options.config)
    keys = keys or _own_keys(settings)
    return _Sources(configured, log_path, state_directory / wiring.AUDIT_HEAD, Witnesses(keys))


def _own_keys(settings: Settings) -> tuple[HmacKey, ...]:
    """Return the config's key; none where this user may not read it: HMACs are not checked then, and a note says so."""
    try:
        return configured_keys(settings)
    except NotPermittedError as error:
        warn(error)
        return ()


def _configured(settings: Settings, config: str) -> Mapping[str, Configured]:
    from agent.app.commands import status_from_disk

    try:
        rows = status_from_disk(settings, config, os.environ)["credentials"]
    except NotPermittedError as error:
        warn(error)
        rows = {}
    found = {}
    for name, one in settings.credentials.items():
        told = rows[name]["notify"] if name in rows else None
        found[name] = Configured(
            one.provider.type,
            one.owner or "",
            timedelta(seconds=float(one.max_age)) if one.max_age is not None else None,
            _identity(one),
            ", ".join(one.provider.own_secrets()),
            tuple(sink.path for sink in one.sinks if isinstance(sink, FileSinkSettings)),
            tuple(_dependent(row) for row in told or ()),
            None if told is None else tuple(_dependent(row) for row in told if row["owed"]),
        )
    return found


def _identity(one: CredentialSettings) -> str:
    """Return the RAM user or role that the config names; "" where it names none."""
    if one.emergency is not None and one.emergency.ram_user_name:
        return one.emergency.ram_user_name
    return getattr(one.provider, "role_arn", None) or getattr(one.provider, "role_name", None) or ""


def _dependent(row: Mapping[str, str]) -> str:
    return f"{row['type']} {row['target']}"


def _collected(sources: _Sources, since: datetime | None, first_seq: int) -> tuple[Collected, LogRange]:
    log, head, witnesses = sources.log, sources.head, sources.witnesses
    try:
        return collect(log, head, since, first_seq=first_seq, witnesses=witnesses)
    except NotPermittedError:
        if not isinstance(head, Path) or os.access(head, os.R_OK):
            raise
        print(f"keyturn: warning: {output.one_line(str(head))}: this user may not read the state", file=sys.stderr)
        return collect(log, None, since, first_seq=first_seq, witnesses=witnesses)


def _refuse_none(path: Path) -> None:
    is_there, is_file = look_for_log(path)
    if is_there and not is_file:
        raise AuditError(
            f"{path} is not a regular file", "name the newest file of the log; the rotated ones lie beside it"
        )
    if not is_file and not brothers(path):
        raise AuditError(f"{path}: there is no audit log", "name its newest file with --log, or start keyturn first")


# -- where it goes ---------------------------------------------------------------------------------------


def _rendered(made: Report, form: str, *, is_file: bool) -> Iterable[str]:
    """Return the report in a format; what makes it is imported here, since HTML costs a template engine."""
    if form == "html":
        from agent.evidence.as_html import html

        return html(made)
    if form == "csv":
        from agent.evidence.as_csv import rows

        return rows(made)
    if form == "ocsf":
        from agent.evidence.as_ocsf import lines as events

        return (f"{line}\n" for line in events(made))
    if form == "json":
        return (json.dumps(plain(made), ensure_ascii=False, indent=2), "\n")
    from agent.evidence.as_text import lines

    shown = lines(made, OUTPUT_WIDTH, _unpainted) if is_file else lines(made, terminal_size().columns, paint)
    return (f"{line}\n" for line in shown)


def _unpainted(text: str, _mood: str | None) -> str:
    return text


def _print(pieces: Iterable[str], options: argparse.Namespace) -> None:
    """Print it; what programs read is UTF-8, whatever the terminal's encoding."""
    if options.format == "table" or not hasattr(options.out, "buffer"):
        options.out.writelines(pieces)
        return
    options.out.flush()
    for piece in pieces:
        options.out.buffer.write(encoded(piece))
    options.out.buffer.flush()
