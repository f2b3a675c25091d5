"""Redis, the host that rotates, and the hosts that follow, killed at any moment: no key ends that a live host needs, all ends well.

Whatever was killed comes back; then the same command ends the rotation, and every host holds the newest key.
"""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.fleet import FleetRig, secrets_on
from tests.support.processes import KEYTURN
from tests.support.redis_server import RedisServer
from tests.support.station import Station
from tests.support.vm import Vm, eventually

OTHERS = ("web-2", "web-3")
Stage = Callable[..., "Scene"]


class Scene:
    """Three hosts; `rotate` runs on the first."""

    def __init__(self, fleet: FleetRig) -> None:
        self.fleet, self.server = fleet, fleet.server
        self.station = Station(fleet.add("web-1", jitter="1s"))
        fleet.configure("web-1", self.station.emergency(), jitter="1s")
        for host in OTHERS:
            fleet.add(host, jitter="1s")
        self.vm = fleet.first
        self.cloud = self.vm.cloud
        self.cloud.old_key_life_s = 48 * 3600.0
        self.cloud.allow_overlapping_rotation = True

    @property
    def key(self) -> str:
        return self.cloud.current_key("uploader-ak").access_key_id

    def everybody_is_there(self, *hosts: str) -> None:
        wanted = set(hosts or self.fleet.vms)

        def look() -> bool:
            done = self.vm.keyturn("fleet", "status", "--json")
            rows = json.loads(done.stdout)["credentials"]["uploader"]["hosts"] if done.stdout else []
            return wanted <= {row["host"] for row in rows if row["state"] == "current"}

        eventually(look, "every host is current on the board")

    def is_on_board(self) -> bool:
        """Whether the server knows every host, and that it is there."""
        with self.server.admin() as raw:
            return int(raw.zcard("keyturn:{fleet}:uploader:seen")) == len(self.fleet.vms)  # type: ignore[arg-type]

    def rotate(self, leaked: str) -> subprocess.Popen[str]:
        command = ("rotate", "uploader", "--reason", "leaked", "--leaked", leaked, "--disable-old", "--yes", "--json")
        return subprocess.Popen(
            [*KEYTURN, "--config", str(self.vm.config), *command],
            env=self.vm.environ, stdout=subprocess.PIPE, stderr=(self.vm.directory / "rotate.err").open("a"), text=True,
        )  # fmt: skip

    def nobody_needs(self, old: str) -> None:
        """The promise: where the old key is off, every host has another one."""
        if self.station.status_of(old) == "Inactive":
            assert not any(vm.holds(old) for vm in self.fleet.vms.values()), "a live host holds a key that was disabled"

    def end(self, old: str) -> None:
        """The same command, until it is over."""
        for _attempt in range(4):
            out, _err = self.rotate(old).communicate(timeout=200)
            self.nobody_needs(old)
            if out and json.loads(out)["safe"]:
                break
            time.sleep(1.0)
        assert self.station.status_of(old) == "Inactive", out
        new = self.key
        eventually(lambda: all(vm.holds(new) for vm in self.fleet.vms.values()), "everybody has the new key")


@pytest.fixture
def stage(make_vm: Callable[..., Vm], tmp_path: Path) -> Iterator[Stage]:
    servers: list[RedisServer] = []

    def make(*, appendonly: bool = False) -> Scene:
        server = RedisServer(tmp_path / "redis", appendonly=appendonly)
        servers.append(server)
        server.start()
        server.grow_old()
        scene = Scene(FleetRig(make_vm, server))
        scene.fleet.start()
        scene.everybody_is_there()
        return scene

    yield make
    for server in servers:
        server.kill()


@pytest.mark.parametrize("appendonly", [False, True], ids=["without memory", "appendonly"])
def test_redis_is_killed_in_an_emergency(stage: Stage, appendonly: bool) -> None:
    """At five moments, from before the announcement until after the end; with and without what it remembers."""
    scene = stage(appendonly=appendonly)
    for moment_s in (0.0, 0.3, 0.8, 1.5, 2.5):
        old = scene.key
        running = scene.rotate(old)
        time.sleep(moment_s)
        scene.server.kill()
        time.sleep(0.3)
        scene.nobody_needs(old)
        scene.server.start()
        time.sleep(1.0)
        scene.nobody_needs(old)  # a server without memory knows no host now, and that says nothing
        eventually(scene.is_on_board, "every host is on the board again")
        scene.server.grow_old()  # as after LIVE_S, by which every host is
        running.communicate(timeout=200)
        scene.nobody_needs(old)
        scene.end(old)
        scene.everybody_is_there()
    assert secrets_on(scene.server, scene.fleet.vms.values()) == []


@pytest.mark.parametrize("appendonly", [False, True], ids=["without memory", "appendonly"])
def test_redis_is_killed_in_a_scheduled_rotation(stage: Stage, appendonly: bool) -> None:
    """One host sees it and says so; whether before, while or after the server was away, the others hear of it."""
    scene = stage(appendonly=appendonly)
    for moment_s in (0.0, 0.05, 0.1, 0.2, 0.4):
        new = scene.cloud.rotate("uploader-ak").access_key_id
        scene.fleet.daemons["web-2"].signal(signal.SIGUSR1)
        time.sleep(moment_s)
        scene.server.kill()
        time.sleep(0.3)
        scene.server.start()
        eventually(lambda new=new: all(vm.holds(new) for vm in scene.fleet.vms.values()), "everybody followed")


MOMENTS = ("rotation_requested", "rotation_started", "published", "old_key_disabled")


@pytest.mark.parametrize("whole", [True, False], ids=["daemon", "command"])
def test_who_rotates_is_killed_between_the_steps(stage: Stage, whole: bool) -> None:
    """The daemon, or a command where no daemon runs, after each thing that it wrote down; the same command ends it."""
    scene = stage()
    for moment in MOMENTS:
        old, seen = scene.key, len(scene.vm.audit(moment))
        if not whole:
            scene.fleet.daemons["web-1"].stop()
        running = scene.rotate(old)
        eventually(lambda m=moment, seen=seen: len(scene.vm.audit(m)) > seen, moment)
        if whole:
            scene.fleet.daemons["web-1"].kill()
        running.kill()
        running.communicate()
        scene.nobody_needs(old)
        if whole:
            scene.fleet.start("web-1")
        scene.end(old)
        if not whole:
            scene.fleet.start("web-1")
        scene.everybody_is_there()


def test_a_host_that_follows_is_killed(stage: Stage) -> None:
    """And started again while the emergency waits for it, at moments from before the announcement until after its publish."""
    scene = stage()
    for moment_s in (0.0, 0.4, 0.8, 1.4):
        old = scene.key
        running = scene.rotate(old)
        time.sleep(moment_s)
        scene.fleet.daemons["web-2"].kill()
        time.sleep(0.5)
        scene.nobody_needs(old)
        scene.fleet.start("web-2")
        out, _err = running.communicate(timeout=200)
        result = json.loads(out)
        assert (result["safe"], result["all_moved"]) == (True, True), result
        scene.nobody_needs(old)
        new = scene.key
        assert scene.fleet.vms["web-3"].holds(new)
        eventually(lambda new=new: scene.fleet.vms["web-2"].holds(new))
