"""An engine driven by hand: real files, real workers, and a clock that stands still until it is moved."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from agent.audit.log import AuditLog
from agent.audit.reader import read
from agent.core.events import Cause, Event, Trigger
from agent.core.outcome import Report
from agent.core.settings import CredentialSettings, FilePath
from agent.engine.attempts import RefreshSlot
from agent.engine.collaborators import Collaborators
from agent.engine.engine import Engine
from agent.refresh.managed_credential import ManagedCredential
from agent.runtime.event_loop import EventLoop
from agent.sinks.formats.json_file import JsonFile, JsonSettings
from agent.state.store import StateStore
from agent.system.clock import Clock
from tests.support.fakes import PATIENCE_S, FakeDependent, Source, key
from tests.support.processes import eventually


class WatchedLog(AuditLog):
    """Calls `before` with each event that is about to be recorded."""

    before: Callable[[str], None] = staticmethod(lambda _event: None)

    def record(self, event: Event, *, flush: bool = True, **fields: Any) -> dict[str, Any]:
        self.before(str(event))
        return super().record(event, flush=flush, **fields)

    def record_all(self, entries: Sequence[tuple[Event, Mapping[str, Any]]], *, flush: bool = True) -> None:
        for event, _fields in entries:
            self.before(str(event))
        super().record_all(entries, flush=flush)


FAR_AHEAD_S = 1e6
"""The still clock lies so far in the future that the kernel's alarm never rings by itself."""


class StillClock(Clock):
    """Moves only when it is told to, both ways of reading it alike."""

    def __init__(self) -> None:
        self._boot = super().boottime() + FAR_AHEAD_S
        self._now = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)

    def now(self) -> datetime:
        return self._now

    def boottime(self) -> float:
        return self._boot

    def move(self, seconds: float) -> None:
        self._boot += seconds
        self._now += timedelta(seconds=seconds)


class Bench:
    """One engine over `directory`."""

    def __init__(self, directory: Path, clock: StillClock | None = None, **options: Any) -> None:
        self.directory = directory
        self.clock = clock or StillClock()
        self.audit_path = directory / "audit.jsonl"
        self.states = StateStore(directory / "state")
        self.states.prepare()
        self.audit = WatchedLog(self.audit_path, directory / "state" / "audit-head", self.clock.now)
        self.loop = EventLoop()
        self.engine = Engine(
            [], audit=self.audit, states=self.states, settle_s=2.0, clock=self.clock, loop=self.loop, **options
        )
        if isinstance(self.clock, StillClock):  # the real one goes on beside it, which is no step
            self.parts.scheduler.clock_step = lambda: 0.0  # type: ignore[method-assign]

    @property
    def parts(self) -> Collaborators:
        """Whom the engine works with, for tests that drive one of them alone."""
        return self.engine._parts

    @property
    def slots(self) -> dict[str, RefreshSlot]:
        return self.engine._slots

    # -- building -----------------------------------------------------------------------------------

    def managed(
        self,
        name: str = "a",
        *,
        notify: Iterable[FakeDependent] = (),
        sinks: int = 2,
        source: Source | None = None,
        **more: Any,
    ) -> ManagedCredential:
        """A credential with JSON sinks `NAME.0`, `NAME.1`, … that is proved by nobody."""
        source = source or Source(name)
        settings = CredentialSettings(provider=source.settings, verify="off", **more)
        paths = [FilePath(self.sink(name, number)) for number in range(sinks)]
        files = tuple(JsonFile(JsonSettings(type="json", path=path)) for path in paths)
        return ManagedCredential(name, settings, source, None, files, tuple(notify), source=source.label)

    def sink(self, name: str = "a", number: int = 0) -> Path:
        return self.directory / f"{name}.{number}"

    def begin(self, *credentials: ManagedCredential) -> Bench:
        """Put the credentials to work, as a start does."""
        self.slots.update({managed.name: RefreshSlot(managed) for managed in credentials})
        self.engine.recover()
        return self

    # -- driving ------------------------------------------------------------------------------------

    def until(self, there: Callable[[], object]) -> None:
        """Let the engine turn until something holds; fail where it never does."""
        ended, late = threading.Event(), threading.Event()

        def wake() -> None:
            # The clock may have been moved, and a worker may do what is waited for without a word to the loop.
            deadline = time.monotonic() + PATIENCE_S
            while not ended.wait(0.01):
                if time.monotonic() > deadline:
                    late.set()
                self.engine.post(lambda: None)

        waker = threading.Thread(target=wake, daemon=True)
        waker.start()
        self.engine.post(lambda: None)
        try:
            self.engine.run(until=lambda: bool(there()) or late.is_set())
        finally:
            ended.set()
            waker.join()
        assert not late.is_set(), "it did not happen"

    def settle_down(self) -> None:
        """Let the engine turn until every worker has come back and was heard."""
        eventually(lambda: not self.loop.busy(), "every worker comes back")
        heard: list[bool] = []
        self.loop.post_end(lambda: heard.append(True))
        self.until(lambda: heard)

    def move(self, seconds: float) -> None:
        """Let time pass, and the engine notice."""
        self.clock.move(seconds)
        self.settle_down()
        self.settle_down()

    def refresh(self, name: str = "a", trigger: Trigger = Trigger.POLL) -> Report:
        """One refresh, to its end."""
        report = self.engine.refresh(name, Cause(trigger))
        self.until(report.done)
        return report.result(0)

    def publish(self, managed: ManagedCredential, number: int) -> Report:
        """Have the source change to value `number`, and publish it."""
        source = managed.provider
        assert isinstance(source, Source)
        source.value = key(number)
        report = self.refresh(managed.name)
        assert report.outcome is not None, report.error
        return report

    # -- looking ------------------------------------------------------------------------------------

    def records(self, *events: str) -> list[dict[str, Any]]:
        return [record for record in read(self.audit_path, print) if not events or record["event"] in events]

    def events(self) -> list[str]:
        return [record["event"] for record in self.records()]

    # -- breaking -----------------------------------------------------------------------------------

    def break_audit(self) -> None:
        """From now on the audit log cannot be written: a directory stands where it was."""
        self.audit_path.rename(self.directory / "audit.jsonl.aside")
        self.audit_path.mkdir()

    def mend_audit(self) -> None:
        """The log is back."""
        self.audit_path.rmdir()
        (self.directory / "audit.jsonl.aside").rename(self.audit_path)

    def break_state(self) -> None:
        """From now on no state can be written: its files are away and their place is a file."""
        (self.directory / "state" / "credentials").rename(self.directory / "state" / "aside")
        (self.directory / "state" / "credentials").touch()

    def mend_state(self) -> None:
        """The state is back."""
        (self.directory / "state" / "credentials").unlink()
        (self.directory / "state" / "aside").rename(self.directory / "state" / "credentials")

    def close(self) -> None:
        self.engine.stop()
        self.audit.close()
