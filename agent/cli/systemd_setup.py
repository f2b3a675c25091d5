"""`keyturn systemd-setup`: what this host has to give the service, shown or written."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from agent.app import wiring
from agent.core.errors import EXIT_DONE, NotPermittedError, StateError
from agent.logs.setup import set_up
from agent.systemd_setup import install, unit
from agent.systemd_setup.check_command import check_command
from agent.systemd_setup.install import Plan, planned
from agent.systemd_setup.needs import Needs, environment, needs_of


def systemd_setup(options: argparse.Namespace) -> int:
    """Print what this host has to give the service, or write it with --install; return the exit code."""
    set_up("critical", "plain", os.environ)
    if options.install and os.geteuid() != 0 and options.root == "/":
        raise NotPermittedError("systemd-setup --install writes below /etc, which only root may", "run it as root")
    config = os.path.abspath(options.config)
    environ = environment(os.environ)
    settings = wiring.load_settings(config, environ)
    needs = needs_of(settings, config, environ)
    root = Path(options.root)
    names = install.canonical_names(needs.units) if options.root == "/" else {}
    plan = planned(needs, config, root, names)
    for risk in needs.warnings:
        print(f"keyturn: warning: {risk}", file=sys.stderr)
    if options.check_command:
        print(_check_command(plan, config))
    elif options.install:
        _install(plan)
    else:
        _print(plan, needs)
    return EXIT_DONE


def _print(plan: Plan, needs: Needs) -> None:
    texts: dict[str | None, list[str]] = {}
    for path, text in plan.files.items():
        texts.setdefault(text, []).append(str(path))
    for text, paths in texts.items():
        print(f"# ---- {', '.join(paths)}")
        print(text if text is not None else "# this config does not need it\n")
    for line in _summary(needs):
        print(f"# {line}")
    print("# nothing was written; `keyturn systemd-setup --install` writes it")


def _summary(needs: Needs) -> Iterator[str]:
    yield f"capabilities: {' '.join(needs.capabilities) or 'none'}"
    for name, verbs in needs.units.items():
        yield f"polkit: user keyturn may {', '.join(verbs)} {name}"


def _install(plan: Plan) -> None:
    changed = set()
    for path, outcome in plan.install():
        print(f"{outcome:<10} {path}")
        if outcome in (install.Outcome.WRITTEN, install.Outcome.REMOVED):
            changed.add(path)
    if not changed & set(plan.drop_ins):
        return
    if plan.root == Path("/") and install.systemd_runs():
        install.reload_systemd()
        print("systemd has read it; `systemctl restart keyturn` puts it into force")
    else:
        print("systemd does not run here; it reads this when it starts")


def _check_command(plan: Plan, config: str) -> str:
    text = unit.installed(plan.root)
    if text is None:
        raise StateError("keyturn.service is not installed here", "install the unit first: docs/systemd.md")
    (wanted, *_same) = plan.drop_ins.values()
    return check_command(text, unit.fragments(plan.root), wanted, config)
