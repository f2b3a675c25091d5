"""Every file of a release, first line to last: START HERE."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from keyturn_deb import build as deb
from keyturn_deb import wheels
from keyturn_deb.source import Source
from keyturn_deb.tools import Python, run

from keyturn_release import sbom, tree

_CALL = """
import os, sys
os.umask(0o022)
from setuptools import build_meta
getattr(build_meta, sys.argv[1])(sys.argv[2])
"""
"""The hooks that any build front end calls (PEP 517), without isolation: setuptools is the lock's, its hash was enforced."""


def build(root: Path, deb_python: str, work: Path, output: Path) -> Iterator[str]:
    """Build what is released into `output`, and yield a line for each file.

    The wheel is made of the sdist, and the Debian package of the sdist too: what is not in it would be missed here.

    Args:
        root: the checkout, whose last commit is built, or an unpacked sdist.
        deb_python: the distribution's interpreter; "" for no Debian package.
        work: a directory whose content the next build uses again.
        output: where the files are put; older ones of the same name are replaced.

    Raises:
        BuildError: something is missing, a hash is wrong, or a program failed.
    """
    source = Source(root)
    epoch = source.epoch
    os.environ["SOURCE_DATE_EPOCH"] = str(epoch)  # for setuptools, and for the package, whose tree has no git
    work.mkdir(parents=True, exist_ok=True)
    output.mkdir(parents=True, exist_ok=True)
    pip = wheels.pip_of(source, Python(sys.executable, sys.version_info.minor), work)
    scratch = Path(tempfile.mkdtemp(prefix="dist-", dir=work))
    try:
        made, remark = _python(pip[0], root, scratch, epoch)
        if deb_python:
            made.append(
                deb.build(Source(scratch / "from" / f"keyturn-{source.version}"), deb_python, work, scratch / "out")
            )
        made += _beside(source, scratch / "out", made)
        for path in made:
            path.chmod(0o644)
            shutil.copy(path, output / f".{path.name}.new")
            os.replace(output / f".{path.name}.new", output / path.name)
            yield f"{path.stat().st_size / 1e6:6.2f} MB  {output / path.name}"
        yield remark or f"all of it from commit {source.commit or 'unknown'}"
    finally:
        shutil.rmtree(scratch)


def _python(python: str, root: Path, scratch: Path, epoch: int) -> tuple[list[Path], str]:
    """Make the sdist of the tree, and the wheel of the sdist; return both, and what is to be said of the tree."""
    out = scratch / "out"
    out.mkdir()
    remark = tree.export(root, scratch / "tree")
    run([python, "-I", "-c", _CALL, "build_sdist", str(out)], cwd=scratch / "tree")
    (sdist,) = out.glob("*.tar.gz")
    sdist.write_bytes(tree.settled(sdist, epoch))
    unpacked = tree.unpack(sdist, scratch / "from")
    run([python, "-I", "-c", _CALL, "build_wheel", str(out)], cwd=unpacked)
    shutil.rmtree(unpacked / "build")
    (wheel,) = out.glob("*.whl")
    return [sdist, wheel], remark


def _beside(source: Source, out: Path, made: list[Path]) -> list[Path]:
    """Write the lock with keyturn itself in it, the bill of materials, and the sums of everything."""
    lock = source.text("requirements/runtime.lock")
    own = "".join(f" \\\n    --hash=sha256:{_sha256(path)}" for path in made if path.suffix in (".gz", ".whl"))
    whole = out / f"keyturn-{source.version}.lock"
    whole.write_text(f"keyturn=={source.version}{own}\n{lock}")
    bill = out / f"keyturn-{source.version}.cdx.json"
    bill.write_text(sbom.document(source, {path.name: _sha256(path) for path in made}))
    sums = out / "SHA256SUMS"
    sums.write_text("".join(f"{_sha256(path)}  {path.name}\n" for path in sorted([*made, whole, bill])))
    return [whole, bill, sums]


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
