"""`type = "ram_user"` as a real daemon runs it, against an emulated RAM behind HTTPS."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from tests.support.ram_station import ROTATES, provider
from tests.support.vm import Vm, eventually

QUICK = 'owner = true\nevery = "2s"\ndisable_after = "1s"\ndelete_after = "0s"\npoll_interval = "1s"'


def _prepare(vm: Vm, extra: str) -> None:
    vm.cloud.add_user("batch")
    vm.cloud.add_user("ops", *ROTATES)
    key = vm.cloud.add_access_key("ops")
    for part, text in (("id", key.access_key_id), ("secret", key.access_key_secret)):
        path = vm.directory / f"authority_{part}"
        path.touch(mode=0o600)
        path.write_text(text)
    vm.configure(vm.credential(provider=provider(vm.directory, extra)))


def _rotation(vm: Vm) -> dict[str, Any]:
    found: dict[str, Any] = vm.status()["credentials"]["uploader"]["rotation"]
    return found


@pytest.mark.crash
def test_a_daemon_rotates_by_the_calendar_and_ends_what_it_replaced(vm: Vm) -> None:
    """Made, published, replaced, disabled once it rests, deleted; `status` says what the rotation waits for."""
    _prepare(vm, QUICK)
    vm.daemon().ready()
    eventually(lambda: len(vm.cloud.calls_of("DeleteAccessKey")) >= 2)
    shown = _rotation(vm)
    assert shown["owner"] and not shown["stopped"] and shown["keys"]
    made = {record["access_key_id"] for record in vm.audit("published")}
    assert len(made) >= 3
    assert {record["access_key_id"] for record in vm.audit("old_key_deleted")} < made


def test_without_owner_nothing_is_changed_and_that_is_said(vm: Vm) -> None:
    """A host that does not say `owner = true` makes no call to RAM, and `status` and `check` say why there is no key."""
    _prepare(vm, "")
    vm.daemon().ready()
    shown = vm.status()["credentials"]["uploader"]
    assert shown["rotation"]["owner"] is False
    assert "owner" in shown["last_error"]
    assert not [call for call in vm.cloud.calls if call.action.endswith(("AccessKey", "AccessKeys"))]


@pytest.mark.crash
def test_a_busy_application_sees_no_refusal_over_fifty_rotations(vm: Vm) -> None:
    """New keys work a while after they are made, and lists lag behind; who reads the file before each call is never refused."""
    vm.cloud.propagation_delay_s, vm.cloud.list_delay_s = 0.7, 0.4
    _prepare(vm, QUICK)
    vm.daemon().ready()
    eventually(lambda: vm.ini_path().exists())
    stop, calls = threading.Event(), [0]

    def work() -> None:
        while not stop.is_set():
            vm.call_with(vm.ini_path())
            calls[0] += 1

    busy = [threading.Thread(target=work, daemon=True) for _ in range(2)]
    for one in busy:
        one.start()
    began = time.monotonic()
    while len(vm.audit("published")) < 51 and time.monotonic() - began < 280:
        time.sleep(0.5)
    stop.set()
    for one in busy:
        one.join()
    assert len(vm.audit("published")) >= 51
    assert calls[0] > 500
