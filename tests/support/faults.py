"""A daemon at work, a fault, and an onlooker who reads the sinks all the while."""

from __future__ import annotations

import json
import os
import resource
import stat
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.audit.head import read_head
from agent.audit.proof import verify
from tests.support.processes import KEYTURN, finished
from tests.support.vm import Daemon, Vm, eventually

HERE = Path(__file__).parent
STAGED = ".keyturn-"


class Onlooker:
    """Another reader: keeps every different sight of the sinks, and of what lies beside them."""

    def __init__(self, *sinks: Path, pause_s: float = 0.005) -> None:
        self.sinks, self._pause_s = sinks, pause_s
        self.sights: set[tuple[str, bytes, int, int]] = set()
        self.looks = 0
        self._staged_open: set[str] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._over.wait(self._pause_s):
            for path in self.sinks:
                self._look(path)
            self.looks += 1

    def _look(self, path: Path) -> None:
        try:
            fd = os.open(path, os.O_RDONLY)
            found = os.fstat(fd)
            self.sights.add((str(path), os.read(fd, 65536), stat.S_IMODE(found.st_mode), found.st_uid))
            os.close(fd)
        except OSError:
            pass  # missing directories and injected faults are the test's own doing
        for name in self._beside(path):
            try:
                mode = os.stat(path.parent / name).st_mode
            except OSError:
                continue
            if mode & 0o077:
                self._staged_open.add(name)

    def _beside(self, path: Path) -> list[str]:
        try:
            return [name for name in os.listdir(path.parent) if STAGED in name]
        except OSError:
            return []

    def verdict(self, keys: dict[str, str], owner: int = 0) -> None:
        """Every sight was of a whole file: one key's id with that key's secret, and nobody else was let in."""
        self._over.set()
        self._thread.join()
        assert self.looks > 10, "the onlooker was asleep"
        for path, content, mode, uid in self.sights:
            pairs = [
                key_id for key_id, secret in keys.items() if key_id.encode() in content and secret.encode() in content
            ]
            assert len(pairs) == 1, f"torn or mixed: {path}: {content!r}"
            assert content.endswith(b"\n"), f"torn: {path}: {content!r}"
            assert (mode, uid) == (0o600, owner), f"{path}: mode {mode:o}, uid {uid}"
        assert not self._staged_open, f"others could read what was staged: {self._staged_open}"


