"""The package itself: what is in it, and that it is built the same twice. test_life.py and test_removal.py: on a machine.

Slow: it builds for the distribution's own Python. Needs root and that Python's venv, and says so where they are missing.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from keyturn_deb import build, files, wheels

from agent.cli.command_line import COMMANDS

ROOT = Path(__file__).parents[2]
EPOCH = 1_795_340_237
VENV = "usr/lib/keyturn/venv"


@pytest.fixture(scope="module")
def members(package):
    """Everything in the archive: path without "./" -> its entry."""
    packed = subprocess.run(["dpkg-deb", "--fsys-tarfile", str(package)], capture_output=True, check=True).stdout
    place = package.parent / f"data-{os.getpid()}.tar"
    place.write_bytes(packed)
    with tarfile.open(place) as archive:
        return {member.name.removeprefix("./"): member for member in archive}


@pytest.fixture(scope="module")
def unpacked(package, tmp_path_factory):
    """Its files and, in DEBIAN, what dpkg is told."""
    place = tmp_path_factory.mktemp("unpacked") / "root"
    subprocess.run(["dpkg-deb", "--raw-extract", str(package), str(place)], check=True)
    return place


# -- what is in it ----------------------------------------------------------------------------------------------------
def test_everything_that_was_promised_is_in_it(members, source):
    """The command, units, users, directories, man pages, completions, the example, history and copyright."""
    promised = {
        "usr/bin/keyturn",
        f"{VENV}/bin/keyturn",
        *(f"lib/systemd/system/{name}" for name in ("keyturn.service", "keyturn-once.service", "keyturn-once.timer")),
        "usr/lib/sysusers.d/keyturn.conf",
        "usr/lib/tmpfiles.d/keyturn.conf",
        "etc/logrotate.d/keyturn",
        "usr/share/man/man1/keyturn.1.gz",
        *(f"usr/share/man/man1/keyturn-{name}.1.gz" for name in COMMANDS),
        "usr/share/man/man5/keyturn.toml.5.gz",
        "usr/share/bash-completion/completions/keyturn",
        "usr/share/zsh/vendor-completions/_keyturn",
        "usr/share/fish/vendor_completions.d/keyturn.fish",
        *(f"usr/share/doc/keyturn/{name}" for name in ("copyright", "changelog.gz", "examples/keyturn.example.toml")),
        "usr/share/doc/keyturn/examples/secretsmanager.example.properties",
    }
    assert promised - set(members) == set()
    assert any(name.endswith("/site-packages/redis/__init__.py") for name in members), "the client of [fleet]"
    assert not any(name.startswith(("etc/keyturn", "var/", "usr/local", "opt")) for name in members)
    assert {f"usr/share/doc/keyturn/docs/{path.name}" for path in (source.root / "docs").glob("*.md")} <= set(members)


def test_owners_modes_and_times_are_a_package_s(members):
    """Root's, nothing that others may write, nothing set-uid, programs executable and nothing else, one time."""
    assert {(each.uname, each.gname, each.uid, each.gid) for each in members.values()} == {("root", "root", 0, 0)}
    assert {each.mtime for each in members.values()} == {EPOCH}
    modes = {name: each.mode for name, each in members.items() if each.isfile()}
    assert {name for name, mode in modes.items() if mode == 0o755} == {f"{VENV}/bin/keyturn"}
    assert set(modes.values()) == {0o644, 0o755}
    assert {each.mode for each in members.values() if each.isdir()} == {0o755}


def test_the_environment_leads_to_the_distribution_s_python(members, unpacked):
    """Links by relative paths, as Debian wants them, and no way into the machine that built it."""
    minor = re.search(r"python3\.\d+", " ".join(members))[0]
    links = {name: each.linkname for name, each in members.items() if each.issym()}
    assert links.pop("usr/bin/keyturn") == "../lib/keyturn/venv/bin/keyturn"
    assert {name: target for name, target in links.items() if name.startswith(VENV)} == {
        f"{VENV}/bin/python": "python3",
        f"{VENV}/bin/python3": minor,
        f"{VENV}/bin/{minor}": f"../../../../bin/{minor}",
    }
    assert (unpacked / VENV / "bin/keyturn").read_text().startswith("#!/usr/lib/keyturn/venv/bin/python3 -I\n")


def test_no_trace_of_the_building_machine_is_left(unpacked, snapshot, package):
    """No path of the checkout, of the directory of the build or of a home in any file, bytecode included."""
    forbidden = [str(path).encode() for path in (ROOT, snapshot.root, package.parent, Path.home() / ".pyenv")]
    pattern = re.compile(b"|".join(map(re.escape, forbidden)))
    found = [
        path
        for path in unpacked.rglob("*")
        if path.is_file() and not path.is_symlink() and pattern.search(path.read_bytes())
    ]
    assert found == []


