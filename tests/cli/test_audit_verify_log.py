"""`keyturn audit verify --log PATH`: a copy is proved on a machine that has neither config nor state."""

from __future__ import annotations

import json

import pytest

from tests.support.vm import Vm


@pytest.fixture
def copied(vm: Vm) -> Vm:
    """A host whose log was copied, and whose config is not there."""
    vm.configure(vm.credential())
    assert vm.keyturn("once").returncode == 0
    (vm.directory / "copy.jsonl").write_bytes((vm.log_directory / "audit.jsonl").read_bytes())
    vm.config.unlink()
    return vm


def test_a_whole_copy_is_whole_and_says_what_it_cannot_prove(copied: Vm) -> None:
    """Exit 0, and a note that the log may have gone on; the end that a host's state proves is no fault of a copy."""
    done = copied.keyturn("audit", "verify", "--json", "--log", str(copied.directory / "copy.jsonl"))
    found = json.loads(done.stdout)
    assert (done.returncode, found["whole"], found["problems"]) == (0, True, [])
    assert len(found["notes"]) == 1
    assert found["records"] == len(copied.audit())


@pytest.mark.parametrize(
    ("what", "seq"), [("removed", 2), ("edited", 2), ("put in twice", 2), ("out of order", 2), ("cut at the front", 1)]
)
def test_what_was_done_to_a_copy_is_named(copied: Vm, what: str, seq: int) -> None:
    """Removed, edited, repeated, reordered: exit 1, with the seq."""
    copy = copied.directory / "copy.jsonl"
    lines = copy.read_text().splitlines(keepends=True)
    changed = {
        "removed": [lines[0], *lines[2:]],
        "edited": [lines[0], lines[1].replace('"seq"', ' "seq"'), *lines[2:]],
        "put in twice": [*lines[:2], *lines[1:]],
        "out of order": [lines[0], lines[2], lines[1], *lines[3:]],
        "cut at the front": lines[1:],
    }[what]
    copy.write_text("".join(changed))
    done = copied.keyturn("audit", "verify", "--log", str(copy))
    assert done.returncode == 1
    assert f"seq {seq}" in done.stderr


def test_the_front_of_a_copy_may_be_elsewhere(copied: Vm) -> None:
    """As with a log whose older files were archived."""
    copy = copied.directory / "copy.jsonl"
    copy.write_text("".join(copy.read_text().splitlines(keepends=True)[1:]))
    assert copied.keyturn("audit", "verify", "--from-seq", "2", "--log", str(copy)).returncode == 0


@pytest.mark.parametrize("name", ["nowhere.jsonl", "empty.jsonl"])
def test_a_copy_that_is_none_is_not_whole(copied: Vm, name: str) -> None:
    """A wrong name, or an export that is empty, proves nothing."""
    (copied.directory / "empty.jsonl").touch()
    done = copied.keyturn("audit", "verify", "--log", str(copied.directory / name))
    assert done.returncode == 1
    assert name in done.stderr
