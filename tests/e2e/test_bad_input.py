"""What the world may hand to keyturn: each defect is one sentence with a remedy, and no file is touched."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.broken_hosts import CASES, PUBLISHED, QUICK
from tests.support.vm import Vm

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="plays another user, which needs root")

STRANGER = 64321


def test_each_defect_is_one_sentence_and_touches_no_file(make_vm: Callable[..., Vm]) -> None:
    """One line naming the place, a remedy, the right status, no traceback, nothing of the value, files as they were."""

    def play(number: int, name: str) -> str:
        vm, case = make_vm(f"vm{number}"), CASES[name]
        vm.configure(vm.credential(settings=QUICK + '\nverify = "off"'))
        vm.ini_path().write_text(PUBLISHED)
        vm.ini_path().chmod(0o600)
        case.plant(vm)
        before = sorted((str(path), path.lstat().st_mtime_ns) for path in vm.app.rglob("*"))
        done = vm.keyturn("once", "--retry-for", "0s")
        said = done.stderr.strip()
        assert done.returncode == case.code, (name, done)
        assert len(said.splitlines()) == 1, (name, said)
        assert said.startswith("keyturn: "), (name, said)
        assert "; " in said, f"{name}: no remedy: {said}"
        assert len(said) < 1000, (name, said)
        for word in case.words:
            assert word in said, (name, said)
        whole = done.stdout + done.stderr + (vm.log_directory / "audit.jsonl").read_text()
        assert "canary-not-json" not in whole, name
        assert sorted((str(path), path.lstat().st_mtime_ns) for path in vm.app.rglob("*")) == before, name
        assert json.dumps([json.loads(line)["event"] for line in whole.splitlines() if line.startswith("{")]), name
        return f"{name}: {said}"

    with ThreadPoolExecutor(4) as pool:
        print("\n".join(pool.map(play, range(len(CASES)), CASES)))


@as_root
def test_what_an_ordinary_user_may_not_write_is_said(public_vm: Vm) -> None:
    """As a user who may not write state or sink: 77 or 1, one sentence that names the directory, files untouched."""
    vm = public_vm
    vm.configure(vm.credential(settings=QUICK))
    no_state = vm.keyturn_as(STRANGER, "once", "--retry-for", "0s")
    assert no_state.returncode == 77, no_state
    assert str(vm.state) in no_state.stderr
    assert len(no_state.stderr.splitlines()) == 1
    for path in (vm.state, vm.log_directory):
        path.mkdir(exist_ok=True)
        os.chown(path, STRANGER, STRANGER)
    no_key = vm.keyturn_as(STRANGER, "once", "--retry-for", "0s")
    assert no_key.returncode == 77, no_key
    assert "clientKey.json" in no_key.stderr
    for path in (vm.directory / "clientKey.json", vm.directory / "password"):
        os.chown(path, STRANGER, STRANGER)
    no_sink = vm.keyturn_as(STRANGER, "once", "--retry-for", "0s")
    assert no_sink.returncode in (1, 77), no_sink
    assert str(vm.app) in no_sink.stderr
    assert len(no_sink.stderr.splitlines()) == 1
    assert list(vm.app.iterdir()) == []
    os.chown(vm.app, STRANGER, STRANGER)
    assert vm.keyturn_as(STRANGER, "once").returncode == 0, "as an ordinary user with rights it works"
    assert vm.ini_path().stat().st_uid == STRANGER
