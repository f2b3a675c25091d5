"""`keyturn report-bug`: what whoever helps has to know, in one file of text, without a secret.

It is read-only, asks no source, and works with the daemon up or down and with a config that is refused: a part that cannot be
had says why. All of it goes through agent/app/report_masks.py before it is written, and nothing is sent anywhere.

A text rather than an archive: whoever sends it is asked to look, so looking must be easy.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import threading
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from agent.app import check as checks
from agent.app import wiring
from agent.app.report_config import shown
from agent.app.report_masks import Masks, known_secrets, secrets_in, strings_of
from agent.app.versions import versions
from agent.audit.reader import newest
from agent.cli import output
from agent.cli.daemon_client import Reach
from agent.config.effective import as_toml, effective
from agent.config.outline import AUDIT_LOG, MAX_BYTES
from agent.control import client
from agent.core.errors import EXIT_DONE, ConfigError, DaemonUnreachableError, KeyturnError, NotPermittedError
from agent.core.finding import BEGINS
from agent.core.text import counted
from agent.core.timestamps import rfc3339
from agent.logs.setup import set_up
from agent.system import files, reading
from agent.system.clock import Clock
from agent.system.oserrors import explain, is_permission
from agent.system.process import run_command
from agent.system.systemd_unit import UNIT
from agent.systemd_setup.unit import with_credentials

STATUS_S, COMMAND_S, METRICS_S = 10.0, 10.0, 5.0
RECORDS, JOURNAL_LINES = 100, 300
MOST = 512 * 1024
"""Bytes that are kept of one part: a report is read by people."""
PROPERTIES = (
    "LoadState", "UnitFileState", "ActiveState", "SubState", "Result", "ExecMainCode", "ExecMainStatus", "NRestarts", "MainPID",
    "ActiveEnterTimestamp", "InactiveEnterTimestamp", "StatusText", "FragmentPath", "DropInPaths", "NeedDaemonReload", "User",
    "Group", "WatchdogUSec", "MemoryCurrent", "MemoryPeak", "MemoryMax", "CPUUsageNSec", "TasksCurrent", "TasksMax", "LimitNOFILE",
)  # fmt: skip
"""What is told of the unit. Its environment is not."""
INTRODUCTION = """\
A report of keyturn, made at {at}. It is meant to hold no secret: what looks like one stands as [secret] or ***, and the ids of
AccessKeys are shortened. keyturn cannot know everything that is secret to you: read it before you send it.
"""


class Part(NamedTuple):
    """One part of a report: its title, how it is made, and what it is of."""

    title: str
    make: Callable[[], str]


def report_bug(options: argparse.Namespace) -> int:
    """Write the report, and say what is in it; return the exit code."""
    set_up("critical", "plain", os.environ)
    now = Clock().now()
    file = options.output or f"keyturn-report-{now:%Y%m%dT%H%M%SZ}.txt"
    made = Report(options.config, with_credentials(os.environ))
    masks = made.masks(are_names_hidden=options.mask_names)
    parts = [(masks.hide(part.title), masks.hide(_made(part.make))) for part in made.parts()]
    text = INTRODUCTION.format(at=rfc3339(now)) + "".join(f"\n== {title}\n\n{body.rstrip()}\n" for title, body in parts)
    _write(file, text.encode("utf-8", "backslashreplace"))
    for title, body in parts:
        print(f"{counted(len(body.splitlines()), 'line'):>11}  {output.one_line(title)}")
    print(output.one_line(f"the report is in {file}, which only you can read; nothing was sent"))
    print(output.one_line(f"look at it before you send it: less {file}"))
    return EXIT_DONE


def _write(file: str, content: bytes) -> None:
    """Write the report where nothing was, for this user alone.

    Raises:
        NotPermittedError: this user may not write there.
        KeyturnError: the name is taken, by a link too, or it cannot be written; nothing is left.
    """
    try:
        files.write_new(file, content)
    except FileExistsError:
        raise KeyturnError(
            f"{file}: there is something by that name already, and nothing is overwritten", "name another file"
        ) from None
    except OSError as error:
        why = explain(error, file)
        kind = NotPermittedError if is_permission(error) else KeyturnError
        raise kind(f"{file}: it cannot be written: {why.text}", why.remedy) from error


def _made(make: Callable[[], str]) -> str:
    """Return a part, or why it cannot be had: half a report is better than none, above all where much is broken."""
    try:
        text = make()
    except ConfigError as error:
        return "\n".join(["this part cannot be had:", *error.problems])
    except (KeyturnError, OSError) as error:
        return f"this part cannot be had: {error}"
    except Exception as error:  # what is wrong here may be what the report is about
        from agent.logs.log import describe, frames

        return f"this part cannot be had: a fault of keyturn itself ({describe(error)} at {frames(error)})"
    return text if len(text) <= MOST else f"(the last {MOST} letters of {len(text)})\n{text[-MOST:]}"


class Report:
    """The parts of one report."""

    def __init__(self, config: str, environ: Mapping[str, str]) -> None:
        """Read the config, as far as that is possible.

        Args:
            config: its path.
            environ: of the command, with the service's place of credentials.
        """
        self._path, self._environ = config, environ
        self._text, self._tree = _read(config)

    def masks(self, *, are_names_hidden: bool) -> Masks:
        """Return what hides the secrets that this config leads to; and its names, where that is wanted."""
        secrets = known_secrets(self._tree, self._environ) if self._tree else secrets_in(self._text)
        return Masks(secrets, self._names() if are_names_hidden else {})

    def parts(self) -> Iterator[Part]:
        """Yield the parts, in the order in which they are read."""
        yield Part("versions", lambda: "\n".join(versions().lines()))
        yield Part(f"config {self._path}, as it takes effect", self._config)
        yield Part("keyturn check --offline", self._check)
        yield Part("keyturn status --json", self._status)
        yield Part(f"the newest {RECORDS} records of the audit log", self._audit)
        yield Part(f"systemctl show {UNIT}, in part", _unit)
        yield Part("metrics", self._metrics)
        yield Part(f"the last {JOURNAL_LINES} lines of {UNIT} in the journal", _journal)

    def _names(self) -> dict[str, str]:
        """Return each name of the operator's own, and what stands for it."""
        named = {os.uname().nodename: "HOST", self._path: "/CONFIG"}
        for number, name in enumerate(_table(self._tree.get("credentials")), 1):
            named.setdefault(name, f"CREDENTIAL-{number}")
        for key, value in strings_of(self._tree):
            kind = next((kind for end, kind in _KINDS.items() if key == end or key.endswith(f"_{end}")), None)
            if kind is not None:
                named.setdefault(value, f"{kind}-{sum(one.startswith(f'{kind}-') for one in named.values()) + 1}")
        return named

    def _config(self) -> str:
        """Return the config as it takes effect; of one that is refused, what keyturn knows of it, below the reason."""
        try:
            settings = wiring.load_settings(self._path, self._environ)
        except ConfigError as error:
            return "\n".join([*error.problems, "", *shown(self._tree)])
        return "\n".join(as_toml(effective(settings, self._tree, self._environ)))

    def _check(self) -> str:
        settings = wiring.load_settings(self._path, self._environ)
        seen = checks.findings(settings, self._path, self._environ, offline=True)
        found = [one for one in seen if one.level != BEGINS]
        return "\n".join(
            f"{one.level:<7} {one.place}: {'; '.join(filter(None, [one.text, one.remedy]))}" for one in found
        )

    def _status(self) -> str:
        reach = Reach(self._path)
        try:
            found = reach.ask({"command": "status"}, patience_s=STATUS_S)[0]
        except client.ConnectionLostError:
            raise
        except DaemonUnreachableError as error:
            from agent.app.commands import status_from_disk

            found = status_from_disk(reach.own_settings, self._path, self._environ)
            return f"{error}\nfrom the state on disk:\n{json.dumps(found, indent=1, ensure_ascii=False)}"
        return json.dumps(found, indent=1, ensure_ascii=False)

    def _audit(self) -> str:
        agent = _table(self._tree.get("agent"))
        named = _table(agent.get("audit")).get("path")
        below = self._environ.get("LOGS_DIRECTORY", "").partition(":")[0]
        path = named if isinstance(named, str) else f"{below}/audit.jsonl" if below else AUDIT_LOG
        passed_over: list[str] = []
        records = list(newest(Path(path), RECORDS, lambda error: passed_over.append(str(error))))
        lines = [json.dumps(record, ensure_ascii=False) for record in records]
        return "\n".join([*passed_over, *lines]) or f"{path}: no record is there"

    def _metrics(self) -> str:
        agent = _table(self._tree.get("agent"))
        if isinstance(listen := agent.get("metrics_listen"), str):
            host, _colon, port = listen.rpartition(":")
            if not port.isdecimal():
                return "none: metrics_listen is no address"
            connection = http.client.HTTPConnection(host.strip("[]"), int(port), timeout=METRICS_S)
            try:
                connection.request("GET", "/metrics")
                return connection.getresponse().read(MOST).decode("utf-8", "replace")
            except http.client.HTTPException as error:
                return f"{listen} does not answer as it should: {type(error).__name__}"
            finally:
                connection.close()
        if isinstance(file := agent.get("metrics_textfile"), str):
            return (reading.read_regular(file, MOST) or b"").decode("utf-8", "replace")
        return "none: neither metrics_listen nor metrics_textfile is in the config"


