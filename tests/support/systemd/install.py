"""How keyturn gets onto a machine: as the package does it, from the package or from this tree.

`KEYTURN_DEB=path/to.deb` installs that package with dpkg. Without it the tree is installed the way the package does:
a virtual environment at /usr/lib/keyturn/venv, /usr/bin/keyturn a link into it, units, users, directories. The code
and the libraries are shown read-only from this checkout, so that what is tested is what stands here.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path

from tests.support.systemd.bed import Bed

ROOT = Path(__file__).resolve().parents[3]
VENV = "/usr/lib/keyturn/venv"
PYTHON = f"{VENV}/bin/python"
VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"
SITE = f"{VENV}/lib/{VERSION}/site-packages"
TREE = "/opt/keyturn-tree"
LIBRARIES = "/opt/keyturn-libraries"
"""What the tests are installed with: an application's own SDK; keyturn's too, where it is installed from the tree."""
DEB = "/opt/keyturn.deb"
INSIDE = "/opt/keyturn-tests"
HIDDEN = ("/root/", "/home/", "/run/user/")
"""ProtectHome= hides these from services."""


def interpreter() -> str:
    """A Python that our libraries fit and that a service may read, "" where there is none."""
    own = Path(sys.base_prefix, "bin", VERSION).resolve()
    for each in (f"/usr/bin/{VERSION}", f"/usr/local/bin/{VERSION}", str(own)):
        if Path(each).exists() and not str(Path(each).resolve()).startswith(HIDDEN):
            return each
    return ""


def given_package() -> Path | None:
    """The package that $KEYTURN_DEB names."""
    named = os.environ.get("KEYTURN_DEB")
    return Path(named).resolve() if named else None


def obstacle() -> str:
    """Why keyturn cannot be installed into a bed, "" where it can."""
    return "" if interpreter() else f"services need a {VERSION} outside of /root and /home"


def binds() -> list[tuple[Path, str]]:
    """What a bed has to show for `install`."""
    libraries = (Path(sysconfig.get_path("purelib")), LIBRARIES)
    shown = [(Path(__file__).with_name("inside"), INSIDE), libraries]
    package = given_package()
    if package is not None:
        return [*shown, (package, DEB)]
    code = [(ROOT / name, f"{TREE}/{name}") for name in ("agent", "providers")]
    return [*shown, *code, *_own_python()]


def _own_python() -> list[tuple[Path, str]]:
    """The interpreter's own tree, where the machine would not have it: outside of /usr."""
    prefix = Path(interpreter() or "/usr").resolve().parents[1]
    return [] if prefix.is_relative_to("/usr") else [(prefix, str(prefix))]


def install(bed: Bed) -> None:
    """Install; nothing is configured or started.

    Raises:
        BedError: a step failed.
    """
    if given_package() is not None:
        bed.do("dpkg", "--install", DEB, timeout_s=180)
    else:
        _install_tree(bed)


def _install_tree(bed: Bed) -> None:
    _make_venv(bed)
    for source in (ROOT / "systemd").iterdir():
        if source.suffix in (".service", ".timer"):
            bed.write(f"/lib/systemd/system/{source.name}", source.read_text())
    for name, folder in (("keyturn.sysusers.conf", "sysusers.d"), ("keyturn.tmpfiles.conf", "tmpfiles.d")):
        bed.write(f"/usr/lib/{folder}/keyturn.conf", (ROOT / "systemd" / name).read_text())
    bed.do("systemd-sysusers", "keyturn.conf")
    bed.do("systemd-tmpfiles", "--create", "keyturn.conf")
    bed.do("systemctl", "daemon-reload")


def _make_venv(bed: Bed) -> None:
    """As `python -m venv` makes it; the libraries and the code come in by a .pth file."""
    python = interpreter()
    bed.write(f"{VENV}/pyvenv.cfg", f"home = {Path(python).parent}\ninclude-system-site-packages = false\n")
    bed.write(f"{SITE}/tree.pth", f"{TREE}\n{LIBRARIES}\n")
    bed.write(f"{VENV}/bin/keyturn", f"#!{PYTHON}\nfrom agent.cli.entry import entry\nentry()\n", 0o755)
    for link, target in ((PYTHON, python), ("/usr/bin/keyturn", f"{VENV}/bin/keyturn")):
        place = bed.root / link.lstrip("/")
        place.unlink(missing_ok=True)
        place.symlink_to(target)


def site_packages(bed: Bed) -> str:
    """Where a third party's package is installed into keyturn's environment."""
    (found,) = (bed.root / VENV.lstrip("/") / "lib").glob("python3*/site-packages")
    return "/" + str(found.relative_to(bed.root))
