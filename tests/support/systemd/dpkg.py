"""A machine for the package: a bed without any network, a config whose values lie on it, and dpkg."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

from keyturn_deb import tools

from tests.support.systemd.bed import Bed, missing

__all__ = ["Bed", "configure", "install", "missing", "newer", "shown", "status"]

VENV = "usr/lib/keyturn/venv"
SINK = "/srv/app/credentials.json"
INI = "/srv/app/credentials.ini"
CONFIG = f"""
[credentials.app]
verify = "off"
[credentials.app.provider]
type = "access_key"
access_key_id_from_file_path = "/etc/keyturn/app-id"
access_key_secret_from_file_path = "/etc/keyturn/app-secret"
[[credentials.app.sinks]]
type = "json"
path = "{SINK}"
[[credentials.app.sinks]]
type = "credentials_ini"
path = "{INI}"
"""


def newer(package: Path, into: Path, scratch: Path) -> None:
    """The same package as version 99, its command as well."""
    root = scratch / "newer"
    subprocess.run(["dpkg-deb", "--raw-extract", str(package), str(root)], check=True)
    control = root / "DEBIAN/control"
    control.write_text(re.sub(r"^Version: .*$", "Version: 99", control.read_text(), flags=re.M))
    (module,) = (root / VENV / "lib").glob("python3*/site-packages/agent/__init__.py")
    module.write_text(re.sub(r'__version__ = ".*"', '__version__ = "99"', module.read_text()))
    tools.run(["dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", str(root), str(into)])


def configure(bed: Bed, config: str = CONFIG) -> None:
    """A config whose values lie on the machine itself, and what the service needs for it."""
    bed.do("install", "-d", "-o", "keyturn", "/srv/app")
    for name, value in {"app-id": "LTAI5tExampleExample", "app-secret": "s" * 30}.items():
        bed.write(f"/etc/keyturn/{name}", value, 0o640)
        bed.do("chown", "keyturn", f"/etc/keyturn/{name}")
        bed.do("chmod", "0600", f"/etc/keyturn/{name}")
    bed.write("/etc/keyturn/keyturn.toml", config, 0o640)
    bed.do("chgrp", "keyturn", "/etc/keyturn/keyturn.toml")
    bed.do("keyturn", "systemd-setup", "--install")


def shown(bed: Bed, name: str, unit: str = "keyturn.service") -> str:
    """A property of a unit."""
    return bed.do("systemctl", "show", "--property", name, "--value", unit).strip()


def status(bed: Bed) -> dict[str, object]:
    """What the daemon says of itself."""
    return json.loads(bed.do("keyturn", "status", "--json"))


def install(bed: Bed, name: str = "keyturn.deb") -> str:
    """What dpkg said."""
    return bed.do("dpkg", "--install", f"/packages/{name}", timeout_s=240)
