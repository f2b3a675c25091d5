"""A daemon that rotates as fast as it can, dies at random, and comes back; others look all the while."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.support.crash.promises import Findings, number_of
from tests.support.crash.surviving import PUBLISHED, STARTS, UNSAID, as_recorded
from tests.support.crash.world import ROOT, World
from tests.support.processes import Listener, eventually

STRANGER = 65534


class Lives:
    """The daemon's lives in one world."""

    def __init__(self, world: World, seed: int) -> None:
        self.world, self._chance = world, random.Random(seed)
        self.found, self.number, self.deaths = Findings(), STARTS[PUBLISHED], 0
        self._pace_s = 0.0
        """From a signal until everybody is told."""
        world.restore(PUBLISHED)
        self.live(die=False)

    def live(self, *, die: bool = True) -> None:
        """Start, look whether all is well, rotate a few times, and die somewhere in it, or end well."""
        self.world.source(None)  # what is due at the start, or put right, is so by the journal alone
        listener = Listener()
        environ = {**self.world.environ, "NOTIFY_SOCKET": listener.address}
        self.world.ask({"arguments": ["--config", str(self.world.config), "run"], "environ": environ, "detached": True})
        pid = int(self.world.answer()["pid"])
        listener.wait("READY=1")
        self._inspect()
        for _ in range(self._chance.randrange(1, 4) if die else 1):
            self._rotate(pid)
            time.sleep(self._chance.random() * self._pace_s * die)
        if not die:
            began = time.monotonic()
            eventually(lambda: self._is_told(self.number), "the last value reaches everybody")
            self._pace_s = time.monotonic() - began
        os.kill(pid, signal.SIGKILL if die else signal.SIGTERM)
        self.deaths += die
        ended = self.world.answer()["ended"]
        if ended != (-signal.SIGKILL if die else 0):
            self.found.other.append(f"it ended with {ended}: {self.world.said()}")

    def _rotate(self, pid: int) -> None:
        self.number += 1
        self.world.source(self.number)
        os.kill(pid, signal.SIGUSR1)

    def _inspect(self) -> None:
        """Right after READY: the recovery is over, nothing is due, and what is owed is being told."""
        more, newest = self.world.generations()
        found, values = self.world.settled(sorted({number_of(key) for _number, key in newest.values()}))
        for each in (found, more, as_recorded(values, newest)):
            self.found.add(each)
        eventually(lambda: self._has_heard(newest), f"everybody hears of {newest}: {self.world.told(newest)}")

    def _has_heard(self, newest: dict[str, tuple[int, str]]) -> bool:
        return not self.world.told(newest).lost

    def _is_told(self, number: int) -> bool:
        _found, newest = self.world.generations()
        return all(number_of(key) == number for _n, key in newest.values()) and self._has_heard(newest)

    def end(self) -> Findings:
        """One last life that ends well, and the books."""
        self.live(die=False)
        found, _values = self.world.settled([self.number])
        more, newest = self.world.generations()
        for each in (found, more, self.world.told(newest)):
            self.found.add(each)
        if self.world.keyturn("audit", "verify")["ended"]:
            self.found.other.append(f"the audit log is not whole: {self.world.said()}")
        self.found.other.extend(f"{words!r}: {self.world.said()}" for words in UNSAID if words in self.world.said())
        return self.found


@contextmanager
def watched(world: World) -> Iterator[list[dict[str, Any]]]:
    """Have the readers look; what they saw is in the list afterwards."""
    arguments = [[]] if os.geteuid() else [[], [str(STRANGER)]]
    watchers = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.support.crash.watcher", str(world.root), *more],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        for more in arguments
    ]
    seen: list[dict[str, Any]] = []
    try:
        for watcher in watchers:
            assert watcher.stdout is not None
            assert watcher.stdout.readline() == "looking\n"
        yield seen
    finally:
        for watcher in watchers:
            watcher.terminate()
            said, _ = watcher.communicate(timeout=30)
            seen.append(json.loads(said or "{}"))
