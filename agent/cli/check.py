"""`keyturn check`."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator

from agent.app import check as checks
from agent.app import wiring
from agent.cli import output
from agent.core.errors import (
    EXIT_DONE,
    EXIT_FAILED,
)
from agent.core.finding import Finding
from agent.logs.setup import set_up
from agent.system.signals import end_like_an_interrupt
from agent.system.terminal import paint
from agent.systemd_setup.unit import with_credentials


def check(options: argparse.Namespace) -> int:
    """Print the findings; return 1 where one is an error."""
    end_like_an_interrupt()
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
        print(json.dumps({"ok": not failed, "findings": rows}), file=options.out)
    return EXIT_FAILED if failed else EXIT_DONE


def _shown(findings: Iterator[Finding], silent: bool) -> Iterator[Finding]:
    for finding in findings:
        if not silent:
            remedy = f"; {finding.remedy}" if finding.remedy else ""
            level = paint(f"{finding.level:<7}", output.MOODS.get(finding.level))
            print(f"{level} {output.spoken(f'{finding.place}: {finding.text}{remedy}')}", flush=True)
        yield finding
