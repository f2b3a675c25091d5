"""How fast a fleet follows an announcement: simulated hosts on a real redis-server of this machine.

    python -m bench.convergence                           1,000 hosts, three rotations
    python -m bench.convergence --hosts 300 --jitter 2

Each host has the daemon's own classes (agent/fleet: Member, Link, Board), two connections and two threads; only its engine is
a stand-in, whose refresh takes 50 to 400 ms, as KMS and a publish would. The rotation is the emergency's own class. Counted is,
for each host, the time from the announcement until its proof was seen, looked at four times a second. The peak of calls is
the most refreshes that began within one second; a GetSecretValue each, of which KMS allows an account 450 a second.
"""

from __future__ import annotations

import argparse
import heapq
import multiprocessing
import random
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, cast

from agent.core.credential import Credential
from agent.core.outcome import Outcome, Report, Result
from agent.core.secret import Secret
from agent.core.settings import CredentialSettings, FleetSettings, Settings
from agent.engine.engine import Engine
from agent.engine.version_held import VersionHeld
from agent.fleet.client import opened
from agent.fleet.member import PAUSE_S, Member
from agent.fleet.rotation import FleetRotation
from agent.logs.setup import set_up
from agent.system.clock import Clock
from bench.row import Row, add_option, show
from providers.kms.settings import KmsSecretSettings
from tests.support.redis_server import RedisServer

NAME = "uploader"
QUOTA = 450
SLOWEST_S, QUICKEST_S = 0.4, 0.05


def secret_of(version: int) -> Secret:
    """What KMS would hand out as the secret of a version."""
    return Secret(f"the secret of version {version}")


class Loop:
    """One thread for the engines of many hosts: messages, timers."""

    def __init__(self) -> None:
        self._wake = threading.Condition()
        self._messages: deque[Callable[[], None]] = deque()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0
        threading.Thread(target=self._run, daemon=True).start()

    def post(self, message: Callable[[], None]) -> None:
        with self._wake:
            self._messages.append(message)
            self._wake.notify()

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        with self._wake:
            self._number += 1
            heapq.heappush(self._timers, (time.monotonic() + seconds, self._number, act))
            self._wake.notify()

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._messages and (not self._timers or self._timers[0][0] > time.monotonic()):
                    self._wake.wait(self._timers[0][0] - time.monotonic() if self._timers else None)
                due = list(self._messages)
                self._messages.clear()
                while self._timers and self._timers[0][0] <= time.monotonic():
                    due.append(heapq.heappop(self._timers)[2])
            for act in due:
                act()


class StandIn:
    """What a member asks of an engine; the source is a number that all hosts of the process share."""

    def __init__(self, loop: Loop, source: dict[str, int], began: list[float]) -> None:
        self.clock, self._loop, self._source, self._began = Clock(), loop, source, began
        self._version = source["version"]
        self._observer: Any = None
        self.post, self.after = loop.post, loop.after

    def observe(self, observer: Any) -> None:
        self._observer = observer

    def watch_in_use(self, act: Callable[[str], None]) -> None:
        act(NAME)

    def version_held(self, name: str) -> VersionHeld:
        value = Credential("LTAI0000", secret_of(self._version))
        return VersionHeld(f"v{self._version}", self._version, "LTAI0000", value, 0, (), False)

    def refresh(self, name: str, _cause: object) -> Future[Report]:
        self._began.append(time.time())
        future: Future[Report] = Future()
        self._loop.after(random.uniform(QUICKEST_S, SLOWEST_S), partial(self._fetched, name, future))
        return future

    def _fetched(self, name: str, future: Future[Report]) -> None:
        self._version = self._source["version"]
        self._observer.refreshed(name, Outcome(Result.PUBLISHED, self._version))
        future.set_result(Report(name, Outcome(Result.PUBLISHED, self._version), None))


def settings_of(url: str, host: str, jitter_s: float) -> Settings:
    """The config of one host."""
    provider = KmsSecretSettings(type="kms_secret", secret_name=NAME)
    fleet = FleetSettings(url=url, host=host, announce_jitter=cast(Any, jitter_s))
    return Settings(credentials={NAME: CredentialSettings(provider=provider)}, fleet=fleet)


def hosts(url: str, first: int, count: int, jitter_s: float, channel: Connection) -> None:
    """A process with so many hosts; it is told of each rotation as KMS would be, and says when its hosts asked."""
    set_up("error", "plain", {})
    threading.stack_size(256 * 1024)
    loop, source, began = Loop(), {"version": 1}, list[float]()
    for number in range(first, first + count):
        settings = settings_of(url, f"host-{number}", jitter_s)
        assert settings.fleet is not None
        member = Member(cast(Engine, StandIn(loop, source, began)), f"host-{number}", f"machine-{number}")
        loop.post(partial(member.follow, settings, lambda wait_s, fleet=settings.fleet: opened(fleet, wait_s=wait_s)))
    while True:
        order = channel.recv()
        if order == "began":
            channel.send(list(began))
            began.clear()
        else:
            source["version"] = order


