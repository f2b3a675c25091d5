"""The libraries as wheels, from the lock, each file's hash enforced by pip as it comes.

The result is kept under a name made of the lock's content, so that the next build asks nobody. Ten of the
libraries come as sources; they are built here, without isolation, by the setuptools of requirements/dev.lock (hash
enforced too): an isolated build would fetch its tools without a hash.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from keyturn_deb.errors import BuildError
from keyturn_deb.source import Source
from keyturn_deb.tools import Python, run

AT_ONCE = 4
"""pip's processes: most of their time goes into waiting and into starting builds of sources."""

_SUMS = "SHA256SUMS"


def pip_of(source: Source, python: Python, work: Path) -> list[str]:
    """Make the environment that builds, once, and return the start of a pip command in it."""
    pinned = one_of(source.text("requirements/dev.lock"), "setuptools")
    # By its path too: pip judges the lock's markers ("python_full_version < '3.11.3'") by the interpreter that runs it.
    home = work / f"tools-{python.name}-{_digest(f'{python.path} {pinned}')}"
    pip = [str(home / "bin" / "python"), "-I", "-m", "pip", "--disable-pip-version-check", "--quiet"]
    if not (home / "ready").exists():
        shutil.rmtree(home, ignore_errors=True)
        run([python.path, "-m", "venv", str(home)])
        lock = home / "setuptools.lock"
        lock.write_text(pinned)
        run([*pip, "install", "--no-deps", "--require-hashes", "--only-binary=:all:", "-r", str(lock)])
        (home / "ready").touch()
    return pip


def libraries(source: Source, python: Python, pip: list[str], work: Path) -> Path:
    """Return the directory with a wheel of every library of the lock.

    Raises:
        BuildError: one cannot be had, its hash is wrong, or what was kept has been changed since.
    """
    lock = source.text("requirements/runtime.lock")
    kept = work / f"wheels-{python.name}-{platform.machine()}-{_digest(lock)}"
    if not kept.exists():
        parts = work / f"fetching-{os.getpid()}"
        shutil.rmtree(parts, ignore_errors=True)
        parts.mkdir(parents=True)
        _fetch(pip, requirements(lock), parts)
        (parts / _SUMS).write_text(_sums(parts))
        parts.rename(kept)
    if (kept / _SUMS).read_text() != _sums(kept):
        raise BuildError(f"{kept} was changed since pip checked its hashes; remove it, and build again")
    return kept


def own(source: Source, pip: list[str], work: Path) -> Path:
    """Build keyturn's own wheel from a copy: setuptools would leave directories in the checkout."""
    copy = work / f"source-{os.getpid()}"
    shutil.rmtree(copy, ignore_errors=True)
    for name in ("agent", "providers", "requirements", "systemd"):
        shutil.copytree(source.root / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "keyturn.example.toml", "README.md", "LICENSE"):
        shutil.copy(source.root / name, copy / name)
    (copy / "agent/data/commit.txt").write_text(f"{source.commit}\n")
    run([*pip, "wheel", "--no-index", "--no-deps", "--no-build-isolation", "-w", str(copy / "wheel"), str(copy)])
    (wheel,) = (copy / "wheel").glob("*.whl")
    return wheel


def requirements(lock: str) -> list[str]:
    """Split a lock into its requirements, each with its hashes."""
    return re.findall(r"(?:[^\n]*\\\n)*[^\n]+\n", lock)


def one_of(lock: str, name: str) -> str:
    """Return one requirement of a lock as a lock.

    Raises:
        BuildError: it has none of that name.
    """
    for block in requirements(lock):
        if block.startswith(f"{name}=="):
            return block
    raise BuildError(f"requirements/dev.lock pins no {name}; make lock")


def _fetch(pip: list[str], wanted: list[str], into: Path) -> None:
    """Fetch or build the wheels of all requirements, a few at a time.

    Raises:
        BuildError: pip failed.
    """

    def fetch(number: int) -> None:
        part = into / f"{number}.lock"
        part.write_text("".join(wanted[number::AT_ONCE]))
        run([*pip, "wheel", "--no-deps", "--require-hashes", "--no-build-isolation", "-w", str(into), "-r", str(part)])
        part.unlink()

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(fetch, range(AT_ONCE)))


def _sums(directory: Path) -> str:
    wheels = sorted(directory.glob("*.whl"))
    return "".join(f"{hashlib.sha256(each.read_bytes()).hexdigest()}  {each.name}\n" for each in wheels)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
