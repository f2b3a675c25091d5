"""The files of a release, built for real: they are whole, and the same wherever they are made. Slow; needs git and pip."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def made(place, umask, python=sys.executable):
    """Clone this checkout's last commit to a place, and build there all but the Debian package; return dist/."""
    subprocess.run(["git", "clone", "-q", str(ROOT), str(place)], check=True)
    environ = {**os.environ, "PYTHONPATH": "packaging", "TZ": "Asia/Tokyo" if umask else "UTC"}
    command = [python, "-m", "keyturn_release", "dist", "--deb-python", ""]
    subprocess.run(command, cwd=place, env=environ, check=True, umask=umask, capture_output=True)
    return place / "dist"


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """One build; skips where this is no checkout."""
    if not (ROOT / ".git").exists():
        pytest.skip("a release is built from a clone")
    return made(tmp_path_factory.mktemp("one") / "tree", 0o022)


def test_a_second_person_gets_the_same_bytes(dist, tmp_path):
    """Another directory with a blank in its name, another umask and time zone; SHA256SUMS is true of every file."""
    again = made(tmp_path / "an other tree", 0o077)
    assert {path.name: path.read_bytes() for path in again.iterdir()} == {
        path.name: path.read_bytes() for path in dist.iterdir()
    }
    sums = dict(line.split("  ")[::-1] for line in (dist / "SHA256SUMS").read_text().splitlines())
    assert set(sums) == {path.name for path in dist.iterdir()} - {"SHA256SUMS"}
    assert all(hashlib.sha256((dist / name).read_bytes()).hexdigest() == digest for name, digest in sums.items())
    assert {path.stat().st_mode & 0o777 for path in again.iterdir()} == {0o644}


def test_the_sdist_is_the_whole_checkout(dist):
    """Tests, documents, packaging, units and locks: every file that git has."""
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {member.name.partition("/")[2] for member in archive if member.isfile()}
        assert {(one.uid, one.gid, one.uname) for one in archive} == {(0, 0, "")}
    tracked = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, text=True, check=True)
    missing = {name for name in tracked.stdout.split("\0") if name} - names
    assert {name for name in missing if not name.startswith(".git")} == set()


def test_the_wheel_carries_what_an_installation_without_a_checkout_needs(dist):
    """Types, the commit, the lock, the example config, the units; nothing of the tests."""
    (wheel,) = dist.glob("*.whl")
    head = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        assert archive.read("agent/data/commit.txt").decode() == head.stdout
        assert archive.read("agent/data/runtime.lock") == (ROOT / "requirements/runtime.lock").read_bytes()
    units = {f"agent/data/systemd/{path.name}" for path in (ROOT / "systemd").iterdir()}
    assert units | {"agent/py.typed", "providers/py.typed", "agent/data/keyturn.example.toml"} <= names
    tops = {name.split("/")[0] for name in names}
    assert {name for name in tops if not name.endswith(".dist-info")} == {"agent", "providers"}


def test_the_lock_names_keyturn_by_its_hashes(dist):
    """pip installs the wheel from it with --require-hashes, and refuses another one."""
    (lock,) = dist.glob("*.lock")
    own = lock.read_text()[: -len((ROOT / "requirements/runtime.lock").read_text())]
    digests = {hashlib.sha256(path.read_bytes()).hexdigest() for path in [*dist.glob("*.whl"), *dist.glob("*.gz")]}
    assert set(re.findall(r"--hash=sha256:([0-9a-f]{64})", own)) == digests and own.count("==") == 1
    (only,) = (dist.parent / "only.lock",)
    only.write_text(own)
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "-q",
        "--no-index",
        "--no-deps",
        "--require-hashes",
        "--find-links",
        str(dist),
    ]
    into = ["-d", str(dist.parent / "fetched"), "-r", str(only)]
    assert subprocess.run([*command, *into], capture_output=True, check=False).returncode == 0
    only.write_text(re.sub(r"sha256:....", "sha256:0000", own))
    refused = subprocess.run([*command, *into], capture_output=True, text=True, check=False)
    assert refused.returncode != 0 and "HASHES" in refused.stderr.upper()
