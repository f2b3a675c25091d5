"""One sink that cannot be read hides nothing else."""

from __future__ import annotations

from tests.support.vm import Vm


def test_status_survives_a_symlink_at_a_target(vm: Vm) -> None:
    """Its credential's sinks are not known to be in sync; every other credential is shown as usual."""
    vm.cloud.add_ram_secret("other-ak", user="other")
    vm.configure(vm.credential() + vm.credential("other", secret="other-ak"))
    vm.daemon().ready()
    vm.ini_path().rename(vm.app / "elsewhere.ini")
    vm.ini_path().symlink_to(vm.app / "elsewhere.ini")
    done = vm.keyturn("status", "--json")
    assert done.returncode == 0, done
    shown = vm.status()["credentials"]
    assert {sink["in_sync"] for sink in shown["uploader"]["sinks"]} == {None}
    assert {sink["in_sync"] for sink in shown["other"]["sinks"]} == {True}
    assert vm.keyturn("status").returncode == 0
