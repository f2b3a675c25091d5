"""A real `keyturn run` under watch: when it feeds the watchdog, how fast it answers `status`, what it costs."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from agent.control import client
from agent.core.errors import KeyturnError

ROOT = Path(__file__).resolve().parent.parent
BEAT_S = 0.1
"""The pause between two messages to the watchdog that is asked of the daemon: half of WATCHDOG_USEC."""
ASK_EVERY_S = 0.25
PATIENCE_S = 900.0


def cpu_s(pid: int) -> float:
    """Processor time so far, of all threads, the kernel's part and ended children included: proc(5)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def busy_s() -> float:
    """Processor time that all processes of this machine took so far: proc(5)."""
    user, nice, system, _idle, _iowait, *others = map(
        int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    )
    return (user + nice + system + sum(others)) / os.sysconf("SC_CLK_TCK")


def peak_mib(pid: int) -> float:
    """VmHWM, proc(5)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


@dataclass(frozen=True)
class Answer:
    """One `status`: when it was asked, how long it took, and what went wrong."""

    asked: float
    took_s: float
    error: str


class WatchedDaemon:
    """One daemon. All instants are seconds of time.monotonic()."""

    def __init__(self, root: Path, watched: bool = True) -> None:
        """Prepare one whose config is in `root`. Without `watched` it has no watchdog, and nobody asks for its status."""
        self._watched = watched
        self._root, self._audit = root, root / "audit.jsonl"
        self._beats: list[float] = []
        self._said: list[tuple[float, str]] = []
        self._counts: dict[str, int] = {}
        self._read = 0
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        (root / "notify").unlink(missing_ok=True)
        self._listener.bind(str(root / "notify"))
        self._answers: list[Answer] = []
        self._asker: subprocess.Popen[str] | None = None
        self.started = 0.0

    def start(self) -> None:
        """Start it; it is watched from here on."""
        environ = {"PATH": os.environ["PATH"], "NOTIFY_SOCKET": str(self._root / "notify")}
        if self._watched:
            environ["WATCHDOG_USEC"] = str(int(2 * BEAT_S * 1e6))
        keyturn = [sys.executable, "-m", "agent", "--config", str(self._root / "keyturn.toml"), "run"]
        asker = [sys.executable, "-m", "bench.watched_daemon", str(self._root / "run")]
        self._beats.append(time.monotonic())
        with (self._root / "log").open("ab") as log:
            self.process = subprocess.Popen(keyturn, cwd=ROOT, env=environ, stdout=log, stderr=log)
        self.started = self._beats[0]
        threading.Thread(target=self._hear, daemon=True).start()
        if self._watched:
            self._asker = subprocess.Popen(asker, cwd=ROOT, stdout=subprocess.PIPE, text=True)
            threading.Thread(target=self._note_answers, daemon=True).start()

    def _hear(self) -> None:
        while True:
            text = self._listener.recv(65536).decode()
            now = time.monotonic()
            if text == "WATCHDOG=1":
                self._beats.append(now)
            else:
                self._said.append((now, text))

    def _note_answers(self) -> None:
        assert self._asker is not None and self._asker.stdout is not None
        for line in self._asker.stdout:
            self._answers.append(Answer(**json.loads(line)))

    # What is waited for

    def wait_until(self, what: str, reached: Callable[[], bool], pause_s: float = 0.02) -> float:
        """Return when it was.

        Raises:
            RuntimeError: the daemon ended, or it took too long.
        """
        end = time.monotonic() + PATIENCE_S
        while not reached():
            if self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"waited for {what}: {(self._root / 'log').read_text()[-3000:]}")
            time.sleep(pause_s)
        return time.monotonic()

    def wait_for(self, word: str, since: float) -> float:
        """Return when the daemon told the service manager `word`, such as `READY=1`, after `since`."""
        self.wait_until(word, lambda: self.heard(word, since) is not None)
        heard = self.heard(word, since)
        assert heard is not None
        return heard

    def heard(self, word: str, since: float) -> float | None:
        return next((at for at, text in self._said if at >= since and word in text.splitlines()), None)

    def wait_for_status(self) -> float:
        """Return when a `status` that was asked from now on was answered."""
        now = time.monotonic()
        return self.wait_until("status", lambda: any(a.asked >= now and not a.error for a in self._answers[-50:]))

    def events(self, event: str) -> int:
        """Return how many records of this event the audit log has."""
        if self._audit.exists():
            with self._audit.open("rb") as file:
                file.seek(self._read)
                found = file.read()
            whole = found[: found.rfind(b"\n") + 1]
            self._read += len(whole)
            for line in whole.splitlines():
                name = json.loads(line)["event"]
                self._counts[name] = self._counts.get(name, 0) + 1
        return self._counts.get(event, 0)

    def cpu_s(self) -> float:
        """Return its processor time so far."""
        return cpu_s(self.process.pid) if self.started else 0.0

    def asking(self, wanted: bool) -> None:
        """Have nobody ask for the status for a while, whose answers cost something too; or again."""
        assert self._asker is not None
        self._asker.send_signal(signal.SIGCONT if wanted else signal.SIGSTOP)

    # What was seen

    def largest_gap_s(self, since: float, until: float) -> float:
        """Return the longest time without a message to the watchdog, of those that touch this stretch of time."""
        if self.process.poll() is None:
            self.wait_until("the watchdog's next message", lambda: self._beats[-1] > until)
        beats = list(self._beats)
        pairs = [(a, b) for a, b in pairwise(beats) if b > since and a < until]
        return max((b - a for a, b in pairs), default=until - since)

    def statuses(self, since: float, until: float) -> list[Answer]:
        """Return the answers to what was asked in this stretch of time."""
        return [answer for answer in list(self._answers) if since <= answer.asked <= until]

    def close(self) -> None:
        """End what is still there."""
        if self._asker is not None:
            self._asker.kill()
            self._asker.wait()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._listener.close()

    def signal(self, number: signal.Signals) -> float:
        """Send it; return when."""
        self.process.send_signal(number)
        return time.monotonic()


def ask_for_ever(runtime: Path) -> None:
    """Ask for the status every quarter of a second, or as soon as the last one was answered; print each answer's time."""
    while not (runtime / "control.sock").exists():
        time.sleep(0.02)
    while True:
        asked = time.monotonic()
        error = ""
        try:
            client.ask(runtime, {"command": "status"}, patience_s=PATIENCE_S)
        except KeyturnError as refused:
            error = f"{type(refused).__name__}: {refused}"
        answer: dict[str, Any] = {"asked": asked, "took_s": time.monotonic() - asked, "error": error}
        print(json.dumps(answer), flush=True)
        time.sleep(max(0.0, asked + ASK_EVERY_S - time.monotonic()))


if __name__ == "__main__":
    try:
        ask_for_ever(Path(sys.argv[1]))
    except (KeyboardInterrupt, BrokenPipeError):
        pass
