"""The build of the package as a library, and one built package for the whole run."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from keyturn_deb import build, tools
from keyturn_deb.errors import BuildError
from keyturn_deb.source import Source

from tests.support.systemd.dpkg import Bed, missing, newer

ROOT = Path(__file__).parents[2]
PYTHON = "/usr/bin/python3"
EPOCH = 1_795_340_237
BUILT_FROM = ("agent", "providers", "docs", "systemd", "packaging", "requirements")
BUILT_FROM_FILES = (
    "README.md",
    "CHANGELOG.md",
    "LICENSE",
    "pyproject.toml",
    "setup.py",
    "keyturn.example.toml",
    "secretsmanager.example.properties",
)
NOT_PART = shutil.ignore_patterns("__pycache__", "*.egg-info", "build")


@pytest.fixture(scope="session")
def source() -> Source:
    """This checkout."""
    return Source(ROOT)


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that the workers of one run share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base


@contextmanager
def one_at_a_time(shared: Path, name: str) -> Iterator[None]:
    """Among the workers of a test run."""
    with (shared / f".{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def snapshot(shared: Path) -> Source:
    """A copy of what the package is made from: the build must not write to it, and nobody edits it meanwhile."""
    place = shared / "snapshot"
    with one_at_a_time(shared, "snapshot"):
        if not place.exists():
            fresh = shared / "snapshot.new"
            for name in BUILT_FROM:
                shutil.copytree(ROOT / name, fresh / name, ignore=NOT_PART)
            for name in BUILT_FROM_FILES:
                shutil.copy(ROOT / name, fresh / name)
            fresh.rename(place)
    return Source(place)


@pytest.fixture(scope="session")
def buildable() -> str:
    """The distribution's Python; skips with the reason where no package can be built."""
    if os.geteuid() != 0 or shutil.which("dpkg") is None:
        pytest.skip("building and installing a Debian package needs root and dpkg")
    if _obstacle():
        pytest.skip(_obstacle())
    return PYTHON


def _obstacle() -> str:
    try:
        tools.find_python(PYTHON)
    except BuildError as error:
        return str(error)
    return ""


@pytest.fixture(scope="session")
def package(buildable: str, snapshot: Source, shared: Path) -> Path:
    """keyturn_VERSION_ARCH.deb, built once. Wheels that an earlier build of this checkout fetched are used again."""
    output = shared / "package"
    with one_at_a_time(shared, "package"), pytest.MonkeyPatch.context() as patch:
        if not list(output.glob("*.deb")):
            output.mkdir(exist_ok=True)
            patch.setenv("SOURCE_DATE_EPOCH", str(EPOCH))
            build.build(snapshot, buildable, ROOT / "build" / "deb", output)
    (made,) = output.glob("*.deb")
    return made


@pytest.fixture(scope="session")
def packages(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the package and a newer one."""
    reason = missing()
    if reason:
        pytest.skip(reason)
    place = tmp_path_factory.mktemp("packages")
    shutil.copy(package, place / "keyturn.deb")
    newer(package, place / "newer.deb", tmp_path_factory.mktemp("newer"))
    return place


@pytest.fixture
def machine(packages: Path) -> Iterator[Bed]:
    """A machine without any network; the packages are in /packages."""
    with Bed([(packages, "/packages")]) as bed:
        bed.do("rm", "-f", "/usr/sbin/policy-rc.d")  # a container image's, which forbids to start anything
        bed.do("rm", "-f", "/var/lib/man-db/auto-update")  # else each installation indexes every page of the host
        yield bed
