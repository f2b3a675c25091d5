"""`keyturn audit verify --log PATH`: a copy is proved on a machine that has neither config nor state."""

from __future__ import annotations

import json

import pytest

from agent.core.errors import EXIT_CONFIG
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


def test_without_a_config_the_copy_can_be_named(copied: Vm) -> None:
    """An auditor has no config: the option for a copy is named, by the report as by the proof."""
    for action in ("verify", "report"):
        done = copied.keyturn("audit", action)
        assert done.returncode == EXIT_CONFIG
        assert str(copied.config) in done.stderr and "--log" in done.stderr


def test_what_was_done_to_a_copy_is_named(copied: Vm) -> None:
    """Removed, edited, repeated, reordered: exit 1, with the seq."""
    copy = copied.directory / "copy.jsonl"
    lines = copy.read_text().splitlines(keepends=True)
    changed = {
        "seq 1": lines[1:],
        "seq 2": [lines[0], *lines[2:]],
        "seq 2: the line was edited": [lines[0], lines[1].replace('"seq"', ' "seq"'), *lines[2:]],
        "copy.jsonl:3: seq 2": [*lines[:2], *lines[1:]],
        "copy.jsonl:2: seq": [lines[0], lines[2], lines[1], *lines[3:]],
    }
    for said, left in changed.items():
        copy.write_text("".join(left))
        done = copied.keyturn("audit", "verify", "--log", str(copy))
        assert done.returncode == 1
        assert said in done.stderr, done.stderr


def test_the_front_of_a_copy_may_be_elsewhere(copied: Vm) -> None:
    """As with a log whose older files were archived."""
    copy = copied.directory / "copy.jsonl"
    copy.write_text("".join(copy.read_text().splitlines(keepends=True)[1:]))
    assert copied.keyturn("audit", "verify", "--from-seq", "2", "--log", str(copy)).returncode == 0


def test_a_copy_that_is_none_is_not_whole(copied: Vm) -> None:
    """A wrong name, or an export that is empty, proves nothing."""
    (copied.directory / "empty.jsonl").touch()
    for name in ("nowhere.jsonl", "empty.jsonl"):
        done = copied.keyturn("audit", "verify", "--log", str(copied.directory / name))
        assert done.returncode == 1
        assert name in done.stderr
