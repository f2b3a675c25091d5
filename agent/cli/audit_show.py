"""`keyturn audit show`."""

from __future__ import annotations

import argparse
import os
import re
import stat
import sys
import time
from collections.abc import Callable, Collection
from datetime import datetime
from pathlib import Path
from typing import Any

from agent.audit.reader import brothers, newest, read
from agent.cli import output
from agent.cli.audit_line import Columns
from agent.cli.audit_log import refuse_none, refuse_unknown, warn
from agent.cli.option_types import moment
from agent.config.outline import outline
from agent.core.errors import EXIT_DONE, AuditError, UsageError
from agent.core.timestamps import moment_of
from agent.system.clock import Clock
from agent.system.systemd_unit import service_user
from agent.system.terminal import is_terminal

LOOK_S = 0.5
"""Seconds between two looks of `--follow`."""
FOLLOWED = 10
"""Records that `--follow` begins with, as tail(1) and journalctl do."""

Show = Callable[[dict[str, Any]], None]


def audit_show(options: argparse.Namespace) -> int:
    """Print the records that were asked for; return the exit code.

    `--follow` goes on until Ctrl-C, which is its proper end (exit code 0).
    """
    if options.key is not None:
        from agent.emergency.request import refuse_secret  # which most who read the log do not need

        refuse_secret(options.key, "--key")
    wanted = _Wanted(options)
    path, credentials = _log_and_credentials(options)
    show = _shown(options, credentials)
    named = set(credentials)
    if options.follow:
        _follow(path, wanted, show, options)
        return EXIT_DONE
    count, is_any = options.tail, False

    def noted(record: dict[str, Any]) -> bool:
        named.add(str(record.get("credential", "")))
        return wanted(record)

    for record in read(path, warn) if count is None else newest(path, count, warn, noted):
        if noted(record):
            show(record)
            is_any = True
    refuse_unknown(options.credential, named)
    if not is_any and count != 0:
        none = "no record is what was asked for" if wanted.is_choice else "no record is there"
        print(output.one_line(f"keyturn: {path}: {none}"), file=sys.stderr)
    return EXIT_DONE


class _Wanted:
    """The records that were asked for."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._credential, self._since = options.credential, None
        if options.since:
            self._since = moment(options.since, "--since", Clock().now())
        key = options.key
        if options.tail is not None and options.tail < 0:
            raise UsageError(f"--tail: {options.tail} is no number of records", "give 0 or more")
        self._key = re.compile(rf"(?<![\w.-]){re.escape(key)}(?![\w-])") if key else None

    @property
    def is_choice(self) -> bool:
        """Whether some records are not wanted."""
        return bool(self._credential or self._since or self._key)

    def __call__(self, record: dict[str, Any]) -> bool:
        if self._credential and record.get("credential") != self._credential:
            return False
        if self._since and not _is_later(record, self._since):
            return False
        return self._key is None or _mentions(record, self._key)


def _mentions(value: Any, key: re.Pattern[str]) -> bool:
    """Return whether a text somewhere in a record names the key, as a whole word."""
    if isinstance(value, str):
        return key.search(value) is not None
    if isinstance(value, dict):
        return any(_mentions(each, key) for each in value.values())
    return isinstance(value, list) and any(_mentions(each, key) for each in value)


def _shown(options: argparse.Namespace, credentials: Collection[str]) -> Show:
    if options.json:
        return lambda record: print(output.json_line(record, options.out), file=options.out)
    columns = Columns(credentials, output.width())
    return lambda record: print("\n".join(columns.lines(record)), file=options.out)


def _follow(path: Path, wanted: _Wanted, show: Show, options: argparse.Namespace) -> None:
    from agent.audit.follow import Follower

    count = options.tail if options.tail is not None or options.since else FOLLOWED
    follower = Follower(path, warn)
    try:
        for record in read(path, warn) if count is None else newest(path, count, warn, wanted):
            if wanted(record):
                show(record)
                follower.seen(record)
        while True:
            for record in follower.news():
                if wanted(record):
                    show(record)
            options.out.flush()
            time.sleep(LOOK_S)
    except KeyboardInterrupt:
        if is_terminal():
            print()  # the prompt does not begin behind ^C
    finally:
        follower.close()


def _log_and_credentials(options: argparse.Namespace) -> tuple[Path, Collection[str]]:
    """Return where the log is, and the names of the credentials that the config has; a copy has no config.

    Raises:
        AuditError: there is no log.
        ConfigError, NotPermittedError: the config does not say where it is.
    """
    if options.log:
        copy = Path(options.log)
        refuse_none(copy)
        return copy, ()
    path, credentials = _configured(options.config)
    _refuse_none(path)
    return path, credentials


def _configured(config: str) -> tuple[Path, Collection[str]]:
    found = outline(config, os.environ)
    if found is not None:
        return Path(found.audit), found.credentials
    from agent.app import wiring  # imports every type that the config uses

    settings = wiring.load_settings(config, os.environ)
    return wiring.paths(settings)[2], settings.credentials.keys()


def _refuse_none(path: Path) -> None:
    if os.path.lexists(path) and not stat.S_ISREG(path.lstat().st_mode):
        raise AuditError(f"{path} is not a regular file", "find out who put it there, and move it away")
    if not os.path.lexists(path) and os.access(path.parent, os.X_OK) and not brothers(path):
        raise AuditError(
            f"{path}: there is no audit log yet",
            "it begins with the first start: `systemctl start keyturn`"
            if service_user()
            else "it begins with the first `keyturn run` or `keyturn once`",
        )


def _is_later(record: dict[str, Any], since: datetime) -> bool:
    at = moment_of(str(record.get("time")))
    return at is None or at >= since  # a foreign time is for the reader to see
