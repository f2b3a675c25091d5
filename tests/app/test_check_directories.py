"""`check` says of keyturn's own directories what a start would say."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.support.vm import Vm

NOBODY = 65534


def findings(vm: Vm) -> dict[str, list[dict[str, str]]]:
    """The findings of `check --offline` by their place."""
    done = vm.keyturn("check", "--offline", "--json")
    found: dict[str, list[dict[str, str]]] = {}
    for row in json.loads(done.stdout)["findings"]:
        found.setdefault(row["place"], []).append(row)
    return found


def levels(found: dict[str, list[dict[str, str]]], place: str) -> list[str]:
    return [row["level"] for row in found.get(place, [])]


@pytest.mark.parametrize("which", ["state", "state/credentials"])
def test_a_state_directory_that_a_start_refuses_is_an_error(vm: Vm, which: str) -> None:
    """Others can write it, or it is somebody else's: the store's own words."""
    vm.configure(vm.credential())
    assert vm.keyturn("once").returncode == 0
    assert levels(findings(vm), "agent.state_directory") == ["ok"]
    directory = state_of(vm) / which.removeprefix("state").lstrip("/")
    directory.chmod(0o777)
    assert levels(findings(vm), "agent.state_directory") == ["error"]
    assert vm.keyturn("once").returncode != 0
    directory.chmod(0o700)
    if os.geteuid() == 0:
        os.chown(directory, NOBODY, -1)
        assert levels(findings(vm), "agent.state_directory") == ["error"]
        assert vm.keyturn("once").returncode != 0


def test_a_directory_that_nothing_makes_is_an_error(vm: Vm) -> None:
    """The audit log's: `once` would fail, and the remedy makes it."""
    vm.configure(vm.credential())
    log = log_of(vm)
    if log.parent.exists():
        for each in log.parent.iterdir():
            each.unlink()
        log.parent.rmdir()
    found = findings(vm)
    assert "error" in levels(found, "agent.audit.path")
    assert vm.keyturn("once").returncode != 0
    (remedy,) = [row["remedy"] for row in found["agent.audit.path"] if row["level"] == "error"]
    assert remedy.startswith("install -d ")
    subprocess.run(remedy, shell=True, check=True)
    assert vm.keyturn("once").returncode == 0


def test_an_audit_directory_that_others_can_write_is_a_warning(vm: Vm) -> None:
    """They could put another log there, or none."""
    vm.configure(vm.credential())
    assert vm.keyturn("once").returncode == 0
    log_of(vm).parent.chmod(0o777)
    assert "warning" in levels(findings(vm), "agent.audit.path")


def state_of(vm: Vm) -> Path:
    return vm.state


def log_of(vm: Vm) -> Path:
    return vm.log_directory / "audit.jsonl"


def test_a_file_in_the_place_of_a_directory_is_an_error(vm: Vm) -> None:
    """No start can make a directory there; the remedy, as it stands, moves the file away."""
    vm.configure(vm.credential())
    state_of(vm).parent.mkdir(parents=True, exist_ok=True)
    state_of(vm).touch()
    (finding,) = findings(vm)["agent.state_directory"]
    assert finding["level"] == "error" and vm.keyturn("once").returncode != 0
    subprocess.run(finding["remedy"], shell=True, check=True)
    assert vm.keyturn("once").returncode == 0
