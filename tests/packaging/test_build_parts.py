"""The parts of the build, each by itself; nothing is fetched and nothing installed."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import runpy
import subprocess
import sys
from email.parser import HeaderParser
from pathlib import Path, PurePosixPath

import pytest
from keyturn_deb import control, environment, files, history, legal, tools, wheels
from keyturn_deb.errors import BuildError
from keyturn_deb.source import Source

ROOT = Path(__file__).parents[2]

PATHS = {
    "aiohttp/client.py": True,
    "aiohttp/_http_parser.cpython-311-x86_64-linux-gnu.so": True,
    "aiohttp/_http_parser.pyx": False,
    "certifi/cacert.pem": True,
    "jinja2/tests.py": True,
    "websocket/tests": False,
    "test": False,
    "bin": False,
    "aliyunsdkcore/bin": True,
    "multidict/_testcapi.cpython-311-x86_64-linux-gnu.so": False,
    "msgspec/_core.pyi": False,
    "cryptography-50.0.2.dist-info/RECORD": False,
    "cryptography-50.0.2.dist-info/METADATA": True,
    "cryptography-50.0.2.dist-info/licenses/LICENSE": True,
    "cryptography-50.0.2.dist-info/sboms/x.cyclonedx.json": True,
    "keyturn-0.2.0.dist-info/entry_points.txt": True,
}


@pytest.mark.parametrize("path", PATHS)
def test_what_runs_is_kept_and_what_does_not_is_left_out(path):
    """Tests, sources of extensions and pip's notes stay out; code, licences and metadata stay in."""
    assert environment.unneeded(PurePosixPath(path)) is not PATHS[path]


