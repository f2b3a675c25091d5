"""Child processes that report in lines, into one queue, and that never outlive the demo, not even one that is killed.

Decision: one thread per child reads its pipe, and every wait is a wait for the queue. So there is no sleep, and
the death of one child ends the wait for another one. Signals become messages too: an exception out of a handler
could strike between the start of a child and the note that it was started.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from agent.core.errors import KeyturnError
from agent.system import core_dumps

STOP_S = 10.0
"""Seconds that a child may take to end after SIGTERM before it is killed."""
TIED = (sys.executable, "-P", "-m", "agent.demo.tied")
"""Makes a command end with this process, even where that is killed."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

clock = time.monotonic
"""The clock of all waits, in seconds; time in suspend does not count."""


class DemoError(KeyturnError):
    """The demo did not go as it should."""


class ChildEndedError(DemoError):
    """A child has ended, with `status`."""

    def __init__(self, name: str, status: int, fate: str) -> None:
        super().__init__(f"{name} {fate}", "run it again with --directory DIR, which keeps all logs")
        self.name, self.status = name, status


@dataclass(frozen=True, slots=True)
class Said:
    """A line of a child.

    Attributes:
        who: the child; empty for a signal to the demo itself.
        words: its JSON object, or `{"text": line}`; None when the child has ended.
        at: the time, by `clock`.
    """

    who: str
    words: dict[str, Any] | None
    at: float

    def says(self, event: str, **fields: object) -> bool:
        """Return whether it reports `event` with these fields."""
        words, wanted = self.words or {}, {"event": event, **fields}
        return all(words.get(name) == value for name, value in wanted.items())


class Child:
    """A process whose output goes to the queue and into its log file."""

    def __init__(self, name: str, argv: Sequence[str], env: Mapping[str, str], log: Path, out: queue.SimpleQueue[Said]):
        self.name = name
        self._out, self._last = out, ""
        self._log = log.open("a", encoding="utf-8")
        # In a session of its own: Ctrl-C on the terminal reaches the demo alone, which then ends its children in order.
        with core_dumps.limit_as_before():
            self._process = subprocess.Popen(
                [*TIED, str(os.getpid()), *argv], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, start_new_session=True, text=True, encoding="utf-8", errors="replace",
            )  # fmt: skip
        self._reader = threading.Thread(target=self._read, name=f"reads {name}", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The process id, which cannot be reused before `stop` has returned."""
        return self._process.pid

    def stop(self) -> int:
        """Send SIGTERM, then SIGKILL if it does not end, and return its status."""
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
        return self.wait()

    def wait(self) -> int:
        """Wait for its end, and return its status, negative for the signal that ended it."""
        status = self._process.wait()
        self._reader.join(STOP_S)
        return status

    def fate(self) -> str:
        """Return how it ended, with its last lines."""
        status = self.wait()
        ended = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        return f"{ended}; its last line: {self._last}" if self._last else ended

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines, self._log as log:
            for line in lines:
                log.write(line)
                log.flush()
                self._last = line.strip()
                self._out.put(Said(self.name, _words(self._last), clock()))
        self._out.put(Said(self.name, None, clock()))


class Children:
    """All children by name. A context manager that leaves none behind."""

    def __init__(self) -> None:
        self._said: queue.SimpleQueue[Said] = queue.SimpleQueue()
        self._children: dict[str, Child] = {}

    def __enter__(self) -> Children:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _tb: TracebackType | None
    ) -> None:
        for name in reversed(list(self._children)):
            self.stop(name)

    def __getitem__(self, name: str) -> Child:
        return self._children[name]

    def start(self, name: str, argv: Sequence[str], log: Path) -> None:
        """Start a child; its output also goes to the file `log`."""
        self._children[name] = Child(name, argv, environment(), log, self._said)

    def stop(self, name: str) -> int:
        """End a child and return its status, without a message of its end."""
        return self._children.pop(name).stop()

    def hear(self, until: float) -> Said | None:
        """Return the next line of any child, or None when `until` (of `clock`) comes first.

        Raises:
            DemoError: a child has ended.
            KeyboardInterrupt: the demo itself was told to end.
        """
        while True:
            try:
                said = self._said.get(timeout=max(0.0, until - clock()))
            except queue.Empty:
                return None
            if said.words is not None:
                return said
            if not said.who:
                raise KeyboardInterrupt
            if said.who in self._children:
                self._mourn(said.who)

    def run(self, name: str, argv: Sequence[str], log: Path, within_s: float) -> Iterator[Said]:
        """Run a child that ends by itself, and yield the lines of all children meanwhile, its own included.

        Raises:
            DemoError: it fails, or does not end within `within_s` seconds; or as `hear`.
        """
        self.start(name, argv, log)
        until = clock() + within_s
        while (said := self._hear_or_end(name, until)) is not None:
            yield said

    def _hear_or_end(self, name: str, until: float) -> Said | None:
        try:
            said = self.hear(until)
        except ChildEndedError as ended:
            if ended.name != name or ended.status:
                raise
            return None
        if said is None:
            raise DemoError(f"{name} did not end in time", "run it again on a machine that is less busy")
        return said

    def _mourn(self, name: str) -> None:
        child = self._children.pop(name)
        raise ChildEndedError(name, child.wait(), child.fate())

    @contextmanager
    def hearing_signals(self) -> Iterator[None]:
        """Turn signals that ask the demo to end into messages, within the block. To be used in the main thread."""

        def note(_number: int, _frame: FrameType | None) -> None:
            self._said.put(Said("", None, clock()))

        # One that is ignored, as by nohup, stays ignored.
        heeded = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        before = {number: signal.signal(number, note) for number in heeded}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def environment() -> dict[str, str]:
    """Return our environment without a proxy, another config or our own service manager."""
    mine = {"KEYTURN_CONFIG", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "JOURNAL_STREAM"}
    return {
        name: value for name, value in os.environ.items() if name not in mine and not name.lower().endswith("_proxy")
    }


def _words(line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"text": line}
