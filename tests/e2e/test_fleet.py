"""Hosts that share a secret meet on a real redis-server: what one sees, all follow within seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.fleet import FleetRig
from tests.support.redis_server import RedisServer
from tests.support.vm import Vm, eventually


@pytest.fixture
def fleet(make_vm: Callable[..., Vm], tmp_path: Path) -> Iterator[FleetRig]:
    with RedisServer(tmp_path / "redis") as server:
        yield FleetRig(make_vm, server)


def connected(vm: Vm) -> bool:
    return bool(vm.status()["agent"]["fleet"]["connected"])


def test_a_rotation_that_one_host_sees_reaches_all_of_them(fleet: FleetRig) -> None:
    """Polled once an hour, two follow the third, in the audit by the fleet; and again after the server lost everything."""
    for host, poll in (("web-1", "1s"), ("web-2", "1h"), ("web-3", "1h")):
        fleet.add(host, poll=poll)
    fleet.start()
    eventually(lambda: all(map(connected, fleet.vms.values())), "everybody is connected")
    for number in (2, 3):
        newest = fleet.first.cloud.rotate("uploader-ak").access_key_id
        eventually(lambda newest=newest: all(vm.holds(newest) for vm in fleet.vms.values()), "everybody has it")
        for host in ("web-2", "web-3"):
            published = fleet.vms[host].audit("published")[-1]
            assert (published["generation"], published["trigger"]) == (number, "fleet")
        if number == 2:
            fleet.server.kill()
            eventually(lambda: not any(map(connected, fleet.vms.values())), "everybody sees that it is away")
            fleet.server.start()
            eventually(lambda: all(map(connected, fleet.vms.values())), "everybody is connected again")
    assert [len(vm.audit("fetch_failed")) for vm in fleet.vms.values()] == [0, 0, 0]
