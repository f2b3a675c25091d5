"""`keyturn audit verify`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

from agent.app import wiring
from agent.audit.proof import Verdict, verify, verify_against
from agent.cli import output
from agent.core.errors import EXIT_DONE, EXIT_FAILED, AuditError


def audit_verify(options: argparse.Namespace) -> int:
    """Print whether the audit log is whole; return 1 where it is not."""
    verdict = _of_copy(Path(options.log), options.from_seq) if options.log else _of_this_host(options)
    if options.json:
        print(json.dumps({"whole": verdict.whole, **dataclasses.asdict(verdict)}), file=options.out)
    elif verdict.whole:
        print(f"whole: {verdict.records} records in {', '.join(verdict.files)}")
    for sentence in (*verdict.problems, *verdict.notes):
        print(output.one_line(f"keyturn: {sentence}"), file=sys.stderr)
    return EXIT_DONE if verdict.whole else EXIT_FAILED


def _of_this_host(options: argparse.Namespace) -> Verdict:
    settings = wiring.load_settings(options.config, os.environ)
    state_directory, _runtime, path = wiring.paths(settings)
    return verify_against(path, state_directory / wiring.AUDIT_HEAD, first_seq=options.from_seq)


def _of_copy(path: Path, first_seq: int) -> Verdict:
    """Judge a copy, which no state belongs to: whether records are missing at its end, only who has the newer ones can say."""
    if not path.is_file():
        raise AuditError(f"{path} is no file", "name the copy of the log that is to be verified")
    verdict = verify(path, None, first_seq=first_seq, is_copy=True)
    if not verdict.whole:
        return verdict
    if not verdict.records:
        return replace(verdict, problems=(f"{path}: it has no record",))
    end = f"{path}: nothing here says whether the log went on behind its last record: compare with the host's newest seq and hash"
    return replace(verdict, notes=(*verdict.notes, end))
