"""Whether what is installed is as new as what a release was tested with."""

import os
import subprocess
import sys
from importlib import metadata

import pytest

from agent import __version__
from agent.app import lock as module
from agent.app.lock import below, commit, lock_file, locked
from agent.app.versions import versions
from tests.support.processes import ROOT


def test_a_checkout_has_its_lock():
    """Each library of requirements/runtime.lock, by its normal name, with its version."""
    assert lock_file() == ROOT / "requirements/runtime.lock"
    known = locked()
    assert known["cryptography"].split(".")[0] >= "44"
    assert "aliyun-secret-manager-client" in known and "async-timeout" in known
    assert (ROOT / "requirements/runtime.lock").read_text().count("==") >= len(known) > 40


PAIRS = {
    ("38.0.3", "50.0.2"): True,
    ("50.0.2", "50.0.2"): False,
    ("50.0.10", "50.0.2"): False,
    ("9.0", "10.0"): True,
    ("51.0.0rc1", "50.0.2"): False,
    ("1.2", "1.2.2"): True,
    ("", "1"): True,
    ("4.16.0+local", "4.16.0"): False,
}


@pytest.mark.parametrize("pair", PAIRS)
def test_older_and_missing_ones_are_below_the_lock(pair):
    """By numbers, not by letters; a newer one is as good."""
    installed, pinned = pair
    assert below({"lib": installed, "unknown": "1"}, {"lib": pinned}) == ({"lib": pinned} if PAIRS[pair] else {})


def test_a_report_says_that_a_library_is_below_the_lock(monkeypatch):
    """The verdict, the page that helps, and the library with both versions."""
    real = metadata.distribution

    def distribution(name):
        found = real(name)
        if name != "cryptography":
            return found

        class Old:
            version, requires = "38.0.3", found.requires

        return Old

    assert versions().patched == "yes"
    monkeypatch.setattr("agent.app.versions.metadata.distribution", distribution)
    found = versions()
    assert found.below_lock == {"cryptography": locked()["cryptography"]}
    assert found.patched.startswith("no, see docs/install.md")
    (line,) = (line for line in found.lines() if line.split()[0] == "cryptography")
    assert line.split()[1] == "38.0.3" and line.endswith(locked()["cryptography"])


@pytest.mark.parametrize(("noted", "known"), [("a1" * 20, True), ("$Format:%H$", False), ("a1", False)])
def test_the_commit_is_what_git_archive_noted(tmp_path, monkeypatch, noted, known):
    """In a checkout nobody has: nothing is guessed."""
    (tmp_path / "data").mkdir()
    monkeypatch.setattr(module, "_HERE", tmp_path)
    assert commit() == ""
    (tmp_path / "data/commit.txt").write_text(f"{noted}\n")
    assert commit() == (noted if known else "")


def test_the_command_needs_no_library(tmp_path):
    """Where pip brought nothing, the report is what says so: with the standard library alone."""
    program = "import sys; sys.path[:0] = [sys.argv.pop()]; from agent.cli.entry import entry; entry()"

    def said(*words):
        command = [sys.executable, "-S", "-I", "-c", program, *words, str(ROOT)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    report = said("--config", str(tmp_path / "k.toml"), "--version", "--verbose")
    assert str(tmp_path / "k.toml") in report and str(ROOT / "requirements/runtime.lock") in report
    assert said("--version") == f"keyturn {__version__}\n"


def test_a_reader_that_leaves_early_ends_it_quietly():
    """`keyturn --version --verbose | head -n 1`."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "agent", "--version", "--verbose"]
    done = subprocess.run(command, cwd=ROOT, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, "")
