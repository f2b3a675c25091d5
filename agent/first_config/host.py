"""What `keyturn init` asks of this machine."""

from __future__ import annotations

import threading

from agent.first_config.wish import Account, Host
from agent.notifiers.systemd import full_name
from agent.system.accounts import find_account, group_name
from agent.system.own_program import shell_name
from agent.system.process import CommandError, run_command
from agent.system.systemd_unit import agent_user, service_user

_SYSTEMD_S = 5.0


def this_host(unit: str) -> Host:
    """Return what is known here; `unit` is the one of which it matters whether it exists, "" for none."""
    return Host(
        agent=agent_user(),
        has_service=service_user() is not None,
        keyturn=shell_name(),
        has_unit=bool(unit) and unit_property(unit, "LoadState") == "loaded",
    )


def unit_property(unit: str, name: str) -> str:
    """Return a property of a unit as systemd says; "" where it does not."""
    command = ("systemctl", "show", "--property", name, "--value", "--", full_name(unit))
    try:
        done = run_command(command, timeout_s=_SYSTEMD_S, cancel=threading.Event())
    except CommandError:
        return ""
    return done.stdout.decode("utf-8", "replace").strip() if done.ok else ""


def account(name: str) -> Account:
    """Return a user by name; one that is not here is called as it will be once it was made."""
    found = find_account(name)
    if found is None:
        return Account(name, name, f"/var/lib/{name}", exists=False)
    usable = found.home.startswith("/") and found.home not in ("/", "/nonexistent")
    return Account(found.name, group_name(found.gid), found.home if usable else "")
