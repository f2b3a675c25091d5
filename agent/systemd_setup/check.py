"""The findings of `check` about the set-up, only where keyturn.service is installed and this is its config."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from agent.core.errors import KeyturnError
from agent.core.finding import Finding
from agent.core.settings import Settings
from agent.system import files
from agent.system.accounts import find_account, own_account
from agent.system.systemd_credentials import source as handed_over_from
from agent.system.systemd_unit import USER
from agent.systemd_setup import daemon_or_timer, unit
from agent.systemd_setup.install import Plan, canonical_names, planned
from agent.systemd_setup.needs import CREDENTIALS, DEFAULT_CONFIG, handed_over, needs_of

PLACE = "systemd"
_LIMIT = 1024 * 1024  # systemd's own for a credential
_REMEDY = "run `keyturn systemd-setup --install` as root, then `systemctl restart keyturn`"


def findings(settings: Settings, config: str, environ: Mapping[str, str], root: Path = Path("/")) -> Iterator[Finding]:
    """Compare the drop-ins and the polkit rule with what the config needs.

    Args:
        settings: the config, valid.
        config: its path. One that is not the service's gets no findings.
        environ: the environment in which it was read.
        root: the root of the tree that is checked.
    """
    try:
        if not is_the_services(config, root):
            return
        needs = needs_of(settings, config, environ)
        plan = planned(needs, config, root, canonical_names(needs.units))
        yield from _compared(plan)
        yield from (Finding.of("warning", PLACE, risk) for risk in needs.warnings)
    except KeyturnError as error:
        yield Finding.of("error", PLACE, error.as_problem())
    yield from _given(settings, environ)
    yield from daemon_or_timer.findings(settings.agent, root)


def _given(settings: Settings, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Yield, for each file that systemd will hand over, whether the running service has a different one.

    A file that is missing, or closed to this user, is reported by the provider that uses it.
    """
    for name in dict(handed_over(settings, CREDENTIALS)):
        source = handed_over_from(name, environ)
        if source and os.access(source, os.R_OK, effective_ids=True):
            if _differs(source, f"{CREDENTIALS}/{name}"):
                text = f"{source} is not what systemd gave to the keyturn that runs"
                yield Finding("warning", PLACE, text, "`systemctl reload keyturn`")
            else:
                yield Finding("ok", PLACE, f"{source} is handed over as {name} when the service starts")


def _differs(source: str, given: str) -> bool:
    """Return whether systemd handed over something else; False where nothing runs or this user cannot see it."""
    try:
        theirs = files.read_regular(given, _LIMIT)
        return theirs is not None and theirs != Path(source).read_bytes()
    except OSError:
        return False


def _compared(plan: Plan) -> Iterator[Finding]:
    """Yield what differs, or that nothing does, and what this user may not read: polkit's directory is 0700 on Debian.

    polkit itself is not asked: it answers questions about a unit and a verb to root only (pkcheck(1), --detail).
    """
    wrong = [Finding("error", PLACE, f"{path} is {what}", _REMEDY) for path, what in plan.differing()]
    yield from wrong
    unseen = plan.unseen()
    if not wrong:
        seen = "drop-in is" if unseen else "drop-in and polkit rule are"
        yield Finding("ok", PLACE, f"the unit's {seen} what this config needs")
    for path in unseen:
        text = f"{path}: whether it is what this config needs cannot be seen by {own_account().name}"
        yield Finding("warning", PLACE, text, "`keyturn check` as root looks at it")


def seen_by_somebody_else(config: str, root: Path = Path("/")) -> Iterator[Finding]:
    """Warn where root looks in the place of the service; of another user, say that what they see counts for nothing."""
    try:
        is_its = is_the_services(config, root)
    except KeyturnError:
        return
    service, mine = find_account(USER), own_account()
    if not is_its or service is None or service.uid == mine.uid:
        return
    if mine.uid != 0:
        text = f"user {mine.name} sees neither the service's files nor its rights, so the rest is not looked at"
        yield Finding("error", PLACE, text, "run `keyturn check` as root")
    else:
        text = f"this check runs as {mine.name}; the service, as {USER} in its sandbox, may see it differently"
        yield Finding("warning", PLACE, text, 'check as the service: eval "$(keyturn systemd-setup --check-command)"')


def is_the_services(config: str, root: Path = Path("/")) -> bool:
    """Return whether this is the config of a keyturn.service that is installed here with our user.

    Raises:
        KeyturnError: a drop-in cannot be read.
    """
    text = unit.installed(root)
    if text is None or not unit.is_ours(text):
        return False
    if config == DEFAULT_CONFIG:
        return True
    lines = [line for text in unit.fragments(root).values() for line in unit.service_lines(text)]
    return any(key == "Environment" and value.strip('"') == f"KEYTURN_CONFIG={config}" for key, value in lines)
