"""What runs here, and on what: the versions that a report has to name. Nothing is imported to learn one."""

from __future__ import annotations

import os
import platform
import re
import ssl
import sys
import threading
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from agent import __version__
from agent.app.lock import below, commit, lock_file, locked
from agent.core.errors import KeyturnError
from agent.system.process import run_command

PACKAGE = "keyturn"
SYSTEMD_S = 5.0
_EXTRA = re.compile(r"""extra\s*==\s*["']([^"']+)""")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_RUN_TIME_EXTRAS = frozenset({"fleet"})
"""Extras that a deployment may have; the others are for tests and checks."""


class Versions(NamedTuple):
    """What runs here.

    Attributes:
        keyturn: its version.
        commit: what it was built of; "" where nobody noted it.
        place: the directory that its code was loaded from.
        python: implementation, version, and the interpreter's path.
        openssl: the library that TLS goes through.
        system: the distribution's name, kernel and machine.
        systemd: its version; "" where there is none.
        libraries: name -> version of what keyturn needs and what that needs; "" for one that is missing.
        lock: the file with the versions that this release was tested with; "" where none is here.
        below_lock: name -> the lock's version, of each library that is missing or older.
    """

    keyturn: str
    commit: str
    place: str
    python: str
    openssl: str
    system: str
    systemd: str
    libraries: dict[str, str]
    lock: str
    below_lock: dict[str, str]

    @property
    def patched(self) -> str:
        """Whether every library is at least the lock's, with the page that helps where one is not."""
        if not (self.lock and self.libraries):
            return "unknown"
        return 'no, see docs/install.md, "Patched versions"' if self.below_lock else "yes"

    def lines(self) -> Iterator[str]:
        """Yield them as text, one fact a line."""
        yield f"keyturn {self.keyturn}"
        width = max(map(len, self.libraries), default=0)
        facts = {
            "commit": self.commit or "unknown",
            "code": self.place,
            "python": self.python,
            "openssl": self.openssl,
            "system": self.system,
            "systemd": self.systemd or "none",
            "fleet": "yes" if self.libraries.get("redis") else "no (the extra keyturn[fleet])",
            "lock": self.lock or "none",
            "patched versions": self.patched,
        }
        wide = max(map(len, facts))
        yield from (f"  {name:<{wide}}  {value}" for name, value in facts.items())
        yield "  libraries"
        if not self.libraries:
            yield "    unknown: keyturn is not installed as a package"
        for name, version in self.libraries.items():
            older = f"  below the lock's {self.below_lock[name]}" if name in self.below_lock else ""
            yield f"    {name:<{width}}  {version or 'missing'}{older}"


def versions() -> Versions:
    """Return what runs in this process and on this machine; what cannot be learned is "" or "unknown". Never raises.

    It asks `systemctl` for systemd's version and takes some hundredths of a second.
    """
    known, lock = libraries(), lock_file()
    return Versions(
        __version__,
        commit(),
        str(Path(__file__).parents[2]),
        f"{platform.python_implementation()} {platform.python_version()} ({sys.executable or 'unknown'})",
        ssl.OPENSSL_VERSION,
        f"{_distribution()}, {platform.system()} {platform.release()} {platform.machine()}",
        _systemd(),
        known,
        str(lock or ""),
        below(known, locked()),
    )


def libraries() -> dict[str, str]:
    """Return name -> version of keyturn's dependencies and theirs, by the metadata of what is installed; sorted.

    What keyturn itself requires and is missing is "". Of what only some platforms or extras need, the installed is named.
    """
    found: dict[str, str] = {}
    _walk(PACKAGE, found)
    found.pop(PACKAGE, None)
    return dict(sorted(found.items()))


def _walk(package: str, found: dict[str, str]) -> None:
    try:
        one = metadata.distribution(package)
    except metadata.PackageNotFoundError:
        return
    found[package] = one.version
    for requirement in one.requires or ():
        extra, name = _EXTRA.search(requirement), _NAME.match(requirement)
        if name is None or (extra and (package != PACKAGE or extra[1] not in _RUN_TIME_EXTRAS)):
            continue
        needed = re.sub(r"[-_.]+", "-", name[0]).lower()  # PEP 503
        if needed not in found:
            _walk(needed, found)
            if needed not in found and package == PACKAGE and ";" not in requirement:
                found[needed] = ""


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "unknown")
    except OSError:
        return "unknown"


def _systemd() -> str:
    """Return the version of systemd, with a remark where it does not run this machine (a container, a chroot)."""
    try:
        said = run_command(["systemctl", "--version"], timeout_s=SYSTEMD_S, cancel=threading.Event())
    except KeyturnError:
        return ""
    lines = said.stdout.decode("utf-8", "replace").splitlines()
    if not said.ok or not lines:
        return ""
    runs = os.path.isdir("/run/systemd/system")  # sd_booted(3)
    return lines[0].removeprefix("systemd ") + ("" if runs else "; this machine was not started by it")
