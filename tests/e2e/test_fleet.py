"""Hosts that share a secret meet on a real redis-server: what one sees, all follow within seconds."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.support.fleet import FleetRig
from tests.support.processes import KEYTURN
from tests.support.redis_server import RedisServer
from tests.support.station import Station
from tests.support.vm import Vm, eventually


@pytest.fixture
def fleet(make_vm: Callable[..., Vm], tmp_path: Path) -> Iterator[FleetRig]:
    with RedisServer(tmp_path / "redis") as server:
        server.grow_old()
        yield FleetRig(make_vm, server)


def connected(vm: Vm) -> bool:
    return bool(vm.status()["agent"]["fleet"]["connected"])


def newest_publish(vm: Vm) -> tuple[int, str]:
    published = vm.audit("published")[-1]
    return published["generation"], published["trigger"]


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
            eventually(lambda host=host, number=number: newest_publish(fleet.vms[host]) == (number, "fleet"), host)
        if number == 2:
            fleet.server.kill()
            eventually(lambda: not any(map(connected, fleet.vms.values())), "everybody sees that it is away")
            fleet.server.start()
            eventually(lambda: all(map(connected, fleet.vms.values())), "everybody is connected again")
    assert [len(vm.audit("fetch_failed")) for vm in fleet.vms.values()] == [0, 0, 0]


def test_fleet_status_and_leave(fleet: FleetRig) -> None:
    """Who is there, who is behind, who is absent, as rows and as JSON; one that left is on the board no more."""
    for host in ("web-1", "web-2"):
        fleet.add(host)
    fleet.start()
    eventually(lambda: all(map(connected, fleet.vms.values())), "everybody is connected")
    vm = fleet.first
    eventually(lambda: vm.keyturn("fleet", "status").returncode == 0, "both are current")
    fleet.daemons["web-2"].process.kill()
    raw: Any = redis.Redis(port=fleet.server.port)
    raw.zadd("keyturn:{fleet}:uploader:seen", {"web-2": time.time() - 100})
    done = vm.keyturn("fleet", "status", "--json")
    found = json.loads(done.stdout)
    states = {row["host"]: row["state"] for row in found["credentials"]["uploader"]["hosts"]}
    assert (done.returncode, found["host"], states) == (1, "web-1", {"web-1": "current", "web-2": "absent"})
    assert "web-2" in vm.keyturn("fleet", "status").stdout
    assert vm.keyturn("fleet", "leave", "--host", "web-2").returncode == 0
    assert vm.keyturn("fleet", "leave", "--host", "web-2").returncode == 2
    assert vm.keyturn("fleet", "status").returncode == 0
    assert vm.keyturn("fleet", "status", "nobody").returncode == 2
    fleet.server.kill()
    done = vm.keyturn("fleet", "status")
    assert (done.returncode, done.stdout) == (75, "") and done.stderr.count("\n") == 1


def test_an_emergency_waits_for_the_other_hosts(fleet: FleetRig) -> None:
    """One that is stopped keeps the old key alive; once it goes on, the same command ends it, and both have the new key."""
    station = Station(fleet.add("web-1"))
    fleet.configure("web-1", station.emergency())
    fleet.add("web-2")
    fleet.start()
    eventually(lambda: all(map(connected, fleet.vms.values())), "everybody is connected")
    vm = fleet.first
    old = station.current
    eventually(
        lambda: len(json.loads(vm.keyturn("fleet", "status", "--json").stdout)["credentials"]["uploader"]["hosts"]) == 2
    )
    fleet.daemons["web-2"].process.send_signal(signal.SIGSTOP)
    command = ("rotate", "uploader", "--reason", "leaked", "--disable-old", "--yes", "--json")
    waiting = subprocess.Popen(
        [*KEYTURN, "--config", str(vm.config), *command], env=vm.environ, stdout=subprocess.PIPE, text=True
    )
    eventually(lambda: vm.audit("rotation_started"))
    fleet.daemons["web-2"].process.send_signal(signal.SIGCONT)
    result = json.loads(waiting.communicate(timeout=60)[0])
    assert (result["safe"], result["all_moved"], waiting.returncode) == (True, True, 0)
    assert [(row["host"], row["moved"]) for row in result["fleet"]] == [("web-2", True)]
    assert station.status_of(old) == "Inactive" and all(one.holds(station.current) for one in fleet.vms.values())
    assert fleet.vms["web-2"].audit("published")[-1]["trigger"] == "fleet"
