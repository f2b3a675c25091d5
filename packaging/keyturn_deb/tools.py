"""The programs that a build needs, and one way to run them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from keyturn_deb.errors import BuildError

NEEDED = {"dpkg-deb": "dpkg", "strip": "binutils"}
"""A program, and Debian's package that has it."""

MINIMUM = (3, 11)

_ASK = """
import importlib.util, sys
usable = importlib.util.find_spec("ensurepip") and importlib.util.find_spec("venv")
print(*sys.version_info[:2], int(bool(usable)))
"""


@dataclass(frozen=True)
class Python:
    """The distribution's interpreter, which the package will run on."""

    path: str
    minor: int

    @property
    def name(self) -> str:
        """`python3.11`: the program's and the Debian package's."""
        return f"python3.{self.minor}"


def run(command: Sequence[str], *, cwd: Path | None = None, environ: Mapping[str, str] | None = None) -> str:
    """Run a program and return what it printed.

    Raises:
        BuildError: it cannot be run or fails; with the end of what it said.
    """
    given = {**os.environ, "LC_ALL": "C.UTF-8", "TZ": "UTC", **(environ or {})}
    try:
        done = subprocess.run(command, cwd=cwd, env=given, capture_output=True, text=True, check=False)
    except OSError as error:
        raise BuildError(f"{command[0]} cannot be run: {error.strerror}; is it installed?") from None
    if done.returncode:
        said = " | ".join((done.stderr or done.stdout).strip().splitlines()[-5:])
        raise BuildError(f"{' '.join(command[:6])} … failed (status {done.returncode}): {said}")
    return done.stdout


def find_python(path: str) -> Python:
    """Look at an interpreter and what else a build needs.

    Raises:
        BuildError: something is missing; it names the package to install.
    """
    lacking = [package for program, package in NEEDED.items() if shutil.which(program) is None]
    if not Path(path).exists():
        lacking.append("python3")
    if lacking:
        raise BuildError(f"this machine lacks what a build needs; apt-get install {' '.join(sorted(lacking))}")
    major, minor, usable = run([path, "-I", "-c", _ASK]).split()
    version = (int(major), int(minor))
    if version < MINIMUM:
        raise BuildError(
            f"{path} is Python {major}.{minor}, keyturn needs 3.11 or newer; give --python /usr/bin/python3.X"
        )
    if not int(usable):
        raise BuildError(f"{path} cannot make virtual environments; apt-get install python3-venv python3.{minor}-venv")
    return Python(_of_the_distribution(path, version[1]), version[1])


def _of_the_distribution(path: str, minor: int) -> str:
    """Where the package will look for it, and nowhere else."""
    expected = Path(f"/usr/bin/python3.{minor}")
    if not expected.exists() or Path(path).resolve() != expected.resolve():
        raise BuildError(
            f"{path} is not the distribution's {expected}, which the package will run on; give --python {expected}"
        )
    return str(expected)