_KINDS = {
    "path": "/PATH", "file": "/PATH", "directory": "/PATH", "source": "/PATH", "unit": "UNIT", "user": "USER", "group": "GROUP",
    "owner": "OWNER", "user_name": "USER", "secret_name": "SECRET", "role_name": "ROLE", "role_arn": "ROLE", "endpoint": "ENDPOINT",
    "url": "URL", "profile": "PROFILE", "host": "HOST", "arn": "ARN",
}  # fmt: skip
"""The ends of keys whose values are names of the operator's own."""


def _read(path: str) -> tuple[str, dict[str, Any]]:
    """Return the text of a config, and its tree; as empty what cannot be had."""
    try:
        text = (reading.read_regular(os.path.realpath(path), MAX_BYTES) or b"").decode("utf-8-sig", "replace")
    except OSError:
        return "", {}
    try:
        return text, tomllib.loads(text)
    except (ValueError, RecursionError):
        return text, {}


def _table(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _unit() -> str:
    return _said("systemctl", "show", UNIT, f"--property={','.join(PROPERTIES)}", "--no-pager")


def _journal() -> str:
    return _said(
        "journalctl", f"--unit={UNIT}", f"--lines={JOURNAL_LINES}", "--no-pager", "--output=short-iso", "--quiet"
    )


def _said(*command: str) -> str:
    """Return what a command prints, with what it complains of."""
    done = run_command(command, timeout_s=COMMAND_S, cancel=threading.Event(), output_limit=MOST)
    said = done.stdout.decode("utf-8", "replace")
    if not done.ok:
        complaint = done.stderr.decode("utf-8", "replace").strip()
        said = f"{command[0]} {done.outcome}: {complaint}\n{said}"
    return said.strip() or f"{command[0]} has nothing to say of it"
