"""`type = "ram_user"` as a real daemon runs it, against an emulated RAM behind HTTPS."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest

from tests.support.consumers import Busy
from tests.support.ram_station import prepare, provider
from tests.support.vm import Vm, eventually

QUICK = 'owner = true\nevery = "2s"\ndisable_after = "1s"\ndelete_after = "0s"\npoll_interval = "1s"'

ROTATIONS, PATIENT_S = 50, 285


def _rotation(vm: Vm) -> dict[str, Any]:
    found: dict[str, Any] = vm.status()["credentials"]["uploader"]["rotation"]
    return found


@pytest.mark.crash
def test_a_daemon_rotates_by_the_calendar_and_ends_what_it_replaced(vm: Vm) -> None:
    """Made, published, replaced, disabled once it rests, deleted; `status` says what the rotation waits for."""
    prepare(vm, QUICK)
    vm.daemon().ready()
    eventually(lambda: len(vm.cloud.calls_of("DeleteAccessKey")) >= 2)
    shown = _rotation(vm)
    assert shown["owner"] and not shown["stopped"] and shown["keys"]
    made = {record["access_key_id"] for record in vm.audit("published")}
    assert len(made) >= 3
    assert {record["access_key_id"] for record in vm.audit("old_key_deleted")} < made


def test_without_owner_nothing_is_changed_and_that_is_said(vm: Vm) -> None:
    """A host that does not say `owner = true` makes no call to RAM, and `status` and `check` say why there is no key."""
    prepare(vm, "")
    vm.daemon().ready()
    shown = vm.status()["credentials"]["uploader"]
    assert shown["rotation"]["owner"] is False
    assert "owner" in shown["last_error"]
    assert not [call for call in vm.cloud.calls if call.action.endswith(("AccessKey", "AccessKeys"))]


@pytest.mark.crash
def test_a_busy_application_sees_no_refusal_over_fifty_rotations(vm: Vm) -> None:
    """New keys work a while after they are made, and lists lag behind; who reads its file when it is told is never refused."""
    vm.cloud.propagation_delay_s, vm.cloud.list_delay_s = 0.5, 0.4
    prepare(vm, QUICK.replace('"2s"', '"1s"').replace('"1s"\ndelete', '"500ms"\ndelete'))
    pid_file = vm.directory / "app.pid"
    told = f'''\
[[credentials.uploader.notify]]
type = "signal"
pid_file = "{pid_file}"
user = "root"
signal = "SIGHUP"
'''
    vm.config.write_text(vm.config.read_text() + told)
    application = Busy(vm.env_path(), pid_file, vm.server.endpoint_of("sts"), vm.directory / "ca.pem")
    try:
        vm.daemon().ready()
        began = time.monotonic()
        while len(vm.audit("published")) < ROTATIONS + 1 and time.monotonic() - began < PATIENT_S:
            time.sleep(0.5)
        said = application.stop()
    finally:
        application.kill()
    print(said["sent"], "calls,", len(said["keys"]), "keys")
    assert len(said["keys"]) >= ROTATIONS
    assert said["errors"] == {}


@pytest.mark.crash
def test_killed_again_and_again_it_leaves_one_unusable_key_at_most_and_removes_it(vm: Vm) -> None:
    """kill -9 at any moment of a rotation: the key in the files works at each, and at the end nothing is left over."""
    vm.cloud.propagation_delay_s = 0.3
    prepare(vm, QUICK)
    chance = random.Random(16)
    for _ in range(12):
        daemon = vm.daemon().ready()
        time.sleep(chance.uniform(0.0, 3.0))
        daemon.process.kill()
        daemon.process.wait()
        published = vm.audit("published")
        if published:
            in_use = published[-1]["access_key_id"]
            assert vm.cloud.access_key(in_use).status == "Active"
        assert len(vm.cloud.keys_of("batch")) <= 2
    vm.configure(vm.credential(provider=provider(vm.directory, QUICK.replace('every = "2s"', 'every = "1h"'))))
    vm.daemon().ready()
    eventually(lambda: len(vm.cloud.keys_of("batch")) == 1)
    (left,) = vm.cloud.keys_of("batch")
    assert vm.holds(left.access_key_id) and left.status == "Active"
