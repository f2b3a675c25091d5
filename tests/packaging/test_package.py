"""The package itself: what is in it, that it is built the same twice, and its life on a machine with a real systemd.

Slow: it builds for the distribution's own Python. Needs root and that Python's venv, and says so where they are missing.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from keyturn_deb import build, files, tools, wheels

sys.path.insert(0, str(Path(__file__).parents[1] / "systemd"))

from bed import Bed, missing

ROOT = Path(__file__).parents[2]
EPOCH = 1_795_340_237
VENV = "usr/lib/keyturn/venv"
SINK = "/srv/app/credentials.json"
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
"""
IMPORT_ALL = """
import importlib, pkgutil, sys, agent, providers
for package in (agent, providers):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
import alibabacloud_credentials.client, alibabacloud_sts20150401.client, jinja2
import alibaba_cloud_secretsmanager_client.secret_manager_cache_client_builder
print(*{module.__file__ for module in sys.modules.values() if getattr(module, "__file__", None)}, sep="\\n")
"""


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
        "usr/share/man/man5/keyturn.toml.5.gz",
        "usr/share/bash-completion/completions/keyturn",
        "usr/share/zsh/vendor-completions/_keyturn",
        "usr/share/fish/vendor_completions.d/keyturn.fish",
        *(f"usr/share/doc/keyturn/{name}" for name in ("copyright", "changelog.gz", "examples/keyturn.example.toml")),
    }
    assert promised - set(members) == set()
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
    (bytecode,) = (site / "agent/__pycache__").glob("rotate.cpython-*.pyc")
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


# -- its life on a machine --------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def packages(package, tmp_path_factory):
    """A directory with the package and a newer one."""
    reason = missing()
    if reason:
        pytest.skip(reason)
    place = tmp_path_factory.mktemp("packages")
    shutil.copy(package, place / "keyturn.deb")
    newer(package, place / "newer.deb", tmp_path_factory.mktemp("newer"))
    return place


@pytest.fixture
def machine(packages):
    """A machine without any network; the packages are in /packages."""
    with Bed([(packages, "/packages")]) as bed:
        bed.do("rm", "-f", "/usr/sbin/policy-rc.d")  # a container image's, which forbids to start anything
        bed.do("rm", "-f", "/var/lib/man-db/auto-update")  # else each installation indexes every page of the host
        yield bed


def newer(package: Path, into: Path, scratch: Path) -> None:
    """The same package as version 99, its command as well."""
    root = scratch / "newer"
    subprocess.run(["dpkg-deb", "--raw-extract", str(package), str(root)], check=True)
    control = root / "DEBIAN/control"
    control.write_text(re.sub(r"^Version: .*$", "Version: 99", control.read_text(), flags=re.M))
    (module,) = (root / VENV / "lib").glob("python3*/site-packages/agent/__init__.py")
    module.write_text(re.sub(r'__version__ = ".*"', '__version__ = "99"', module.read_text()))
    tools.run(["dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", str(root), str(into)])


def configure(bed: Bed) -> None:
    """A config whose values lie on the machine itself, and what the service needs for it."""
    bed.do("install", "-d", "-o", "keyturn", "/srv/app")
    for name, value in {"app-id": "LTAI5tExampleExample", "app-secret": "s" * 30}.items():
        bed.write(f"/etc/keyturn/{name}", value, 0o640)
        bed.do("chown", "keyturn", f"/etc/keyturn/{name}")
        bed.do("chmod", "0600", f"/etc/keyturn/{name}")
    bed.write("/etc/keyturn/keyturn.toml", CONFIG, 0o640)
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