def test_pruning_leaves_no_empty_directory(tmp_path):
    """What held only stubs is gone with them."""
    for name in ("a/tests/test_x.py", "a/stubs/x.pyi", "a/code.py", "test/y.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    environment.prune(tmp_path)
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == ["a", "a/code.py"]


# -- the lock ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["runtime", "dev"])
def test_no_requirement_and_no_hash_of_a_lock_is_lost(source, name):
    """What pip's processes are given is the whole lock, each requirement with its hashes."""
    lock = source.text(f"requirements/{name}.lock")
    blocks = wheels.requirements(lock)
    assert "".join(blocks) == lock
    assert [block for block in blocks if "--hash=sha256:" not in block or "==" not in block.splitlines()[0]] == []


def test_the_tool_that_builds_is_pinned_too(source):
    """setuptools comes from the lock of the tests, with its hashes; a lock without it is told."""
    assert wheels.one_of(source.text("requirements/dev.lock"), "setuptools").count("--hash=sha256:") >= 1
    with pytest.raises(BuildError, match="pins no setuptools"):
        wheels.one_of("requests==1 \\\n    --hash=sha256:00\n", "setuptools")


def test_kept_wheels_are_used_as_long_as_nobody_changed_them(source, tmp_path):
    """A second build asks nobody; a wheel that differs from what pip checked stops it."""
    python = tools.Python("/usr/bin/python3.11", 11)
    pip = ["/bin/sh", "-c", 'while [ "$1" != -w ]; do shift; done; echo x > "$2/lib$$-1-py3-none-any.whl"', "pip"]
    kept = wheels.libraries(source, python, pip, tmp_path)
    assert len(list(kept.glob("*.whl"))) == wheels.AT_ONCE
    assert wheels.libraries(source, python, ["/bin/false"], tmp_path) == kept
    next(kept.glob("*.whl")).write_text("y")
    with pytest.raises(BuildError, match="changed since pip checked its hashes; remove it"):
        wheels.libraries(source, python, ["/bin/false"], tmp_path)


def test_what_pip_refuses_stops_the_build(source, tmp_path):
    """A hash that is wrong: pip says so, the build ends, and nothing is kept."""
    pip = ["/bin/sh", "-c", "echo THESE PACKAGES DO NOT MATCH THE HASHES >&2; exit 1", "pip"]
    for _once_more in range(2):
        with pytest.raises(BuildError, match="DO NOT MATCH THE HASHES"):
            wheels.libraries(source, tools.Python("/usr/bin/python3.11", 11), pip, tmp_path)


# -- what the machine has ---------------------------------------------------------------------------------------------
def program(directory: Path, name: str, text: str) -> str:
    """Write a program."""
    path = directory / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


MACHINES = {
    "no python": (None, "apt-get install python3"),
    "an old python": ("echo 3 9 1", "is Python 3.9, keyturn needs 3.11 or newer"),
    "no ensurepip": ("echo 3 11 0", "apt-get install python3-venv python3.11-venv"),
    "a python of somebody's": ("echo 3 11 1", "is not the distribution's /usr/bin/python3.11"),
}


@pytest.mark.parametrize("name", MACHINES)
def test_what_a_machine_lacks_is_named(name, tmp_path, monkeypatch):
    """One sentence, with the packages to install."""
    text, expected = MACHINES[name]
    for each in tools.NEEDED:
        program(tmp_path, each, "")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    path = program(tmp_path, "python3", text) if text else str(tmp_path / "none")
    with pytest.raises(BuildError) as caught:
        tools.find_python(path)
    assert expected in str(caught.value)


def test_missing_programs_are_named_with_their_packages(tmp_path, monkeypatch):
    """All at once."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BuildError, match=r"apt-get install binutils dpkg$"):
        tools.find_python(program(tmp_path, "python3", ""))


def test_the_command_says_what_is_missing_and_fails(tmp_path):
    """`make deb` on a bare machine: no traceback."""
    command = [
        sys.executable,
        "-m",
        "keyturn_deb",
        "build",
        "--python",
        str(tmp_path / "none"),
        "--work",
        str(tmp_path / "w"),
    ]
    environ = {**os.environ, "PYTHONPATH": str(ROOT / "packaging"), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [*command, "--output", str(tmp_path)], env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("keyturn_deb: ") and "apt-get install" in done.stderr and done.stderr.count("\n") == 1


# -- dates, modes, sizes ----------------------------------------------------------------------------------------------
def test_the_date_is_the_one_that_is_given(source, monkeypatch):
    """SOURCE_DATE_EPOCH; without it the last commit's or the change log's; nonsense is refused."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    assert source.epoch == 1_700_000_000
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(BuildError, match="SOURCE_DATE_EPOCH is 'yesterday'"):
        _ = source.epoch
    monkeypatch.delenv("SOURCE_DATE_EPOCH")
    assert source.epoch > 1_700_000_000


def test_modes_and_times_do_not_depend_on_who_builds(tmp_path):
    """Whatever the umask: directories and programs 0755, the rest 0644, one time for all; links are left alone."""
    for name, mode in {
        "usr/lib/x.py": 0o600,
        "usr/lib/keyturn/venv/bin/keyturn": 0o700,
        "DEBIAN/postinst": 0o600,
    }.items():
        (tmp_path / name).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        (tmp_path / name).touch()
        (tmp_path / name).chmod(mode)
    (tmp_path / "usr/lib/x.py").chmod(0o777)
    (tmp_path / "usr/link").symlink_to("nowhere")
    files.settle(tmp_path, 1000)
    found = {str(path.relative_to(tmp_path)): path.lstat() for path in [tmp_path, *tmp_path.rglob("*")]}
    assert {each.st_mtime for each in found.values()} == {1000}
    assert {name for name, each in found.items() if each.st_mode & 0o777 == 0o644} == {"usr/lib/x.py"}
    assert {each.st_mode & 0o777 for name, each in found.items() if name not in ("usr/lib/x.py", "usr/link")} == {0o755}


def test_the_size_is_counted_as_debian_does(tmp_path):
    """KiB, rounded up for each file; one for a directory and for a link."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_bytes(b"1" * 1025)
    (tmp_path / "a" / "empty").touch()
    (tmp_path / "l").symlink_to("a")
    assert control.installed_size(tmp_path) == 1 + 2 + 0 + 1


def test_the_c_library_that_the_modules_ask_for_is_named():
    """By number, not by letter: 2.34 is newer than 2.4."""
    assert control.libc_version([b"..GLIBC_2.4\0GLIBC_2.17..", b"GLIBC_2.34\0GLIBC_2.2.5"]) == "2.34"
    assert control.libc_version([]) == "2.17"


# -- texts ------------------------------------------------------------------------------------------------------------
def checkout(directory: Path, changes: str) -> Source:
    """As much of one as the history needs."""
    (directory / "agent").mkdir()
    (directory / "agent/__init__.py").write_text('__version__ = "0.2.0"\n')
    (directory / "CHANGELOG.md").write_text(changes)
    return Source(directory)


def test_the_history_is_the_change_log_s(tmp_path, monkeypatch):
    """Every release with its date, its points wrapped; what is unreleased is in no package."""
    monkeypatch.setenv("DEBFULLNAME", "Ann")
    monkeypatch.setenv("DEBEMAIL", "ann@example.org")
    long = "word " * 30
    unreleased = "## [Unreleased]\n\n* Later\n\n"
    newest = f"## [0.2.0] - 2023-11-14\n\nText:\n\n### Added\n\n* A\n  goes on.\n* {long}\n\n"
    made = checkout(tmp_path, f"# Changelog\n\n{unreleased}{newest}## [0.1.0] - 2023-01-31\n\nNone.\n")
    text = history.changelog(made)
    assert text.startswith("keyturn (0.2.0) stable; urgency=medium\n\n  * A goes on.\n  * word")
    assert " -- Ann <ann@example.org>  Tue, 14 Nov 2023 00:00:00 +0000\n\nkeyturn (0.1.0)" in text
    assert text.endswith("\n  * No notes.\n\n -- Ann <ann@example.org>  Tue, 31 Jan 2023 00:00:00 +0000\n")
    assert "Later" not in text
    assert max(map(len, text.splitlines())) <= 80


def test_two_releases_of_one_day_stand_in_their_order(tmp_path, monkeypatch):
    """lintian wants each later than the one before."""
    monkeypatch.setenv("DEBEMAIL", "ann@example.org")
    days = "".join(f"## [{number}] - 2023-01-31\n\n* A\n\n" for number in ("0.2.0", "0.1.1", "0.1.0"))
    text = history.changelog(checkout(tmp_path, f"# Changelog\n\n{days}"))
    assert re.findall(r"00:0\d:00", text) == ["00:02:00", "00:01:00", "00:00:00"]


@pytest.mark.parametrize(
    "newest", ["## [0.1.0] - 2023-01-31", "## [Unreleased]", "## [0.2.0]", "## 0.2.0 (unreleased)"]
)
def test_a_version_without_a_dated_release_is_not_built(tmp_path, newest):
    """The newest release of the change log is the version that is built, and has its date."""
    with pytest.raises(BuildError, match=r"no release 0\.2\.0 on top; give .* `## \[0\.2\.0\] - YYYY-MM-DD`"):
        history.changelog(checkout(tmp_path, f"# Changelog\n\n{newest}\n\n* A\n"))


def test_this_checkout_s_history_can_be_told(source):
    """The real change log is one that the package can carry."""
    assert history.changelog(source).startswith(f"keyturn ({source.version}) ")


LICENCES = {
    "License-Expression: MIT\nLicense: other": "MIT",
    "License: Apache License 2.0": "Apache License 2.0",
    "License: \nClassifier: License :: OSI Approved :: BSD License": "BSD License",
    "Classifier: Programming Language :: Python": "not named",
}


@pytest.mark.parametrize("headers", LICENCES)
def test_a_library_s_licence_is_found(headers):
    """Wherever its metadata say it."""
    assert legal.licence(HeaderParser().parsestr(headers)) == LICENCES[headers]


# -- what is packed ---------------------------------------------------------------------------------------------------
def test_every_file_that_the_package_copies_is_there(source):
    """None has been renamed in the checkout."""
    assert [name for name in files._COPIES if not (source.root / name).is_file()] == []


def test_every_unit_of_the_checkout_is_packed(source):
    """A new unit, rule or snippet in systemd/ is not forgotten."""
    assert {f"systemd/{path.name}" for path in (source.root / "systemd").iterdir()} <= set(files._COPIES)


def test_the_directory_does_not_hide_the_library_of_its_name():
    """`packaging` is a library that pip and pytest use: the folder has no __init__.py."""
    assert not (ROOT / "packaging" / "__init__.py").exists()
    found = importlib.util.find_spec("packaging")
    assert found is None or found.origin is None or str(ROOT) not in found.origin or ".venv" in found.origin


@pytest.mark.parametrize("name", control.SCRIPTS)
def test_dpkg_s_scripts_are_sh(source, name):
    """They stop at the first error, and end well when they are asked what they do not know."""
    path = source.root / "packaging/debian" / name
    assert path.read_text().startswith("#!/bin/sh\n") and "\nset -e\n" in path.read_text()
    assert subprocess.run(["sh", "-n", str(path)], check=False).returncode == 0
    done = subprocess.run(["sh", str(path), "unheard-of"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_dpkg_s_scripts_remove_setups_by_the_mark_that_setup_writes(source):
    """postrm knows the files of `keyturn systemd-setup --install` by name and by their first line."""
    from agent.systemd_setup import install, render

    text = source.text("packaging/debian/postrm")
    assert "keyturn systemd-setup" in render.MARK
    assert f"/{install.RULE}" in text and install.DROP_IN in text
    assert [unit for unit in install.UNITS if unit not in text] == []


def test_dpkg_s_scripts_know_the_variables_that_the_unit_sets(source):
    """named_files.py, which stands alone, puts in what keyturn itself does."""
    from agent.systemd_setup.needs import environment

    assert runpy.run_path(str(source.root / "packaging/debian/named_files.py"))["GIVEN"] == environment({})


def test_the_sums_are_those_of_md5(tmp_path):
    """What `dpkg --verify` compares; conffiles are an administrator's to change."""
    for name in ("usr/x", "etc/logrotate.d/keyturn"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(name)
    assert control._sums(tmp_path) == f"{hashlib.md5(b'usr/x').hexdigest()}  usr/x\n"
