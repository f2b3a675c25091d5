"""A release: its number, its notes, its files. The files themselves are built in test_dist.py."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from datetime import date
from pathlib import Path

import pytest
from keyturn_deb import history
from keyturn_deb.errors import BuildError
from keyturn_deb.source import Source
from keyturn_release import sbom, tree, version

ROOT = Path(__file__).parents[2]
NAMED = ("agent/__init__.py", "CHANGELOG.md", "SECURITY.md", "pyproject.toml", "README.md")
DAY = date(2199, 1, 2)


@pytest.fixture
def checkout(tmp_path):
    """A copy of the files that name the version."""
    for name in NAMED:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    for folder in ("docs", "packaging/container", "packaging/notes"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("_static", "pictures", "build"))
    changes = tmp_path / "CHANGELOG.md"
    if not re.search(r"## \[Unreleased\]\n\n###", changes.read_text()):  # right behind a release
        changes.write_text(
            changes.read_text().replace("## [Unreleased]\n", "## [Unreleased]\n\n### Added\n\n* News.\n", 1)
        )
    return tmp_path


def written(root, number):
    """Write a version, and return the first words of each line that is said."""
    return [line.split(":")[0] for line in version.write(root, number, DAY)]


def test_a_new_major_version_is_written_everywhere(checkout):
    """Code, change log, supported versions, names of files in the documents; as tests/test_documents.py compares them."""
    old = Source(checkout).version
    number = f"{int(old.split('.')[0]) + 1}.0.0"
    said = written(checkout, number)
    assert {"agent/__init__.py", "CHANGELOG.md", "SECURITY.md", "docs/install.md", "docs/container.md"} <= set(said)
    assert Source(checkout).version == number
    changes = (checkout / "CHANGELOG.md").read_text()
    assert f"## [Unreleased]\n\n## [{number}] - 2199-01-02\n\n" in changes
    assert f"| {number.rpartition('.')[0]}.x | yes |" in (checkout / "SECURITY.md").read_text()
    assert set(re.findall(r"keyturn_([\d.]+)_amd64", (checkout / "docs/install.md").read_text())) == {number}
    for name in (
        "docs/install.md",
        "docs/container.md",
        "packaging/container/compose.yaml",
        "packaging/container/Containerfile",
    ):
        assert old not in (checkout / name).read_text(), name
    assert "Production/Stable" in (checkout / "pyproject.toml").read_text()
    assert history.changelog(Source(checkout)).startswith(f"keyturn ({number}) stable")


def test_no_entry_is_lost_and_a_kind_stands_once(checkout):
    """What eight people added under headings of their own becomes one list for each kind, in the usual order, below the notes."""
    changes = checkout / "CHANGELOG.md"
    head, _, rest = changes.read_text().partition("## [Unreleased]\n")
    old = rest[rest.index("\n## [") :]
    mine = (
        "\n### Fixed\n\n* F one\n  goes on.\n\n### Added\n\n* A one.\n\n### Fixed\n\n* F two.\n\n### Added\n* A two.\n"
    )
    changes.write_text(f"{head}## [Unreleased]\n{mine}{old}")
    (checkout / "packaging/notes/98.0.0.md").write_text("Notes for people.\n")
    written(checkout, "98.0.0")
    expected = (
        "## [98.0.0] - 2199-01-02\n\nNotes for people.\n\n### Added\n\n* A one.\n* A two.\n\n"
        "### Fixed\n\n* F one\n  goes on.\n* F two.\n"
    )
    assert changes.read_text() == f"{head}## [Unreleased]\n\n{expected}{old}"


WRONG = {
    "an older number": ("0.1.9", None),
    "the same number": (None, None),
    "no number": ("1.0", None),
    "with a v": ("v98.0.0", None),
    "nothing to release": ("98.0.0", "\n"),
    "an unknown kind": ("98.0.0", "\n### Improved\n\n* A.\n"),
    "an entry below no kind": ("98.0.0", "\n* A.\n\n### Added\n\n* B.\n"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_told_and_nothing_is_written(checkout, name):
    """One sentence; every file is as it was."""
    number, body = WRONG[name]
    changes = checkout / "CHANGELOG.md"
    if body is not None:
        head, _, rest = changes.read_text().partition("## [Unreleased]\n")
        changes.write_text(f"{head}## [Unreleased]\n{body}{rest[rest.index(chr(10) + '## [') :]}")
    before = {path: path.read_bytes() for path in checkout.rglob("*") if path.is_file()}
    with pytest.raises(BuildError):
        list(version.write(checkout, number or Source(checkout).version, DAY))
    assert {path: path.read_bytes() for path in checkout.rglob("*") if path.is_file()} == before


# -- the files --------------------------------------------------------------------------------------------------------
def test_an_sdist_is_the_same_whatever_the_umask_and_the_hour(tmp_path):
    """Order, owners, modes, times: none of them is the machine's."""
    made = []
    for number, mode in enumerate((0o600, 0o664)):
        names = ["b", "a"] if number else ["a", "b"]
        place = tmp_path / f"{number}.tar.gz"
        with tarfile.open(place, "w:gz") as archive:
            for name in names:
                file = tmp_path / name
                file.write_text(name)
                file.chmod(mode)
                os.utime(file, (number, number))
                archive.add(file, name)
        made.append(tree.settled(place, 1_000_000_000))
    assert made[0] == made[1]


