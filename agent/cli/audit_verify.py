"""`keyturn audit verify`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys

from agent.app import wiring
from agent.audit.proof import verify_against
from agent.cli import output
from agent.core.errors import EXIT_DONE, EXIT_FAILED


def audit_verify(options: argparse.Namespace) -> int:
    """Print whether the audit log is whole; return 1 where it is not."""
    settings = wiring.load_settings(options.config, os.environ)
    state_directory, _runtime, path = wiring.paths(settings)
    verdict = verify_against(path, state_directory / wiring.AUDIT_HEAD, first_seq=options.from_seq)
    if options.json:
        print(json.dumps({"whole": verdict.whole, **dataclasses.asdict(verdict)}), file=options.out)
    elif verdict.whole:
        print(f"whole: {verdict.records} records in {', '.join(verdict.files)}")
    for sentence in (*verdict.problems, *verdict.notes):
        print(output.one_line(f"keyturn: {sentence}"), file=sys.stderr)
    return EXIT_DONE if verdict.whole else EXIT_FAILED