def test_a_fresh_installation_waits_for_its_config(machine):
    """No network, no compiler: user, directories and unit are there, nothing runs, nothing fails; with a config it runs."""
    assert set(re.findall(r"^ *(\w+):", machine.do("cat", "/proc/net/dev"), re.M)) == {"lo"}
    said = install(machine)
    assert "/usr/share/doc/keyturn/examples/keyturn.example.toml" in said
    assert machine.do(
        "stat", "-c", "%U %G %a", "/etc/keyturn", "/var/lib/keyturn", "/var/log/keyturn"
    ).splitlines() == [
        "root keyturn 750",
        "keyturn keyturn 700",
        "keyturn keyturn 750",
    ]
    assert machine.do("find", "/etc/keyturn", "-type", "f") == ""
    assert shown(machine, "UnitFileState") == "enabled"
    assert shown(machine, "UnitFileState", "keyturn-once.timer") == "disabled"
    machine.do("systemctl", "start", "keyturn")
    assert (shown(machine, "ActiveState"), shown(machine, "ConditionResult")) == ("inactive", "no")
    assert machine.do("systemctl", "--failed", "--plain", "--no-legend") == ""
    configure(machine)
    machine.do("systemctl", "start", "keyturn", timeout_s=120)
    assert shown(machine, "ActiveState") == "active"
    assert "LTAI5tExampleExample" in machine.read(SINK)
    machine.power_off()


def test_the_command_runs_from_its_own_libraries_and_writes_none(machine):
    """Everything imports, from the environment or the distribution's Python; afterwards every file is as it was packed."""
    install(machine)
    before = machine.do("find", "/usr/lib/keyturn", "-printf", "%p %s %T@\n")
    loaded = machine.do("/usr/lib/keyturn/venv/bin/python3", "-I", "-c", IMPORT_ALL, timeout_s=120).split()
    assert {path.split("/")[3] for path in loaded} <= {"keyturn", *re.findall(r"python3\.\d+", " ".join(loaded))}
    assert not any("dist-packages" in path for path in loaded)
    hostile = ["env", "PYTHONPATH=/nowhere", "PYTHONHOME=/nowhere", "keyturn", "--version"]
    assert machine.do(*hostile) == machine.do("keyturn", "--version")
    machine.do("keyturn", "check", "--help")
    assert machine.do("find", "/usr/lib/keyturn", "-printf", "%p %s %T@\n") == before
    assert machine.do("dpkg", "--verify", "keyturn") == ""
    assert "keyturn.toml" in machine.do("man", "-P", "cat", "5", "keyturn.toml") if shutil.which("man") else True


def test_a_third_party_s_provider_is_found_beside_the_package(machine):
    """A module in /usr/local/lib/keyturn/site-packages can be imported; the package's own cannot be replaced from there."""
    install(machine)
    machine.write("/usr/local/lib/keyturn/site-packages/thirdparty.py", "place = __file__\n")
    machine.write("/usr/local/lib/keyturn/site-packages/structlog.py", "raise SystemExit(3)\n")
    ask = ["/usr/lib/keyturn/venv/bin/python3", "-I", "-c", "import structlog, thirdparty; print(thirdparty.place)"]
    assert machine.do(*ask).strip() == "/usr/local/lib/keyturn/site-packages/thirdparty.py"


def test_an_upgrade_keeps_everything_and_restarts(machine):
    """Config, an edited snippet, state and files stay; the new version runs when dpkg returns; one that was stopped stays so."""
    install(machine)
    configure(machine)
    machine.do("systemctl", "start", "keyturn", timeout_s=120)
    machine.write("/etc/logrotate.d/keyturn", "# mine\n")
    kept = {path: machine.read(path) for path in (SINK, "/etc/keyturn/keyturn.toml", "/etc/logrotate.d/keyturn")}
    before, pid = status(machine), shown(machine, "MainPID")
    install(machine, "newer.deb")
    after = status(machine)
    assert shown(machine, "ActiveState") == "active" and shown(machine, "MainPID") != pid
    assert after["agent"]["version"] == "99" != before["agent"]["version"]
    assert after["credentials"]["app"]["generation"] == before["credentials"]["app"]["generation"] == 1
    assert {path: machine.read(path) for path in kept} == kept
    assert (
        "audit log is whole" in machine.do("keyturn", "audit", "verify")
        or machine.run("keyturn", "audit", "verify").returncode == 0
    )

    for done_by_hand, state in (("stop", "enabled"), ("disable", "disabled")):
        machine.do("systemctl", done_by_hand, "keyturn")
        install(machine, "newer.deb")
        assert (shown(machine, "ActiveState"), shown(machine, "UnitFileState")) == ("inactive", state)


