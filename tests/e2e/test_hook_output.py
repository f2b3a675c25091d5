"""A hook may print whatever it likes: nothing of it reaches the audit, the state or `status`."""

from __future__ import annotations

import json
import os

from tests.support.vm import Vm, eventually


def test_a_hook_that_prints_the_secret_leaks_it_nowhere(vm: Vm) -> None:
    """`cat credentials; exit 1`, and at last `exit 0`: the audit, the state, `status --json` and the log lack the secret."""
    good = vm.directory / "good"
    script = f"set -x; cat {vm.ini_path()}; cat {vm.env_path()} >&2; test -e {good}"
    vm.configure(vm.credential(notify=vm.hook(["/bin/sh", "-c", script])))
    daemon = vm.daemon().ready()
    eventually(lambda: vm.audit("notify_failed"))
    secret = vm.cloud.current_key("uploader-ak").access_key_secret
    assert secret in vm.ini_path().read_text()
    shown = json.dumps(vm.status())
    assert "ended with status 1" in shown
    good.touch()
    eventually(lambda: vm.audit("notified"))
    assert daemon.stop() == 0
    files = [path for place in (vm.log_directory, vm.state, vm.run_directory) for path in place.rglob("*")]
    written = [path.read_bytes() for path in files if path.is_file()]
    assert any(b"ended with status 1" in content for content in written)
    assert not any(os.fsencode(secret) in content for content in written)
    assert secret not in shown
    assert secret not in daemon.log
