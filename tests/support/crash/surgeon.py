"""A process that has imported all of keyturn, runs commands as forks of itself, and cuts them off where it is told to.

Started by `world.py`; one JSON request a line on standard input, one JSON answer a line on standard output. A fork
of it is a keyturn with the threads, locks and files of any other, there in 20 ms. It is the subreaper of what it
starts: a request is answered when every hook of the command has ended too.
"""

from __future__ import annotations

import ctypes
import functools
import json
import os
import pickle
import re
import shutil
import signal
import socket
import sys
import traceback
from collections import Counter
from pathlib import Path
from typing import Any, get_type_hints

import agent.app.check
import agent.app.daemon
import agent.audit.head
import agent.audit.log
import agent.cli.refresh
import agent.cli.status
import agent.config.converter
import providers.process
from agent.app import wiring
from agent.cli.main import main
from agent.system import mounts
from tests.support.crash.recording import Recorder
from tests.support.crash.tracing import HARMLESS, NAMES, WALL, Stop, traced

IMPORTED = (
    agent.audit.log,
    agent.app.check,
    agent.cli.status,
    agent.cli.refresh,
    agent.config.converter,
    agent.app.daemon,
    providers.process,
)
PR_SET_CHILD_SUBREAPER = 36
FETCHED = b'"event":"credential_fetched"'
TOLD = b'"event":"notified"'
RANDOM = re.compile(r"-[0-9a-f]{16}\b")


class Operation:
    """One command under the knife: counts the calls that matter, and kills at the one that was asked for."""

    def __init__(self, request: dict[str, Any]) -> None:
        self._root = request["root"] + "/"
        self._every = bool(request.get("every"))
        self._kill = request.get("kill")
        self._images = request.get("images")
        self._until = int(request.get("until", 0))
        self._begun = request.get("begin") == "start"
        self._times: Counter[str] = Counter()
        self._at_signal = request.get("begin") == "signal"
        self._entered: dict[int, tuple[Stop, list[str], str, int]] = {}
        self._pid, self._over = 0, False
        self.calls: list[str] = []
        self.recorder = Recorder(self._root, Path(request["heard"])) if request.get("record") else None
        self.manager = _listening(request) if request.get("manager") else None

    def watch(self, stop: Stop) -> None:
        """Called at both ends of every call."""
        self._pid = self._pid or stop.tid  # the first to call anything is the process itself
        if self._over:
            return  # its other threads are dying too
        if stop.entry:
            self._enter(stop)
        elif stop.tid in self._entered:
            self._leave(stop, *self._entered.pop(stop.tid))

    def signalled(self, number: int) -> None:
        """The daemon gets SIGUSR1: what follows is what we are here for."""
        if number == signal.SIGUSR1 and self._at_signal:
            self._begun = True

    def _enter(self, stop: Stop) -> None:
        ours = [path for path in stop.paths() if f"{path}/".startswith(self._root)]
        if ours and stop.call == "write" and FETCHED in stop.bytes_at(1, stop.arguments[2]):
            self._begun = self._begun or not self._at_signal
        counts = self._begun and (self._every or (bool(ours) and stop.call not in HARMLESS))
        if counts:
            self.calls.append(" ".join([stop.call or str(stop.number), *(_plain(path, self._root) for path in ours)]))
            if self._images is not None:
                shutil.copyfile(self._images["from"], f"{self._images['to']}/{len(self.calls):05}")
            self._times[self.calls[-1]] += 1
            self._cut(self.calls[-1], self._times[self.calls[-1]], entry=True)
        if ours and self.recorder is not None:
            self.recorder.enter(stop, ours)
        if ours or stop.call.startswith("send"):
            call = self.calls[-1] if counts else ""
            self._entered[stop.tid] = (stop, ours, call, self._times[call])

    def _leave(self, stop: Stop, entered: Stop, ours: list[str], call: str, time: int) -> None:
        if ours and self.recorder is not None:
            self.recorder.leave(entered, ours, stop.result)
        if call:
            self._cut(call, time, entry=False)
        if entered.call.startswith("send") and self.manager is not None:
            self._listen()
        if self._until > 0 and not self._over and ours and entered.call == "write":
            self._until -= entered.bytes_at(1, entered.arguments[2]).count(TOLD)  # several may be told in one turn
            if self._until <= 0:
                os.kill(self._pid, signal.SIGTERM)

    def _cut(self, call: str, time: int, *, entry: bool) -> None:
        if self._kill == {"call": call, "time": time, "entry": entry}:
            os.kill(self._pid, signal.SIGKILL)
            self._over = True

    def _listen(self) -> None:
        assert self.manager is not None
        try:
            said = self.manager.recv(4096)
        except BlockingIOError:
            return
        if b"READY=1" in said and self._at_signal and not self._begun:
            os.kill(self._pid, signal.SIGUSR1)


def _listening(request: dict[str, Any]) -> socket.socket:
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    name = f"keyturn-surgeon-{os.getpid()}"
    manager.bind("\0" + name)
    request["environ"]["NOTIFY_SOCKET"] = "@" + name
    return manager


def _plain(path: str, root: str) -> str:
    """A path as it is in every run: below the root, without the random part of a name."""
    return RANDOM.sub("-*", path.removeprefix(root) if path.startswith(root) else ".")


def play(request: dict[str, Any]) -> None:
    """Become the command; never returns."""
    code = 70
    try:
        if request.get("model") in ("strict", "logged"):  # as on a file system that is known for nothing, or on btrfs
            mounts.NAMES_IN_ORDER = frozenset()
        if request.get("model") == "strict":
            mounts.NAMES_FOLLOW_FILES = frozenset()
        log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.environ.clear()
        os.environ.update(request["environ"])
        if "BOOT_ID" in request["environ"]:
            agent.audit.head.BOOT_ID = Path(request["environ"]["BOOT_ID"])
        os.chdir("/")
        code = main(request["arguments"])
    except SystemExit as error:
        code = int(error.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def operate(request: dict[str, Any]) -> dict[str, Any]:
    """Run a command to its end, or to ours."""
    if not request.get("trace"):
        return {"ended": os.waitstatus_to_exitcode(_run(request)), "calls": []}
    operation = Operation(request)
    status = traced(lambda: play(request), operation.watch, operation.signalled)
    _reap()
    if operation.manager is not None:
        operation.manager.close()
    if operation.recorder is not None:
        Path(request["record"]).write_bytes(pickle.dumps(operation.recorder.steps))
    return {"ended": os.waitstatus_to_exitcode(status), "calls": operation.calls}


def _run(request: dict[str, Any]) -> int:
    pid = os.fork()
    if pid == 0:
        play(request)
    if request.get("detached"):
        print(json.dumps({"pid": pid}), flush=True)
    _, status = os.waitpid(pid, WALL)
    _reap()
    return status


def _reap() -> None:
    """Wait for every hook that is still at work."""
    try:
        while True:
            os.waitpid(-1, WALL)
    except ChildProcessError:
        return


def serve() -> None:
    for place in (*wiring.SINKS.values(), *wiring.NOTIFIERS.values()):
        wiring.named(place)
    # What is asked at every start and is always the same: half of the time that a command takes.
    providers._installed = functools.cache(providers._installed)
    agent.config.converter.get_type_hints = functools.cache(get_type_hints)
    for codec in ("unicode_escape", "utf_8_sig", "idna"):  # imported by name when first used: not in every patient
        "x".encode(codec)
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    print(json.dumps({"numbers": len(NAMES)}), flush=True)
    for line in sys.stdin:
        print(json.dumps(operate(json.loads(line))), flush=True)


if __name__ == "__main__":
    serve()