class Drill:
    """A daemon with the credential under test, `uploader`, and a neighbour, `other`, that no fault touches.

    `uploader` has an ini sink in `app` and an env sink in `place`; each credential's hook writes down the generation
    that it was told.
    """

    def __init__(self, vm: Vm, *, poll: str = "1s", settings: str = "", state: Path | None = None) -> None:
        self.vm = vm
        self.place = vm.app / "place"
        self.place.mkdir(exist_ok=True, mode=0o755)
        vm.cloud.add_ram_secret("other-ak", user="other")
        self.env_path = self.place / "uploader.env"
        self.rules = vm.directory / "faults.json"
        vm.configure(
            vm.credential(poll=poll, sinks=vm.ini() + vm.env(path=self.env_path), notify=self._hook("uploader"))
            + vm.credential("other", secret="other-ak", poll=poll, notify=self._hook("other"))
            + settings
        )
        self.keys: dict[str, str] = {}
        self._daemon: Daemon | None = None
        self.onlooker: Onlooker | None = None

    def _hook(self, name: str) -> str:
        return self.vm.hook(["/bin/sh", "-c", f'echo "$KEYTURN_GENERATION" >> {self.vm.directory}/heard-{name}'], name)

    # -- the daemon ---------------------------------------------------------------------------------

    @property
    def daemon(self) -> Daemon:
        assert self._daemon is not None
        return self._daemon

    def start(self, log_directory: Path | None = None) -> Drill:
        """A daemon that has published generation 1 and told everybody."""
        environ = {
            **self.vm.environ,
            "PYTHONPATH": f"{HERE / 'inject'}:{self.vm.environ['PYTHONPATH']}",
            "KEYTURN_FAULTS": str(self.rules),
        }
        self.learn()
        self._daemon = Daemon(self.vm.config, log_directory or self.vm.directory, environ)
        self.vm.daemons.append(self._daemon)
        self._daemon.ready()
        eventually(lambda: self.heard() and self.heard("other"))
        if self.onlooker is None:
            self.onlooker = Onlooker(self.vm.ini_path(), self.env_path)
        return self

    def fault(self, *rules: dict[str, Any]) -> None:
        """From now on these calls fail; no rule: none."""
        fresh = self.rules.with_suffix(".new")
        fresh.write_text(json.dumps(rules))
        fresh.rename(self.rules)

    @property
    def hits(self) -> list[str]:
        """The calls that were made to fail."""
        return Path(f"{self.rules}.hits").read_text().splitlines()

    def limit(self, which: int, value: int) -> Callable[[], None]:
        """Set a limit of the daemon; returns what takes it back."""
        soft, hard = resource.prlimit(self.daemon.pid, which)
        resource.prlimit(self.daemon.pid, which, (value, hard))
        return lambda: resource.prlimit(self.daemon.pid, which, (soft, hard)) and None

    # -- what happens -------------------------------------------------------------------------------

    def learn(self) -> str:
        """Remember the present key; returns its id."""
        key = self.vm.cloud.current_key("uploader-ak")
        self.keys[key.access_key_id] = key.access_key_secret
        return str(key.access_key_id)

    def rotate(self) -> str:
        """KMS rotates; returns the new key's id."""
        self.vm.cloud.rotate("uploader-ak")
        return self.learn()

    def rotate_other(self) -> None:
        """The neighbour goes on: its rotation is published and told while the fault lasts."""
        before = len(self.heard("other"))
        key = self.vm.cloud.rotate("other-ak")
        eventually(lambda: self.vm.holds(key.access_key_id, self.vm.ini_path("other"), self.vm.env_path("other")))
        eventually(lambda: len(self.heard("other")) > before)

    # -- looking ------------------------------------------------------------------------------------

    def heard(self, name: str = "uploader") -> list[str]:
        """The generations that the hook was told."""
        path = self.vm.directory / f"heard-{name}"
        return path.read_text().split() if path.exists() else []

    def holds(self, key_id: str) -> bool:
        return self.vm.holds(key_id, self.vm.ini_path(), self.env_path)

    def staged(self) -> list[str]:
        """What lies beside the sinks and is none of them."""
        return [
            str(path) for place in (self.vm.app, self.place) if place.exists() for path in place.glob(f".*{STAGED}*")
        ]

    def status(self, name: str = "uploader") -> dict[str, Any]:
        return dict(self.vm.status()["credentials"][name])

    def count(self, event: str) -> int:
        return self.vm.events().count(event)

    def command(self, *arguments: str) -> tuple[int, Any]:
        """A command from within this test's mounts: its status, and what it printed as JSON."""
        done = finished([*KEYTURN, "--config", str(self.vm.config), *arguments, "--json"], self.vm.environ)
        return done.returncode, json.loads(done.stdout)

    def errors_of_check(self) -> str:
        """Every error that `check --offline` finds, with its remedy."""
        _code, found = self.command("check", "--offline")
        return "\n".join(f"{one['text']}; {one.get('remedy')}" for one in found["findings"] if one["level"] == "error")

    # -- the end ------------------------------------------------------------------------------------

    def all_is_well(self, key_id: str, heard: list[str]) -> None:
        """By itself: every sink of one generation, everybody told, nothing left, and the audit whole."""
        eventually(lambda: self.holds(key_id), self.daemon.log)
        eventually(lambda: self.heard() == heard, f"{self.heard()} {self.daemon.log}")
        eventually(lambda: self.status()["state"] == "fresh", str(self.status()))
        assert self.status()["last_error"] is None
        assert self.staged() == []
        assert self.onlooker is not None
        self.onlooker.verdict(self.keys)
        assert self.daemon.stop() == 0
        assert "Traceback" not in self.daemon.log and "fault of keyturn" not in self.daemon.log, self.daemon.log
        verdict = verify(self.vm.log_directory / "audit.jsonl", read_head(self.vm.state / "audit-head"))
        assert verdict.whole, verdict.problems

    def for_a_while(self, seconds: float) -> None:
        """Give what must not happen the time to happen."""
        time.sleep(seconds)


def open_descriptors(pid: int) -> int:
    """The lowest number that no descriptor of a process at rest has: with this limit it gets no further one."""
    lowest = []
    for _ in range(25):  # at some of these instants no poll is under way
        used = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
        lowest.append(next(number for number in range(sys.maxsize) if number not in used))
        time.sleep(0.02)
    return min(lowest)
