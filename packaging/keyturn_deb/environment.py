"""The virtual environment as it will stand at /usr/lib/keyturn/venv: no pip, no path of the machine that built it.

It is not made by `python -m venv`, whose files name the directory where they were made: an environment is a pyvenv.cfg
and links to an interpreter, and pip fills a directory. Bytecode is shipped, since the service's user may not write it.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path, PurePosixPath

from keyturn_deb.tools import Python, run

HOME = PurePosixPath("/usr/lib/keyturn/venv")
THIRD_PARTIES = "/usr/local/lib/keyturn/site-packages"
"""Where an operator installs a third party's provider (docs/third_party.md): nothing of dpkg's is changed for it."""

_NOT_NEEDED_SUFFIXES = frozenset({".pyi", ".pyx", ".pxd", ".pxi", ".c", ".h", ".js", ".exe"})
_NOT_NEEDED_NAMES = frozenset(
    {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "py.typed", "top_level.txt", "test", "tests"}
)

_ENTRY = """\
#!{home}/bin/python3 -I
import sys
from agent.cli.entry import entry
sys.exit(entry())
"""
"""-I: no PYTHON* variable and no file of the caller's decides what runs, perhaps as root."""

_CONFIG = "home = /usr/bin\ninclude-system-site-packages = false\nversion = 3.{minor}\n"


def install(root: Path, python: Python, pip: list[str], wheels: list[Path]) -> Path:
    """Build the environment below `root`, all but its bytecode, and return its site-packages."""
    home = root / HOME.relative_to("/")
    site = home / "lib" / python.name / "site-packages"
    site.mkdir(parents=True)
    command = [*pip, "install", "--no-index", "--no-deps", "--no-compile", "--root-user-action=ignore"]
    run([*command, "--target", str(site), *map(str, wheels)])
    prune(site)
    strip(site)
    (home / "pyvenv.cfg").write_text(_CONFIG.format(minor=python.minor))
    (site / "keyturn-third-parties.pth").write_text(f"{THIRD_PARTIES}\n")
    _programs(home, python)
    return site


def _programs(home: Path, python: Python) -> None:
    """Write bin/: the interpreter's three names, and keyturn."""
    programs = home / "bin"
    programs.mkdir()
    interpreter = os.path.relpath(f"/usr/bin/{python.name}", HOME / "bin")
    for name, target in (("python", "python3"), ("python3", python.name), (python.name, interpreter)):
        (programs / name).symlink_to(target)
    (programs / "keyturn").write_text(_ENTRY.format(home=HOME))
    (programs / "keyturn").chmod(0o755)


# -- what stays out ---------------------------------------------------------------------------------------------------
def unneeded(path: PurePosixPath) -> bool:
    """Whether a path within site-packages is of no use at run time: tests, sources of extensions, pip's own notes."""
    return (
        str(path) == "bin"
        or path.suffix in _NOT_NEEDED_SUFFIXES
        or path.name in _NOT_NEEDED_NAMES
        or path.name.startswith("_testcapi.")
    )


def prune(site: Path) -> None:
    """Remove what is of no use at run time."""
    for place, names, files in os.walk(site):
        for name in [*names, *files]:
            path = Path(place, name)
            if unneeded(PurePosixPath(path.relative_to(site))):
                shutil.rmtree(path) if name in names else path.unlink()
        names[:] = [name for name in names if Path(place, name).exists()]
    for place, _names, _files in os.walk(site, topdown=False):
        if not os.listdir(place):
            os.rmdir(place)


def strip(site: Path) -> None:
    """Take debugging symbols out of the compiled modules: a quarter of the whole."""
    modules = sorted(map(str, site.rglob("*.so*")))
    if modules:
        run(["strip", "--strip-unneeded", "--remove-section=.comment", *modules])


# -- bytecode ---------------------------------------------------------------------------------------------------------
def compile_all(root: Path, site: Path, python: Python) -> None:
    """Write the bytecode of every module; the files must have their final times, which it names.

    One process, in one order, with one seed of hashes: marshal's output depends on them.
    """
    flags = ["-q", "--invalidation-mode", "timestamp", "-s", str(root), "-p", "/"]
    run([python.path, "-s", "-P", "-m", "compileall", *flags, str(site)], environ={"PYTHONHASHSEED": "0"})
