"""What `check` says of the setup: only where keyturn.service is installed and this is its config."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from agent.core.errors import KeyturnError
from agent.core.provider import Finding
from agent.core.settings import Settings
from agent.setup import choice, unit
from agent.setup.needs import DEFAULT_CONFIG, USER, needs_of
from agent.setup.place import canonical_names, planned
from agent.system.accounts import find_account, own_account

PLACE = "systemd"
_REMEDY = "run `keyturn systemd-setup --install` as root, then `systemctl restart keyturn`"


def findings(settings: Settings, config: str, environ: Mapping[str, str], root: Path = Path("/")) -> Iterator[Finding]:
    """Compare the drop-ins and the polkit rule with what the config needs.

    Args:
        settings: the config, valid.
        config: its path; nothing is said of one that is not the service's.
        environ: in which it was read.
        root: where to look.
    """
    text = unit.installed(root)
    try:
        if text is None or not unit.is_ours(text) or not _is_the_units(config, root):
            return
        needs = needs_of(settings, config, environ)
        plan = planned(needs, config, root, canonical_names(needs.units))
        wrong = [Finding("error", PLACE, f"{path} is {what}", _REMEDY) for path, what in plan.differing()]
    except KeyturnError as error:
        wrong = [Finding("error", PLACE, error.problem, error.remedy)]
    yield from wrong or [Finding("ok", PLACE, "the unit's drop-in and polkit rule are what this config needs")]
    yield from _seen_by_somebody_else()
    yield from choice.findings(settings.agent, root)


def _seen_by_somebody_else() -> Iterator[Finding]:
    service, mine = find_account(USER), own_account()
    if service is not None and service.uid != mine.uid:
        text = f"this check runs as {mine.name}; the service, as {USER} in its sandbox, may see it differently"
        yield Finding("warning", PLACE, text, 'check as the service: eval "$(keyturn systemd-setup --check-command)"')


def _is_the_units(config: str, root: Path) -> bool:
    if config == DEFAULT_CONFIG:
        return True
    lines = [line for text in unit.fragments(root).values() for line in unit.service_lines(text)]
    return any(key == "Environment" and value.strip('"') == f"KEYTURN_CONFIG={config}" for key, value in lines)