class Fleet:
    """The processes, and the host that rotates."""

    def __init__(self, url: str, count: int, processes: int, jitter_s: float) -> None:
        self._url, self._count, self._version = url, count, 1
        context = multiprocessing.get_context("spawn")
        self._channels: list[Any] = []
        share = -(-count // processes)
        for first in range(0, count, share):
            mine, theirs = context.Pipe()
            amount = min(share, count - first)
            context.Process(target=hosts, args=(url, first, amount, jitter_s, theirs), daemon=True).start()
            self._channels.append(mine)

    def wait_for_all(self) -> None:
        """Wait until every host is on the board."""
        board = opened(FleetSettings(url=self._url))
        while len(board.hosts(NAME)) < self._count:
            time.sleep(0.5)
        board.close()

    def rotate(self, patience_s: float = 120.0) -> tuple[list[float], int]:
        """Rotate once; return when each host had moved, in seconds since the announcement, and the peak of calls a second."""
        self._version += 1
        for channel in self._channels:
            channel.send(self._version)
        time.sleep(0.2)
        rotation = FleetRotation(opened(FleetSettings(url=self._url)), "rotator", "rotator", NAME)
        began = time.monotonic()
        rotation.announce(f"v{self._version}", time.time() + patience_s)
        moved: dict[str, float] = {}
        while len(moved) < self._count and time.monotonic() - began < patience_s:
            time.sleep(0.25)
            found = rotation.look(secret_of(self._version))
            at = time.monotonic() - began
            for one in found:
                if one.has_moved:
                    moved.setdefault(one.host, at)
        rotation.close()
        if len(moved) < self._count:
            raise SystemExit(f"{self._count - len(moved)} hosts have not moved in {patience_s:g} s")
        calls: list[float] = []
        for channel in self._channels:
            channel.send("began")
            calls += channel.recv()
        return sorted(moved.values()), most_in_a_second(calls)


def most_in_a_second(times: list[float]) -> int:
    """Return how many of these times lie within the fullest second, wherever it begins."""
    ordered, first, most = sorted(times), 0, 0
    for last, at in enumerate(ordered):
        while at - ordered[first] >= 1.0:
            first += 1
        most = max(most, last - first + 1)
    return most


def main() -> int:
    """Print the rows; return 1 where an aim is missed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--hosts", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--jitter", type=float, default=3.0, help="announce_jitter, in seconds")
    parser.add_argument("--rotations", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="twenty hosts, one rotation")
    add_option(parser)
    options = parser.parse_args()
    if options.quick:
        options.hosts, options.processes, options.jitter, options.rotations = 20, 2, 0.5, 1
    with tempfile.TemporaryDirectory() as directory, RedisServer(Path(directory), "--maxclients", "20000") as server:
        fleet = Fleet(server.url, options.hosts, options.processes, options.jitter)
        fleet.wait_for_all()
        server.grow_old(NAME)  # an emergency waits where a server has just begun
        import redis

        client: Any = redis.Redis(port=server.port)
        rows, before = [], int(client.info("stats")["total_commands_processed"])
        for number in range(1, options.rotations + 1):
            if number > 1:
                time.sleep(PAUSE_S)  # a host asks no more often than that, whatever is announced
            moved, peak = fleet.rotate()
            name = f"rotation {number} over {options.hosts:,} hosts"
            rows += [
                Row(f"{name}: until half had moved", moved[len(moved) // 2], "s"),
                Row(f"{name}: until 99 of 100 had moved", moved[int(len(moved) * 0.99)], "s", aim=5),
                Row(f"{name}: until all had moved", moved[-1], "s"),
                Row(f"{name}: peak of GetSecretValue calls", peak, "/s", aim=QUOTA),
            ]
        commands = int(client.info("stats")["total_commands_processed"]) - before
        rows += [
            Row(
                f"redis-server: commands for a rotation over {options.hosts:,} hosts", commands / options.rotations, ""
            ),
            Row("redis-server: memory for data and connections", client.info("memory")["used_memory"] / 2**20, "MiB"),
            Row("redis-server: memory for data alone", client.info("memory")["used_memory_dataset"] / 2**20, "MiB"),
        ]
    show(rows, options.json)
    return int(not all(row.met for row in rows))


if __name__ == "__main__":
    sys.exit(main())
