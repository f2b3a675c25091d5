"""Hosts of one fleet with the same RAM user and no owner: daemons, a real redis-server, an emulated RAM."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.support.ram_station import ROTATES, provider
from tests.support.redis_server import RedisServer
from tests.support.vm import Vm, eventually

KEY = "keyturn:{fleet}:ram_user:batch:lease"


class Hosts:
    """Two VMs of one account, whose configs are equal but for the host's name."""

    def __init__(self, make_vm: Callable[..., Vm], server: RedisServer) -> None:
        self.server = server
        self.vms = {name: make_vm(name) for name in ("web-1", "web-2")}
        self.cloud, emulator = self.vms["web-1"].cloud, self.vms["web-1"].server
        self.endpoints = {f"{one}_endpoint": emulator.endpoint_of(one) for one in ("sts", "kms", "ram", "ims")}
        self.cloud.add_user("batch")
        self.cloud.add_user("ops", *ROTATES)
        self.key = self.cloud.add_access_key("ops")
        self.daemons: dict[str, Any] = {}
        for name in self.vms:
            self.configure(name)

    def configure(self, name: str, extra: str = "") -> None:
        vm = self.vms[name]
        for part, text in (("id", self.key.access_key_id), ("secret", self.key.access_key_secret)):
            (vm.directory / f"authority_{part}").touch(mode=0o600)
            (vm.directory / f"authority_{part}").write_text(text)
        metrics = f'metrics_textfile = "{vm.directory}/keyturn.prom"'
        fleet = f'[fleet]\nurl = "{self.server.url}"\nhost = "{name}"\n'
        vm.configure(vm.agent(metrics, **self.endpoints), fleet, vm.credential(provider=provider(vm.directory, extra)))

    def start(self, name: str) -> Vm:
        self.daemons[name] = self.vms[name].daemon().ready()
        return self.vms[name]

    def rotation(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.vms[name].status()["credentials"]["uploader"]["rotation"]
        return found

    def lease(self, name: str) -> dict[str, Any]:
        """What `fleet status --json` says on that host."""
        found: dict[str, Any] = json.loads(self.vms[name].keyturn("fleet", "status", "--json").stdout)
        return dict(found["ram_users"]["batch"])

    def keys(self) -> dict[str, str]:
        return {one.access_key_id: one.status for one in self.cloud.keys_of("batch")}


@pytest.fixture
def hosts(make_vm: Callable[..., Vm], tmp_path: Path) -> Iterator[Hosts]:
    with RedisServer(tmp_path / "redis") as server:
        yield Hosts(make_vm, server)


@pytest.mark.crash
def test_one_host_rotates_and_no_other_takes_it_over_without_the_key(hosts: Hosts) -> None:
    """The first has the lease, the key and the files; neither its stop nor its death has the second make a key."""
    one = hosts.start("web-1")
    eventually(lambda: one.env_path().exists())
    keys = hosts.keys()
    assert list(keys.values()) == ["Active"] and one.holds(*keys)
    hosts.start("web-2")
    eventually(lambda: "web-1" in str(hosts.rotation("web-2")["waits_for"]))
    assert hosts.rotation("web-1")["owner"] and hosts.rotation("web-1")["lease"]["ours"]
    assert hosts.rotation("web-2")["owner"] is False and hosts.rotation("web-2")["lease"]["host"] == "web-1"
    shown = hosts.lease("web-2")
    assert (shown["host"], shown["by"]) == ("web-1", "lease") and 0 < shown["left_s"] <= 60
    said = hosts.vms["web-2"].keyturn("fleet", "status").stdout
    assert "RAM user batch: web-1 rotates its keys" in said
    for name, value in (("web-1", "1.0"), ("web-2", "0.0")):
        prom = hosts.vms[name].directory / "keyturn.prom"
        eventually(lambda p=prom, v=value: f'keyturn_ram_user_owner{{credential="uploader"}} {v}' in p.read_text())
    hosts.daemons["web-1"].process.terminate()
    hosts.daemons["web-1"].process.wait()
    assert hosts.lease("web-2")["left_s"] == 0  # let go at a clean stop
    hosts.daemons["web-2"].process.terminate()
    hosts.daemons["web-2"].process.wait()
    hosts.start("web-2")
    eventually(lambda: "fleet leave --host web-1" in str(hosts.rotation("web-2")["remedy"]))
    assert hosts.keys() == keys
    hosts.start("web-1")
    eventually(lambda: hosts.rotation("web-1")["owner"])
    hosts.daemons["web-1"].process.kill()
    hosts.daemons["web-1"].process.wait()
    assert hosts.lease("web-2")["left_s"] > 0
    with redis.Redis(port=hosts.server.port) as raw:
        raw.hset(KEY, "until", "1")  # a minute later
    assert hosts.vms["web-2"].keyturn("once").returncode != 0 and hosts.keys() == keys


@pytest.mark.crash
def test_a_host_that_is_gone_for_good_is_taken_off_and_another_begins_with_a_key_of_its_own(hosts: Hosts) -> None:
    """`fleet leave --host`: then there is room for one key more, and the first one's is left alone."""
    one = hosts.start("web-1")
    eventually(lambda: one.env_path().exists())
    (theirs,) = hosts.keys()
    hosts.daemons["web-1"].process.kill()
    hosts.daemons["web-1"].process.wait()
    two = hosts.vms["web-2"]
    left = json.loads(two.keyturn("fleet", "leave", "--host", "web-1", "--json").stdout)
    assert left["leases"] == ["batch"]
    hosts.start("web-2")
    eventually(lambda: theirs in str(hosts.rotation("web-2")["waits_for"]))
    assert hosts.rotation("web-2")["stopped"] and hosts.keys() == {theirs: "Active"}
    hosts.cloud.set_status(theirs, "Inactive")
    hosts.cloud.delete_access_key(theirs)
    hosts.daemons["web-2"].process.terminate()
    hosts.daemons["web-2"].process.wait()
    hosts.start("web-2")
    eventually(lambda: two.env_path().exists())
    (mine,) = hosts.keys()
    assert mine != theirs and two.holds(mine)


@pytest.mark.crash
def test_a_key_that_stands_on_the_host_that_takes_over_is_adopted_there(hosts: Hosts) -> None:
    """The same key was copied to both; `keyturn adopt` takes the lease as well, once the first host is away."""
    one = hosts.start("web-1")
    eventually(lambda: one.env_path().exists())
    (key,) = hosts.keys()
    two = hosts.vms["web-2"]
    two.env_path().write_bytes(one.env_path().read_bytes())
    two.env_path().chmod(0o600)
    hosts.start("web-2")
    done = two.keyturn("adopt", "uploader", "--yes", "--json")
    assert done.returncode == 1 and "web-1" in json.loads(done.stdout)["error"]
    hosts.daemons["web-1"].process.terminate()
    hosts.daemons["web-1"].process.wait()
    done = two.keyturn("adopt", "uploader", "--yes", "--json")
    assert done.returncode == 0, done.stderr
    eventually(lambda: hosts.rotation("web-2")["owner"])
    assert hosts.keys() == {key: "Active"} and two.holds(key)
    hosts.start("web-1")
    eventually(lambda: "web-2" in str(hosts.rotation("web-1")["waits_for"]))


@pytest.mark.crash
def test_an_owner_and_hosts_that_leave_it_open(hosts: Hosts) -> None:
    """It rotates whatever the lease says; two owners are an error of `check`, and the second changes nothing."""
    hosts.configure("web-1", "owner = true")
    one = hosts.start("web-1")
    eventually(lambda: one.env_path().exists())
    hosts.start("web-2")
    eventually(lambda: "owner" in str(hosts.rotation("web-2")["waits_for"]))
    assert hosts.lease("web-2")["by"] == "owner"
    keys = hosts.keys()
    hosts.configure("web-2", "owner = true")
    found = hosts.vms["web-2"].keyturn("check")
    assert found.returncode == 78 or "is the owner" in found.stdout + found.stderr
    hosts.daemons["web-2"].process.terminate()
    hosts.daemons["web-2"].process.wait()
    hosts.start("web-2")
    eventually(lambda: hosts.rotation("web-2")["stopped"])
    assert "web-1" in hosts.rotation("web-2")["waits_for"] and not hosts.rotation("web-2")["owner"]
    assert hosts.keys() == keys and hosts.rotation("web-1")["owner"]
