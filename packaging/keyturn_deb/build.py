"""One build, first line to last: START HERE."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from keyturn_deb import control, environment, files, wheels
from keyturn_deb.source import Source
from keyturn_deb.tools import find_python, run

LEVEL = 1
"""Of xz: 13.0 MB in 4 s; the usual 6 makes it a sixth smaller, in 26 s."""


def build(source: Source, python_path: str, work: Path, output: Path) -> Path:
    """Build the package and return its path, `output`/keyturn_VERSION_ARCH.deb.

    Args:
        source: the checkout.
        python_path: the distribution's interpreter.
        work: a directory whose content the next build uses again: wheels, tools.
        output: where the package is put; an older one of the same name is replaced.

    Raises:
        BuildError: something is missing, a hash is wrong, or a program failed.
    """
    python = find_python(python_path)
    work.mkdir(parents=True, exist_ok=True)
    pip = wheels.pip_of(source, python, work)
    libraries = sorted(wheels.libraries(source, python, pip, work).glob("*.whl"))
    scratch = Path(tempfile.mkdtemp(prefix="tree-", dir=work))
    try:
        root = scratch / "root"
        site = environment.install(root, python, pip, [*libraries, wheels.own(source, pip, scratch)])
        files.add(source, root, site)
        files.settle(root, source.epoch)
        environment.compile_all(root, site, python)
        files.settle(root, source.epoch)
        control.add(source, root, python)
        files.settle(root, source.epoch)
        return _pack(source, root, output)
    finally:
        shutil.rmtree(scratch)


def _pack(source: Source, root: Path, output: Path) -> Path:
    """Make the archive; one thread of xz, whose output would depend on their number."""
    name = f"keyturn_{source.version}_{control.architecture()}.deb"
    made = root.parent / name
    command = [
        "dpkg-deb",
        "--root-owner-group",
        "--uniform-compression",
        "-Zxz",
        f"-z{LEVEL}",
        "--build",
        str(root),
        str(made),
    ]
    run(command, environ={"SOURCE_DATE_EPOCH": str(source.epoch), "DPKG_DEB_THREADS_MAX": "1"})
    made.chmod(0o644)
    shutil.copyfile(made, output / f".{name}.new")
    os.replace(output / f".{name}.new", output / name)
    return output / name
