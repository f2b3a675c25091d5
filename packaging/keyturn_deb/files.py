"""What the package holds besides the environment, and the modes and times of everything."""

from __future__ import annotations

import gzip
import os
import shutil
from pathlib import Path

from keyturn_deb import history, legal
from keyturn_deb.environment import HOME
from keyturn_deb.source import Source

UNITS = "lib/systemd/system"
DOC = "usr/share/doc/keyturn"

_COPIES = {
    "systemd/keyturn.service": f"{UNITS}/keyturn.service",
    "systemd/keyturn-once.service": f"{UNITS}/keyturn-once.service",
    "packaging/debian/10-configured.conf": f"{UNITS}/keyturn.service.d/10-configured.conf",
    "systemd/keyturn-once.timer": f"{UNITS}/keyturn-once.timer",
    "systemd/keyturn.sysusers.conf": "usr/lib/sysusers.d/keyturn.conf",
    "systemd/keyturn.tmpfiles.conf": "usr/lib/tmpfiles.d/keyturn.conf",
    "systemd/keyturn.logrotate": "etc/logrotate.d/keyturn",
    "systemd/50-keyturn.rules.in": f"{DOC}/examples/50-keyturn.rules.in",
    "keyturn.example.toml": f"{DOC}/examples/keyturn.example.toml",
    "secretsmanager.example.properties": f"{DOC}/examples/secretsmanager.example.properties",
    "README.md": f"{DOC}/README.md",
    "packaging/debian/named_files.py": "usr/lib/keyturn/named_files.py",
    "packaging/debian/lintian-overrides": "usr/share/lintian/overrides/keyturn",
}
"""A file of the checkout, and where the package has it."""

CONFFILES = ("/etc/logrotate.d/keyturn",)
"""What an administrator may edit: dpkg keeps the edited one on upgrade."""

_SHELLS = {
    "bash": "usr/share/bash-completion/completions/keyturn",
    "zsh": "usr/share/zsh/vendor-completions/_keyturn",
    "fish": "usr/share/fish/vendor_completions.d/keyturn.fish",
}


def add(source: Source, root: Path, site: Path) -> None:
    """Write everything but the environment below `root`.

    Raises:
        BuildError: the checkout lacks a file.
    """
    for origin, place in _COPIES.items():
        _write(root / place, source.text(origin))
    _documents(source, root / DOC)
    for shell, place in _SHELLS.items():
        _write(root / place, source.completion(shell))
    for name, page in source.man_pages().items():
        _write_compressed(root / f"usr/share/man/man{name[-1]}/{name}.gz", page)
    _write(root / DOC / "copyright", legal.text(source, site))
    _write_compressed(root / DOC / "changelog.gz", history.changelog(source))
    command = root / "usr/bin/keyturn"
    command.parent.mkdir(parents=True, exist_ok=True)
    command.symlink_to(os.path.relpath(HOME / "bin" / "keyturn", "/usr/bin"))


def _documents(source: Source, place: Path) -> None:
    """docs/ as it stands, so that its links lead where they did; links out of it find README.md and the examples."""
    shutil.copytree(
        source.root / "docs", place / "docs", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "build")
    )
    for example in ("keyturn.example.toml", "secretsmanager.example.properties"):
        (place / example).symlink_to(f"examples/{example}")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _write_compressed(path: Path, text: str) -> None:
    """As Debian wants it: gzip -9n, without the time and the name that would differ."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode(), 9, mtime=0))


def settle(root: Path, epoch: int) -> None:
    """Give everything the modes of a package, whatever the umask was, and one time.

    Directories 0755, programs 0755, the rest 0644; everything is root's by the archive (dpkg-deb --root-owner-group).
    """
    for place, names, files in os.walk(root):
        for name in [*names, *files]:
            path = Path(place, name)
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or is_program(path.relative_to(root)) else 0o644)
            os.utime(path, (epoch, epoch), follow_symlinks=False)
    root.chmod(0o755)
    os.utime(root, (epoch, epoch))


def is_program(path: Path) -> bool:
    """Whether a file of the package may be executed: our command, and dpkg's scripts."""
    scripts = ("preinst", "postinst", "prerm", "postrm")
    return str(path) == str((HOME / "bin" / "keyturn").relative_to("/")) or (
        path.parent.name == "DEBIAN" and path.name in scripts
    )
