"""`keyturn audit verify`, on the host itself or, with a copy of the log, elsewhere."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from agent.app import wiring
from agent.audit.head import Remembered
from agent.audit.hmac_key import HmacKey, read_key
from agent.audit.journal_heads import ToldHeads, told_heads
from agent.audit.proof import Verdict, Witnesses, verify, verify_against
from agent.audit.reader import look_for_log
from agent.cli import output
from agent.core.errors import EXIT_DONE, EXIT_FAILED, AuditError, ConfigError, UsageError
from agent.core.settings import Settings
from agent.system.accounts import find_account
from agent.system.reading import open_regular
from agent.system.systemd_unit import agent_user
from agent.systemd_setup.unit import with_credentials

_HEAD = re.compile(r"(?P<seq>[1-9][0-9]{0,18}):(?P<hash>[0-9a-f]{64})")


def audit_verify(options: argparse.Namespace) -> int:
    """Print whether the audit log is whole; return 1 where it is not."""
    verdict = _of_a_copy(options) if options.log else _of_this_host(options)
    if options.json:
        print(json.dumps({"whole": verdict.whole, **dataclasses.asdict(verdict)}), file=options.out)
    elif verdict.whole:
        print(f"whole: {verdict.records} records in {', '.join(verdict.files)}")
    for sentence in (*verdict.problems, *verdict.notes):
        print(output.one_line(f"keyturn: {sentence}"), file=sys.stderr)
    return EXIT_DONE if verdict.whole else EXIT_FAILED


def _of_this_host(options: argparse.Namespace) -> Verdict:
    if options.head:
        raise UsageError("--head is for a copy of the log: here the state has the head", "name the copy by --log")
    settings = settings_of_this_host(options.config)
    state_directory, _runtime, path = wiring.paths(settings)
    witnesses = Witnesses(given_keys(options) or configured_keys(settings), _journal(options))
    return verify_against(path, state_directory / wiring.AUDIT_HEAD, first_seq=options.from_seq, witnesses=witnesses)


def settings_of_this_host(config: str) -> Settings:
    """Return the settings, which say where the log is.

    Raises:
        ConfigError: they are not to be had; where there is no config at all, with what to do with a copy of a log.
    """
    try:
        return wiring.load_settings(config, os.environ)
    except ConfigError as error:
        if os.path.lexists(config):
            raise
        copy = "keyturn: where there is no config, but a copy of the log: name its newest file with --log"
        raise ConfigError([*error.problems, copy]) from error


def _of_a_copy(options: argparse.Namespace) -> Verdict:
    """Judge a copy, which no state belongs to: whether records are missing at its end, a head or a journal has to say."""
    path = Path(options.log)
    _is_there, is_file = look_for_log(path)
    if not is_file:
        raise AuditError(f"{path} is no file", "name the copy of the log that is to be verified")
    head, witnesses = known_head(options.head), Witnesses(given_keys(options), _journal(options))
    verdict = verify(path, head, first_seq=options.from_seq, is_copy=True, witnesses=witnesses)
    if not verdict.whole:
        return verdict
    if head is not None or witnesses.journal is not None:
        return verdict
    end = f"{path}: nothing here says whether the log went on behind its last record: compare with the host's newest seq and hash"
    return dataclasses.replace(verdict, notes=(*verdict.notes, end))


def known_head(text: str | None) -> Remembered | None:
    """Return the head of `--head`, a copy's newest record as somebody knows it.

    Raises:
        UsageError: it is none.
    """
    if text is None:
        return None
    match = _HEAD.fullmatch(text)
    if match is None:
        raise UsageError(
            "--head is not the number and the hash of a record", "write it as SEQ:HASH, with all 64 digits"
        )
    return Remembered(int(match["seq"]), match["hash"])


def given_keys(options: argparse.Namespace) -> tuple[HmacKey, ...]:
    """Return the keys of `--hmac-key-file`.

    Raises:
        KeyturnError: one cannot be read.
    """
    return tuple(read_key(os.path.abspath(path), also=_service()) for path in options.hmac_key_file or ())


def configured_keys(settings: Settings) -> tuple[HmacKey, ...]:
    """Return the config's key, where it has one.

    Raises:
        KeyturnError: it cannot be read.
    """
    found = wiring.hmac_key(settings, with_credentials(os.environ), also=_service())
    return () if found is None else (found,)


def _service() -> int | None:
    """Return the uid of the service, whose key root may verify with."""
    account = find_account(agent_user())
    return account.uid if account is not None else None


def _journal(options: argparse.Namespace) -> ToldHeads | None:
    if options.journal is None:
        return None
    with _opened(options.journal) as lines:
        return told_heads(lines, options.journal if options.journal != "-" else "standard input")


@contextmanager
def _opened(path: str) -> Iterator[TextIO]:
    if path == "-":
        yield sys.stdin
        return
    try:
        lines = os.fdopen(open_regular(path), encoding="utf-8", errors="replace")
    except OSError as error:
        remedy = "name a file that journalctl -o json wrote, or - for standard input"
        raise AuditError(f"{path}: cannot be read: {error.strerror}", remedy) from error
    with lines:
        yield lines
