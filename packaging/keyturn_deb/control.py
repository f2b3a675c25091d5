"""DEBIAN/: what dpkg is told about the package."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from keyturn_deb.files import CONFFILES
from keyturn_deb.source import Source
from keyturn_deb.tools import Python, run

SCRIPTS = ("preinst", "postinst", "prerm", "postrm")

_CONTROL = """\
Package: keyturn
Version: {version}
Architecture: {architecture}
Maintainer: {maintainer}
Installed-Size: {size}
Depends: {depends}
Recommends: dbus, polkitd
Suggests: logrotate
Section: admin
Priority: optional
Homepage: {homepage}
Description: keeps credentials on Alibaba Cloud VMs fresh
 keyturn pulls AccessKeys that KMS rotates through a ClientKey, or renews STS
 sessions; proves that a new key works; rewrites the files that applications
 read, so that no reader ever sees a torn, mixed or empty one; tells the
 dependent processes until they have heard; and writes an audit record of every
 step. On a leak, one command rotates at once, end to end.
 .
 The package brings its Python libraries in an environment of its own: nothing
 is fetched or compiled when it is installed.
"""

_LIBRARIES = {b"libgcc_s.so.1": "libgcc-s1", b"libstdc++.so.6": "libstdc++6"}
"""What compiled modules are linked to besides libc6, and the package that has it."""


def add(source: Source, root: Path, python: Python) -> None:
    """Write DEBIAN/ below `root`, whose other files are complete."""
    place = root / "DEBIAN"
    sums, size = _sums(root), installed_size(root)
    place.mkdir()
    for name in SCRIPTS:
        (place / name).write_text(source.text(f"packaging/debian/{name}"))
    (place / "conffiles").write_text("".join(f"{name}\n" for name in CONFFILES))
    (place / "md5sums").write_text(sums)
    (place / "control").write_text(
        _CONTROL.format(
            version=source.version,
            architecture=architecture(),
            maintainer=source.maintainer,
            size=size,
            depends=", ".join(depends(root, python)),
            homepage=source.homepage,
        )
    )


def architecture() -> str:
    """The build machine's, since the libraries' compiled modules are for it."""
    return run(["dpkg", "--print-architecture"]).strip()


def depends(root: Path, python: Python) -> list[str]:
    """Exactly the Python that the environment is bound to, what its compiled modules are linked to, and the system's CAs.

    systemd 249 is the first with everything that keyturn.service uses; also for sysusers and tmpfiles.
    """
    modules = [path.read_bytes() for path in sorted(root.rglob("*.so*"))]
    linked = sorted({package for name, package in _LIBRARIES.items() if any(name in module for module in modules)})
    return ["ca-certificates", f"libc6 (>= {libc_version(modules)})", *linked, python.name, "systemd (>= 249)"]


def libc_version(modules: list[bytes]) -> str:
    """The newest symbol version of the C library that a module asks for, such as 2.34."""
    asked = {
        (int(major), int(minor)) for module in modules for major, minor in re.findall(rb"GLIBC_(\d+)\.(\d+)", module)
    }
    return "{}.{}".format(*max(asked, default=(2, 17)))


def installed_size(root: Path) -> int:
    """KiB as Debian counts them: each file rounded up, one for each directory and link."""
    size = 0
    for place, names, files in os.walk(root):
        paths = [Path(place, name) for name in files]
        size += len(names) + sum(1 if each.is_symlink() else -(-each.stat().st_size // 1024) for each in paths)
    return size


def _sums(root: Path) -> str:
    """What `dpkg --verify` compares; conffiles are not among it."""
    paths = sorted(path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    named = ((str(path.relative_to(root)), path) for path in paths)
    return "".join(
        f"{hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()}  {name}\n"
        for name, path in named
        if f"/{name}" not in CONFFILES
    )