def test_a_config_that_the_new_version_refuses_fails_no_upgrade(machine):
    """dpkg ends well, and says where to look."""
    install(machine)
    configure(machine)
    machine.do("systemctl", "start", "keyturn", timeout_s=120)
    machine.write("/etc/keyturn/keyturn.toml", "nonsense = 1\n", 0o640)
    done = machine.run("dpkg", "--install", "/packages/newer.deb", timeout_s=240)
    assert done.returncode == 0
    assert "keyturn.service is not ready after `try-restart`; see: systemctl status keyturn" in done.both
    assert machine.do("dpkg-query", "-W", "-f", "${Status}", "keyturn") == "install ok installed"


def test_removal_leaves_the_secrets_and_says_so_and_purge_its_own(machine):
    """Removed: stopped, sinks named and left, config and state kept for a return. Purged: those gone, the audit log told of."""
    install(machine)
    configure(machine)
    machine.do("systemctl", "start", "keyturn", timeout_s=120)
    machine.write("/etc/systemd/system/keyturn.service.d/60-mine.conf", "[Service]\nNice=1\n")
    secret = machine.read(SINK)
    said = machine.do("dpkg", "--remove", "keyturn")
    assert f"are left alone; nobody keeps them fresh from now on:\n  {SINK}\n" in said
    assert machine.read(SINK) == secret
    assert machine.run("pgrep", "-u", "keyturn").returncode == 1
    assert not (machine.root / "usr/lib/keyturn").exists()
    assert machine.read("/etc/keyturn/keyturn.toml") == CONFIG

    install(machine)
    assert shown(machine, "ActiveState") == "active"
    assert status(machine)["credentials"]["app"]["generation"] == 1

    said = machine.do("dpkg", "--purge", "keyturn")
    assert f"  {SINK}\n" in said and "the audit log is evidence and stays in /var/log/keyturn" in said
    assert machine.read(SINK) == secret
    left = machine.do("find", "/etc", "/run", "/usr", "/var", "-name", "*keyturn*")
    mine = {"/var/log/keyturn", "/etc/systemd/system/keyturn.service.d"}
    assert set(left.splitlines()) == mine
    assert machine.do("ls", "/etc/systemd/system/keyturn.service.d") == "60-mine.conf\n"
    assert (machine.root / "var/log/keyturn/audit.jsonl").exists()


@pytest.mark.parametrize("known_by", ["the list of prerm", "the config"])
def test_purge_never_removes_a_sink(machine, known_by):
    """Even one that lies among keyturn's own files, reached by a link; or whose list got lost, when the config names it."""
    install(machine)
    configure(machine)
    machine.do("install", "-d", "-o", "keyturn", "/var/lib/keyturn/app")
    machine.do("ln", "-s", "/var/lib/keyturn/app", "/srv/link")
    place = "/srv/link" if known_by == "the list of prerm" else "/var/lib/keyturn/app"
    machine.write("/etc/keyturn/keyturn.toml", CONFIG.replace("/srv/app", place), 0o640)
    machine.do("systemctl", "start", "keyturn", timeout_s=120)
    secret = machine.read("/var/lib/keyturn/app/credentials.json")
    machine.do("dpkg", "--remove", "keyturn")
    if known_by == "the config":
        machine.do("rm", "/var/lib/keyturn/left-behind")
    said = machine.do("dpkg", "--purge", "keyturn")
    assert "keyturn: left as it is, because a sink's file lies in it: /var/lib/keyturn" in said
    assert secret and machine.read("/var/lib/keyturn/app/credentials.json") == secret
    assert not (machine.root / "etc/keyturn").exists()


def test_without_a_running_systemd_it_installs_all_the_same(machine):
    """An image that is being built: nothing is started, user, directories and the enabled unit are there."""
    hidden = [
        "unshare",
        "--mount",
        "--",
        "sh",
        "-euc",
        "mount -t tmpfs none /run; dpkg --install /packages/keyturn.deb",
    ]
    machine.do(*hidden, timeout_s=240)
    assert machine.do("stat", "-c", "%U %G %a", "/etc/keyturn").strip() == "root keyturn 750"
    assert (
        machine.do("readlink", "-f", "/etc/systemd/system/multi-user.target.wants/keyturn.service")
        .strip()
        .endswith("/lib/systemd/system/keyturn.service")
    )
    machine.do("systemctl", "daemon-reload")
    assert shown(machine, "UnitFileState") == "enabled"