def test_bytecode_is_whole_and_names_where_it_will_stand(unpacked):
    """Every module has its bytecode, and tracebacks lead to /usr/lib/keyturn."""
    site = next((unpacked / VENV / "lib").iterdir()) / "site-packages"
    sources = {path for path in site.rglob("*.py") if path.stat().st_size}
    without = [path for path in sources if not list((path.parent / "__pycache__").glob(f"{path.stem}.cpython-*.pyc"))]
    assert [path for path in without if "vendored" not in path.parts and "lib2to3" not in path.parts] == []
    (bytecode,) = (site / "agent/refresh/__pycache__").glob("pipeline.cpython-*.pyc")
    assert b"/usr/lib/keyturn/venv/lib/" in bytecode.read_bytes()


def test_nothing_that_is_not_needed_is_carried(members):
    """No pip, no setuptools, no tests, no headers, no programs of libraries, no notes of pip."""
    names = [name for name in members if "/site-packages/" in name]
    tops = {name.split("/site-packages/")[1].split("/")[0] for name in names}
    assert tops & {"pip", "setuptools", "pkg_resources", "wheel", "bin", "test", "tests", "pytest", "_pytest"} == set()
    assert [
        name for name in names if re.search(r"/tests?(/|$)|\.(pyx|pxd|h|c|pyi)$|/(RECORD|direct_url\.json)$", name)
    ] == []
    assert {name.rsplit("/", 1)[1] for name in members if name.startswith(f"{VENV}/bin/")} >= {"keyturn", "python3"}


def test_what_dpkg_is_told_is_true(unpacked, package, members):
    """Version, architecture, the exact Python, what the compiled modules are linked to, sizes and sums."""
    control = (unpacked / "DEBIAN/control").read_text()
    fields = dict(re.findall(r"^([A-Z][A-Za-z-]+): (.*)$", control, re.M))
    architecture = subprocess.run(
        ["dpkg", "--print-architecture"], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert package.name == f"keyturn_{fields['Version']}_{architecture}.deb"
    depends = fields["Depends"].split(", ")
    assert re.search(r"python3\.\d+", " ".join(members))[0] in depends
    assert {"ca-certificates", "libgcc-s1", "systemd (>= 249)"} <= set(depends)
    asked = re.findall(rb"GLIBC_2\.(\d+)", b"".join(path.read_bytes() for path in unpacked.rglob("*.so")))
    assert f"libc6 (>= 2.{max(map(int, asked))})" in depends
    subprocess.run(["md5sum", "--check", "--quiet", "DEBIAN/md5sums"], cwd=unpacked, check=True)
    assert (unpacked / "DEBIAN/conffiles").read_text() == "".join(f"{name}\n" for name in files.CONFFILES)


def test_every_compiled_library_is_one_whose_hash_the_lock_names(package, source):
    """What pip fetched as a wheel is known to the lock by its hash; what was built here from sources is Python alone."""
    known = set(re.findall(r"sha256:([0-9a-f]{64})", source.text("requirements/runtime.lock")))
    (kept,) = (
        place
        for place in (ROOT / "build/deb").glob("wheels-*")
        if place.name.endswith(wheels._digest(source.text("requirements/runtime.lock")))
    )
    built = {wheel.name for wheel in kept.glob("*.whl") if hashlib.sha256(wheel.read_bytes()).hexdigest() not in known}
    assert {name for name in built if not name.endswith("-none-any.whl")} == set()
    assert len(built) < len(list(kept.glob("*.whl")))


@pytest.mark.skipif(shutil.which("lintian") is None, reason="lintian is not installed")
def test_lintian_has_nothing_to_say(package):
    """No error, warning or hint that has no override with a reason; no override that is of no use."""
    command = ["lintian", "--allow-root", "--display-info", "--fail-on", "error,warning,info", str(package)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_two_builds_are_the_same_to_the_byte(package, buildable, snapshot, tmp_path, monkeypatch):
    """Another directory, umask, locale and time zone; everything but the fetched wheels is made anew."""
    shutil.copytree(
        ROOT / "build" / "deb", tmp_path / "elsewhere", ignore=shutil.ignore_patterns("tree-*", "fetching-*", "tools-*")
    )
    for name, value in {
        "SOURCE_DATE_EPOCH": str(EPOCH),
        "TZ": "Asia/Tokyo",
        "LANG": "C",
        "PYTHONHASHSEED": "7",
    }.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path)
    before = os.umask(0o077)
    try:
        again = build.build(snapshot, buildable, tmp_path / "elsewhere", tmp_path / "out")
    finally:
        os.umask(before)
    assert again.read_bytes() == package.read_bytes()
