"""The tree that a release is made of, and archives that are the same to the byte whoever makes them."""

from __future__ import annotations

import gzip
import io
import shutil
import subprocess
import tarfile
from pathlib import Path

from keyturn_deb.errors import BuildError
from keyturn_deb.tools import run

_NOT_PART = (".git", ".venv", "build", "dist", "__pycache__", "*.egg-info", ".*_cache", ".hypothesis", "demo-*")


def export(root: Path, into: Path) -> str:
    """Put the last commit of a checkout below `into`, as `git archive` writes it; an unpacked sdist as it stands.

    Returns:
        A sentence where the checkout has changes that are in no commit, and so not in the release; else "".

    Raises:
        BuildError: git failed.
    """
    if not (root / ".git").exists():
        shutil.copytree(root, into, ignore=shutil.ignore_patterns(*_NOT_PART))
        return ""
    packed = subprocess.run(["git", "-C", str(root), "archive", "HEAD"], capture_output=True, check=False)
    if packed.returncode:
        raise BuildError(f"git archive failed: {packed.stderr.decode('utf-8', 'replace').strip()}")
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
        _extract(archive, into)
    changed = run(["git", "-C", str(root), "status", "--porcelain"]).splitlines()
    return f"not in it: {len(changed)} changed files that are in no commit (git status)" if changed else ""


def unpack(sdist: Path, into: Path) -> Path:
    """Unpack an sdist and return its only directory."""
    with tarfile.open(sdist) as archive:
        _extract(archive, into)
    (tree,) = into.iterdir()
    return tree


def _extract(archive: tarfile.TarFile, into: Path) -> None:
    """Unpack what we packed ourselves; Debian 12's Python has no filters yet, later ones want to be told of one."""
    archive.extraction_filter = getattr(tarfile, "data_filter", None)
    archive.extractall(into)


def settled(sdist: Path, epoch: int) -> bytes:
    """Return the sdist again: members in order, one time, root's, modes that no umask decided."""
    packed = io.BytesIO()
    with tarfile.open(sdist) as old, tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as new:
        for member in sorted(old.getmembers(), key=lambda one: one.name):
            member.mtime, member.uid, member.gid, member.uname, member.gname = epoch, 0, 0, "", ""
            member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            member.pax_headers = {}
            new.addfile(member, old.extractfile(member) if member.isfile() else None)
    return gzip.compress(packed.getvalue(), 9, mtime=epoch)
