"""The lock that a release was tested with, as it is carried along, and whether what is installed is as new.

The official client pins old versions of what it needs (docs/dependencies.md), so what a resolver makes of its pins alone has
known weaknesses. Nothing is refused for that: `keyturn --version --verbose` says so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import agent

_HERE = Path(agent.__file__).parent
CARRIED = _HERE / "data" / "runtime.lock"
"""Where a wheel has it (setup.py)."""
IN_CHECKOUT = _HERE.parent / "requirements" / "runtime.lock"
_COMMIT = re.compile(r"[0-9a-f]{40,64}")
_PINNED = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)", re.M)


def lock_file() -> Path | None:
    """Return the lock's place; None where neither a wheel nor a checkout brought one."""
    return next((path for path in (CARRIED, IN_CHECKOUT) if path.is_file()), None)


def locked() -> dict[str, str]:
    """Return name -> version of every library of the lock, names as PEP 503 writes them; empty without a lock."""
    found = lock_file()
    try:
        text = found.read_text(encoding="utf-8") if found else ""
    except OSError:
        return {}
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in _PINNED.findall(text)}


def below(installed: Mapping[str, str], lock: Mapping[str, str]) -> dict[str, str]:
    """Return name -> the lock's version of each library that is missing ("") or older than the lock's."""
    return {
        name: lock[name] for name, version in installed.items() if name in lock and _order(version) < _order(lock[name])
    }


def _order(version: str) -> tuple[int, ...]:
    """Return what versions are compared by: the numbers of the release. A pre-release of the lock's counts as that."""
    numbers = re.match(r"(?:\d+!)?(\d+(?:\.\d+)*)", version)
    return tuple(map(int, numbers[1].split("."))) if numbers else ()


def commit() -> str:
    """Return the commit that this was built of, as `git archive` noted it in agent/data/commit.txt; "" where it did not."""
    try:
        noted = (_HERE / "data" / "commit.txt").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""
    return noted if _COMMIT.fullmatch(noted) else ""
