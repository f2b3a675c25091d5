"""The command for `check` as the service: a transient unit with the same user, sandbox, credentials and directories."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping

from agent.systemd_setup.install import DROP_IN
from agent.systemd_setup.unit import service_lines

_LIFE = frozenset(
    {
        "Type",
        "NotifyAccess",
        "WatchdogSec",
        "ExecStart",
        "ExecStartPre",
        "ExecStartPost",
        "ExecReload",
        "ExecStop",
        "TimeoutStartSec",
        "TimeoutStopSec",
    }
)
"""Options about the daemon's life and not about its rights; those that begin with Restart are left out too."""
_SETS = ("CapabilityBoundingSet", "AmbientCapabilities")
_FIXED = ("RuntimeDirectoryPreserve=yes",)
"""Options for the check alone: without this one its end would remove /run/keyturn under a running daemon."""


def check_command(unit: str, drop_ins: Mapping[str, str], wanted: str | None, config: str) -> str:
    """Return the shell command that runs `keyturn check` with everything that the service has.

    Args:
        unit: the text of keyturn.service.
        drop_ins: its drop-ins by name.
        wanted: the drop-in of this config, in the place of the one that is installed.
        config: the path of the config.
    """
    return shlex.join(check_argv(unit, drop_ins, wanted, config, "keyturn-check"))


def check_argv(unit: str, drop_ins: Mapping[str, str], wanted: str | None, config: str, name: str) -> list[str]:
    """Return the same command as arguments, for a transient unit of that name; options of `check` may follow."""
    texts = {**drop_ins, DROP_IN: wanted or ""}
    settings = [*service_lines(unit), *(line for name in sorted(texts) for line in service_lines(texts[name]))]
    argv = ["systemd-run", "--quiet", "--pipe", "--wait", "--collect", f"--unit={name}"]
    argv += [f"--property={key}={value}" for key, value in _kept(settings)]
    argv += [f"--property={each}" for each in _FIXED]
    return [*argv, "/usr/bin/keyturn", "--config", config, "check"]


def _kept(settings: list[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Yield the settings as `systemd-run --property=` takes them, by D-Bus, where two things differ from a file (252).

    No specifier is expanded, so `%%` is two characters; and of several capability sets the last one counts.
    """
    sets: dict[str, list[str]] = {key: [] for key in _SETS}
    for key, value in settings:
        if key in _SETS:
            sets[key].append(value)
        elif key not in _LIFE and not key.startswith("Restart"):
            yield key, value.replace("%%", "%")
    yield from ((key, " ".join(filter(None, values))) for key, values in sets.items())
