"""Keyturns as processes: daemons that a test listens to as systemd does, and commands that run to their end."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[2]
KEYTURN = (sys.executable, "-m", "agent")
SO_TIMESTAMPNS = 35  # asm-generic/socket.h: the kernel says when a message was sent, however late it is read
PATIENCE_S = 60.0
"""How long a test waits for what must come; long, because only a broken product uses it up."""


def eventually(look: Callable[[], T], what: str = "", patience_s: float = PATIENCE_S) -> T:
    """Look until there is something true to see, and return it; the longer it takes, the rarer are the looks."""
    end, pause_s = time.monotonic() + patience_s, 0.01
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < end, f"it did not happen in {patience_s:g} s: {what or look}"
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.2, 0.15)


def voluntary_switches(pid: int, which: str = "*") -> int:
    """How often any thread of a process (or the one with this number) went to sleep: each is a wake-up before it."""
    total = 0
    for task in Path(f"/proc/{pid}/task").glob(which):
        try:
            lines = (task / "status").read_text().splitlines()
        except (FileNotFoundError, ProcessLookupError):
            continue  # the thread has ended meanwhile
        total += sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches:"))
    return total


def at_rest(pid: int) -> bool:
    """Whether nothing moves for half a second."""
    before = voluntary_switches(pid)
    time.sleep(0.5)
    return voluntary_switches(pid) == before


class Listener:
    """The service manager's end of NOTIFY_SOCKET: keeps every message with the time at which it was sent."""

    def __init__(self) -> None:
        self.address = f"@keyturn-test-{uuid.uuid4()}"
        self.messages: list[tuple[float, str]] = []
        self._changed = threading.Condition()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self._socket.bind("\0" + self.address[1:])
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            text, extra, _flags, _address = self._socket.recvmsg(65536, 256)
            ((_level, _type, stamp),) = extra
            whole, nanos = struct.unpack("qq", stamp[:16])
            now = time.monotonic()
            with self._changed:
                self.messages.append((now - (time.time() - whole - nanos / 1e9), text.decode()))
                self._changed.notify_all()

    def count(self, word: str) -> int:
        with self._changed:
            return sum(word in text.split("\n") for _at, text in self.messages)

    def times(self, word: str) -> list[float]:
        with self._changed:
            return [at for at, text in self.messages if word in text.split("\n")]

    def status(self) -> str:
        """The newest STATUS=."""
        with self._changed:
            lines = [line for _at, text in self.messages for line in text.split("\n") if line.startswith("STATUS=")]
        return lines[-1].removeprefix("STATUS=") if lines else ""

    def wait(self, word: str, times: int = 1, patience_s: float = PATIENCE_S) -> None:
        with self._changed:
            there = self._changed.wait_for(
                lambda: sum(word in text.split("\n") for _at, text in self.messages) >= times, patience_s
            )
        assert there, f"no {word} for the {times}th time in {patience_s:g} s; heard: {self.messages}"

    def wait_while(self, alive: Callable[[], bool], word: str, patience_s: float = PATIENCE_S) -> None:
        """Wait for a word, but not for a dead process."""
        end = time.monotonic() + patience_s
        while not self.count(word) and alive() and time.monotonic() < end:
            with self._changed:
                self._changed.wait(0.1)


class Daemon:
    """A `keyturn run` of its own process."""

    def __init__(self, config: Path, directory: Path, environ: Mapping[str, str]) -> None:
        self.listener = Listener()
        self._err = directory / f"daemon-{uuid.uuid4().hex[:8]}.log"
        with self._err.open("wb") as err:
            self.started_at = time.monotonic()
            self.process = subprocess.Popen(
                [*KEYTURN, "--config", str(config), "run"],
                stdin=subprocess.DEVNULL,
                stdout=err,
                stderr=err,
                env={**environ, "NOTIFY_SOCKET": self.listener.address},
                cwd="/",
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        return self._err.read_text()

    def ready(self) -> Daemon:
        """Wait for READY=1, or say what the daemon died of."""
        self.listener.wait_while(lambda: self.process.poll() is None, "READY=1")
        assert self.listener.count("READY=1"), f"not ready, status {self.process.poll()}: {self.log}"
        return self

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def ended(self) -> int:
        return self.process.wait(PATIENCE_S)

    def stop(self) -> int:
        self.signal(signal.SIGTERM)
        return self.ended()

    def kill(self) -> None:
        """As the kernel's OOM killer would."""
        self.process.kill()
        self.ended()


@dataclass(frozen=True)
class Done:
    """What became of a command."""

    returncode: int
    stdout: str
    stderr: str

    def __post_init__(self) -> None:
        both = self.stdout + self.stderr
        assert "Traceback" not in both, f"a traceback reached the user: {both}"
        assert "fault of keyturn itself" not in both, both


def finished(argv: Sequence[str], environ: Mapping[str, str]) -> Done:
    """Run a program to its end."""
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, env=environ, cwd="/", check=False)
    return Done(done.returncode, done.stdout, done.stderr)


class Zygote:
    """The process that commands are forked from (zygote.py)."""

    def __init__(self) -> None:
        self._address = f"keyturn-zygote-{uuid.uuid4()}"
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("zygote.py")), self._address],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            cwd="/",
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"listening\n"

    def run(self, arguments: Sequence[str], environ: Mapping[str, str], scratch: Path) -> Done:
        """One command, to its end."""
        name = uuid.uuid4().hex
        out, err = scratch / f"{name}.out", scratch / f"{name}.err"
        request = {"arguments": arguments, "environ": dict(environ), "stdout": str(out), "stderr": str(err)}
        with socket.socket(socket.AF_UNIX) as channel:
            channel.settimeout(120)
            channel.connect("\0" + self._address)
            channel.sendall(json.dumps(request).encode() + b"\n")
            code = channel.makefile().readline()
        done = Done(int(code), out.read_text(), err.read_text())
        out.unlink()
        err.unlink()
        return done

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def in_child(act: Callable[[], object], *, user: int | None = None) -> int:
    """Run a part of a test in a forked child, as that user; the child's exit status: 0 when it ran to its end.

    What it raised goes to the standard error, and the status is 1; a signal that ended it is its negative number.
    Whatever happens in it, the child never goes on with the test run that it was forked from.
    """
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            if user is not None:
                os.setresuid(user, user, user)
            act()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