def test_the_bill_of_materials_has_every_library_of_the_lock(source):
    """Name, version and address of each; what only some platforms need is optional; the same twice."""
    text = sbom.document(source, {"keyturn.whl": "00" * 32})
    found = json.loads(text)
    lock = dict(re.findall(r"^([^\s=]+)==(\S+)", source.text("requirements/runtime.lock"), re.M))
    assert {one["name"]: one["version"] for one in found["components"]} == lock
    assert all(one["purl"] == f"pkg:pypi/{one['name']}@{one['version']}" for one in found["components"])
    assert {one["name"] for one in found["components"] if one["scope"] == "optional"} >= {"tzdata", "async-timeout"}
    assert found["metadata"]["component"]["version"] == source.version
    assert text == sbom.document(source, {"keyturn.whl": "00" * 32})


def test_what_the_wheel_carries_is_there():
    """setup.py names files of the checkout; the sdist has everything that git has but what is for one site alone."""
    program = "import setuptools, runpy; setuptools.setup = lambda **given: None; print(*runpy.run_path('setup.py')['CARRIED'])"
    carried = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert carried.stdout.split() and all((ROOT / name).exists() for name in carried.stdout.split())
    manifest = (ROOT / "MANIFEST.in").read_text()
    tops = {line.split("/")[0] for line in _tracked()}
    assert {name for name in tops if name not in manifest} <= {".github", ".gitignore", "MANIFEST.in", "pyproject.toml"}


def _tracked():
    done = subprocess.run(["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True, check=False)
    return done.stdout.split() or [str(path.relative_to(ROOT)) for path in ROOT.iterdir() if path.is_file()]


# -- the image --------------------------------------------------------------------------------------------------------
def test_the_image_s_build_gets_what_it_copies():
    """Every name in the ignore file is there; all that setup.py and pyproject.toml ask for is let through."""
    lines = (ROOT / "packaging/container/Containerfile.dockerignore").read_text().splitlines()
    let = {line[1:] for line in lines if line.startswith("!")}
    assert all((ROOT / name).exists() for name in let)
    assert {
        "agent",
        "providers",
        "requirements",
        "systemd",
        "keyturn.example.toml",
        "setup.py",
        "pyproject.toml",
        "README.md",
    } <= let


def test_the_image_s_setuptools_is_the_lock_s(tmp_path):
    """The Containerfile's sed finds one requirement of the lock, whole, with its hashes."""
    recipe = (ROOT / "packaging/container/Containerfile").read_text()
    command = re.search(r"(sed -n '[^']+' requirements/dev\.lock)", recipe)[1]
    found = subprocess.run(["sh", "-c", command], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert re.fullmatch(r"setuptools==\S+ \\\n(    --hash=sha256:[0-9a-f]{64}( \\)?\n)+", found)


def test_the_compose_example_and_its_config_fit():
    """The sink lies in the shared directory; user, volume and group are the image's; docker-compose reads it where it is."""
    place = ROOT / "packaging/container"
    composed = (place / "compose.yaml").read_text()
    user, group = re.search(r"^USER (\d+):(\d+)$", (place / "Containerfile").read_text(), re.M).groups()
    assert f'group_add: ["{group}"]' in composed and f"uid={user},gid={group},mode=0750" in composed
    assert f"image: keyturn:{Source(ROOT).version}\n" in composed
    file = re.search(r"ALIBABA_CLOUD_CREDENTIALS_FILE: (\S+)", composed)[1]
    assert f'path = "{file}"' in (place / "etc/keyturn.toml").read_text()
    assert composed.count(f"- credentials:{os.path.dirname(file)}") == 2
    if shutil.which("docker-compose"):
        command = ["docker-compose", "-f", str(place / "compose.yaml"), "config", "--quiet"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
