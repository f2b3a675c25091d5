"""Hosts that share a secret meet on a real redis-server: what one sees, all follow within seconds."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.support.fleet import FleetRig
from tests.support.processes import KEYTURN, Daemon
from tests.support.redis_server import RedisServer
from tests.support.scraper import Figures, free_port, get
from tests.support.station import Station
from tests.support.vm import Vm, eventually

pytestmark = pytest.mark.slow


@pytest.fixture
def fleet(make_vm: Callable[..., Vm], tmp_path: Path) -> Iterator[FleetRig]:
    with RedisServer(tmp_path / "redis") as server:
        server.grow_old()
        yield FleetRig(make_vm, server)


def connected(vm: Vm) -> bool:
    return bool(vm.status()["agent"]["fleet"]["connected"])


def reload(daemon: Daemon) -> None:
    """Reload, and wait until the daemon is ready again."""
    times = daemon.listener.count("READY=1")
    daemon.signal(signal.SIGHUP)
    daemon.listener.wait("READY=1", times + 1)


def newest_publish(vm: Vm) -> tuple[int, str]:
    published = vm.audit("published")[-1]
    return published["generation"], published["trigger"]


def test_a_rotation_that_one_host_sees_reaches_all_of_them(fleet: FleetRig) -> None:
    """Polled once an hour, two follow the third, in the audit by the fleet; and again after the server lost everything.

    Status and metrics say how many hosts have it, how long that took, and that the board is away.
    """
    port = free_port()
    for host, poll in (("web-1", "1s"), ("web-2", "1h"), ("web-3", "1h")):
        fleet.add(host, poll=poll, agent=f'metrics_listen = "127.0.0.1:{port}"' if host == "web-1" else "")

    def figure(name: str, **labels: str) -> float | None:
        return Figures(get(port, "/metrics").body).get(f"keyturn_fleet_{name}", **labels)

    fleet.start()
    eventually(lambda: all(map(connected, fleet.vms.values())), "everybody is connected")
    for number in (2, 3):
        newest = fleet.first.cloud.rotate("uploader-ak").access_key_id
        eventually(lambda newest=newest: all(vm.holds(newest) for vm in fleet.vms.values()), "everybody has it")
        for host in ("web-2", "web-3"):
            eventually(lambda host=host, number=number: newest_publish(fleet.vms[host]) == (number, "fleet"), host)
        if number == 2:
            eventually(lambda: figure("hosts", credential="uploader", state="live") == 3, "all three are counted")
            eventually(lambda: figure("convergence_seconds", credential="uploader"), "how long it took is known")
            assert figure("connected") == 1
            fleet.server.kill()
            eventually(lambda: not any(map(connected, fleet.vms.values())), "everybody sees that it is away")
            assert (figure("connected"), figure("hosts", credential="uploader", state="live")) == (0, None)
            assert "the fleet's board is away" in fleet.first.keyturn("status").stdout
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
    dry_run = ("rotate", "uploader", "--reason", "a test", "--dry-run", "--disable-old", "--json")
    through_the_daemon = json.loads(vm.keyturn(*dry_run).stdout)
    fleet.daemons["web-1"].kill()
    without = json.loads(vm.keyturn(*dry_run, "--allow-absent", "web-2").stdout)
    for plan in (through_the_daemon, without):
        assert [(row["host"], row["state"]) for row in plan["other_hosts"]["hosts"]] == [("web-2", "absent")]
    assert ["fleet" in {one["step"] for one in plan["in_the_way"]} for plan in (through_the_daemon, without)] == [
        True,
        False,
    ]
    assert "web-2" in vm.keyturn("plan", "uploader").stdout
    assert vm.keyturn("fleet", "leave", "--host", "web-2").returncode == 0
    assert vm.keyturn("fleet", "leave", "--host", "web-2").returncode == 2
    assert vm.keyturn("fleet", "status").returncode == 0
    assert vm.keyturn("fleet", "status", "nobody").returncode == 2
    fleet.server.kill()
    assert json.loads(vm.keyturn("plan", "uploader", "--json").stdout)["other_hosts"]["hosts"] is None
    done = vm.keyturn("fleet", "status")
    assert (done.returncode, done.stdout) == (75, "") and done.stderr.count("\n") == 1


def test_a_host_without_a_daemon_says_how_it_stands_when_it_runs(fleet: FleetRig) -> None:
    """`once` announces what it saw change, so that a daemon follows; without the board, or its client, it does its work."""
    fleet.add("web-1")
    fleet.add("cron-1")
    fleet.start("web-1")
    web, cron = fleet.vms.values()
    eventually(lambda: connected(web), "the daemon is connected")
    assert cron.keyturn("once").returncode == 0
    newest = web.cloud.rotate("uploader-ak").access_key_id
    done = cron.keyturn("once")
    assert (done.returncode, done.stderr) == (0, "")
    eventually(lambda: web.holds(newest), "the daemon has what `once` saw")
    eventually(lambda: newest_publish(web)[1] == "fleet", "by the fleet, in the audit")
    eventually(lambda: web.keyturn("fleet", "status").returncode == 0, "both are current")
    rows = json.loads(web.keyturn("fleet", "status", "--json").stdout)["credentials"]["uploader"]["hosts"]
    assert [row["host"] for row in rows] == ["cron-1", "web-1"]
    fleet.server.kill()
    web.cloud.rotate("uploader-ak")
    done = cron.keyturn("once")
    assert done.returncode == 0 and "published" in done.stdout
    assert done.stderr.startswith("keyturn: warning: the fleet was not told") and done.stderr.count("\n") == 1


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


def test_a_reload_begins_changes_and_ends_it(fleet: FleetRig) -> None:
    """The connection follows the config, and a board that is not there refuses no reload."""
    vm = fleet.add("web-1")
    with_fleet = vm.config.read_text()
    without = re.sub(r"\[fleet\]\n(?:\w.*\n)+", "", with_fleet)
    assert "[fleet]" not in without
    vm.config.write_text(without)
    daemon = vm.daemon()
    daemon.ready()

    def seen() -> dict[str, Any] | None:
        found: dict[str, Any] | None = vm.status()["agent"].get("fleet")
        return found

    def hosts() -> set[str]:
        raw: Any = redis.Redis(port=fleet.server.port)
        return {host.decode() for host in raw.hkeys("keyturn:{fleet}:uploader:state")}

    assert seen() is None
    for text, host in ((with_fleet, "web-1"), (with_fleet.replace('host = "web-1"', 'host = "web-9"'), "web-9")):
        vm.config.write_text(text)
        reload(daemon)
        eventually(lambda host=host: host in hosts() and (seen() or {}).get("connected"), f"{host} is on the board")
        assert (seen() or {})["host"] == host
    vm.config.write_text(re.sub(r'url = "redis://[^"]*"', 'url = "redis://127.0.0.1:1/0"', with_fleet))
    reload(daemon)
    eventually(lambda: (seen() or {}).get("error"), "the board is not there")
    assert (seen() or {})["connected"] is False
    vm.config.write_text(without)
    reload(daemon)
    eventually(lambda: seen() is None, "no fleet any more")


def test_a_board_that_hangs_keeps_nobody_from_the_end(fleet: FleetRig) -> None:
    """It takes connections and answers nothing: the daemon is ready, and SIGTERM ends it within seconds."""
    vm = fleet.add("web-1")
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        port = deaf.getsockname()[1]
        vm.config.write_text(
            re.sub(r'url = "redis://[^"]*"', f'url = "redis://127.0.0.1:{port}/0"', vm.config.read_text())
        )
        fleet.start()
        deaf.accept()
        began = time.monotonic()
        daemon = fleet.daemons["web-1"].process
        daemon.terminate()
        assert daemon.wait(60) == 0
        assert time.monotonic() - began < 20
        assert vm.audit("agent_stopped")


def test_without_the_client_everything_else_goes_on(fleet: FleetRig) -> None:
    """It is not in this environment: the daemon serves and says so, and the command says how to install it."""
    vm = fleet.add("web-1")
    hidden = vm.directory / "hidden"
    hidden.mkdir()
    (hidden / "redis.py").write_text("raise ModuleNotFoundError(\"No module named 'redis'\", name='redis')\n")
    vm.environ["PYTHONPATH"] = str(hidden)
    fleet.start()
    shown = vm.status()["agent"]["fleet"]
    assert shown["connected"] is False and "keyturn[fleet]" in shown["error"]
    done = vm.keyturn_cold("fleet", "status")
    assert (done.returncode, done.stdout) == (2, "") and "keyturn[fleet]" in done.stderr
    assert vm.keyturn_cold("plan", "uploader").returncode == 0
