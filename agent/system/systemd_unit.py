"""keyturn's unit on this host: whether it is installed, and which user it runs as.

A remedy that root reads in a shell is about files that the service writes, so it has to name the service's user.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator

from agent.system.accounts import find_account, own_account
from agent.system.reading import read_regular

UNIT = "keyturn.service"
USER = "keyturn"
SEARCHED = (
    "etc/systemd/system",
    "run/systemd/system",
    "usr/local/lib/systemd/system",
    "lib/systemd/system",
    "usr/lib/systemd/system",
)
"""The directories of units by systemd.unit(5); the first one that has the unit wins."""
_LIMIT = 1024 * 1024


Place = str | os.PathLike[str]


def installed(root: Place = "/") -> str | None:
    """Return the text of keyturn.service; None where it is not installed, masked, or not readable."""
    for directory in SEARCHED:
        try:
            found = read_regular(os.path.join(root, directory, UNIT), _LIMIT)
        except OSError:
            return None  # a link to /dev/null, for example: masked
        if found is not None:
            return found.decode("utf-8", "replace")
    return None


def service_lines(text: str) -> Iterator[tuple[str, str]]:
    """Yield the assignments of the section [Service], in their order; continued lines joined (systemd.syntax(7))."""
    section = ""
    for line in text.replace("\\\n", " ").splitlines():
        line = line.strip()
        if line.startswith("["):
            section = line
        elif section == "[Service]" and line[:1] not in ("", "#", ";"):
            key, _equals, value = line.partition("=")
            yield key.strip(), value.strip()


def drop_ins(root: Place = "/") -> dict[str, str]:
    """Return name -> path of the unit's drop-ins; a directory hides the later ones of systemd.unit(5)."""
    found: dict[str, str] = {}
    for directory in SEARCHED:
        beside = os.path.join(root, directory, f"{UNIT}.d")
        for name in sorted(_names(beside)):
            path = os.path.join(beside, name)
            if name.endswith(".conf") and name not in found and os.path.isfile(path):
                found[name] = path
    return found


def unit_uid(root: Place = "/") -> int | None:
    """Return the uid that the unit runs as by itself and its drop-ins; None where it is not installed, or not known here."""
    text = installed(root)
    if text is None:
        return None
    paths = drop_ins(root)
    try:
        parts = [read_regular(paths[name], _LIMIT) or b"" for name in sorted(paths)]
    except OSError:
        parts = []
    texts = [text, *(part.decode("utf-8", "replace") for part in parts)]
    lines = [line for each in texts for line in service_lines(each)]
    users = [value for key, value in lines if key == "User"]
    dynamic = [value.lower() in ("yes", "true", "on", "1") for key, value in lines if key == "DynamicUser"]
    name = users[-1] if users and users[-1] else UNIT.removesuffix(".service") if dynamic and dynamic[-1] else "root"
    account = find_account(name)
    return account.uid if account is not None else None


def is_ours(text: str) -> bool:
    """Return whether the unit runs as the user keyturn. An operator's own unit that runs as root needs no setup."""
    users = [value for key, value in service_lines(text) if key == "User"]
    return users[-1:] == [USER]


def service_user(root: Place = "/") -> str | None:
    """Return the user of the service; None where it is not installed as ours, or its user was never made."""
    text = installed(root)
    return USER if text is not None and is_ours(text) and find_account(USER) is not None else None


def agent_user() -> str:
    """Return the user who writes keyturn's files: this process's own, or the service's where root only runs a check."""
    return (service_user() if os.geteuid() == 0 else None) or own_account().name


def make_directory(path: Place, mode: str) -> str:
    """Return the shell command that makes a directory into which keyturn can write; what is there and is none moves away."""
    aside = f"mv {shlex.quote(str(path))} {shlex.quote(f'{path}.old')} && " if os.path.isfile(path) else ""
    return f"{aside}install -d -o {agent_user()} -m {mode} {shlex.quote(str(path))}"


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []
