"""The engine: all credentials at work on one loop, and the only door to them.

It serves the daemon (agent/app/daemon.py adds signals, the service manager and the control socket) and the commands
that run without one (`once`, `refresh`, `rotate`): the same code does the work either way. All its methods belong to
the loop's thread, but for those below "from other threads". Frozen copies are handed out (agent/engine/snapshot.py).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import Future
from functools import partial
from typing import TypeVar

from agent.audit.log import AuditLog
from agent.core.errors import BusyError, RotatedByScheduleError
from agent.core.events import Cause, Trigger
from agent.core.observer import Observer, Observers
from agent.core.outcome import Report
from agent.core.provider import FETCH_TIMEOUT_S
from agent.engine.attempts import RefreshSlot
from agent.engine.base_credentials import BaseCredentials
from agent.engine.collaborators import assembled
from agent.engine.dependency_graph import family, in_order
from agent.engine.held_credential import HeldCredential
from agent.engine.in_use import InUse, Offered, in_use_of, offered_by
from agent.engine.key_holders import Holder, holders, names_of_holders
from agent.engine.refresher import Refresher, gone
from agent.engine.reload import take_over
from agent.engine.snapshot import CredentialSnapshot, EngineSnapshot, snapshot_of
from agent.engine.version_held import VersionHeld, version_held
from agent.logs.log import log
from agent.refresh.managed_credential import ManagedCredential
from agent.refresh.sink_look import SinkLook
from agent.runtime.event_loop import EventLoop, safely, settle
from agent.runtime.scheduler import Job, JobKind
from agent.runtime.workers import Lane
from agent.sinks.interface import Sink
from agent.state.alarm_record import Seen
from agent.state.store import StateStore
from agent.system.clock import Clock

T = TypeVar("T")
Done = Callable[[T | None, BaseException | None], None]


class Engine:
    """All credentials at work on one loop."""

    def __init__(
        self,
        credentials: Iterable[ManagedCredential],
        *,
        audit: AuditLog,
        states: StateStore,
        settle_s: float,
        clock: Clock | None = None,
        fetch_timeout_s: float = FETCH_TIMEOUT_S,
        bases: BaseCredentials | None = None,
        loop: EventLoop | None = None,
    ) -> None:
        """Put the parts together; nothing is read and no source is asked before `recover` and `start_all`."""
        self._clock = clock or Clock()
        self._loop = loop or EventLoop()
        self._parts = assembled(
            self._loop,
            self._clock,
            audit,
            states,
            bases=bases or BaseCredentials(),
            settle_s=settle_s,
            everyone=self._everyone,
            due=self._scheduled,
            in_use_changed=self._in_use_changed,
        )
        self._scheduler = self._parts.scheduler
        self._observers = Observers()
        self._in_use_watchers: list[Callable[[str], None]] = []
        self._slots = {managed.name: RefreshSlot(managed) for managed in credentials}
        self._refresher = Refresher(self._slots, self._parts, fetch_timeout_s, self._look_whether_passed)
        self._has_passed, self._stopping = False, False
        self._at_first_pass: list[Callable[[], None]] = []
        self._after_turns: list[Callable[[], None]] = []

    @property
    def clock(self) -> Clock:
        """The clock that everything here goes by."""
        return self._clock

    def _everyone(self) -> list[ManagedCredential]:
        return [slot.managed for slot in self._slots.values()]

    # -- life ---------------------------------------------------------------------------------------

    def recover(self, progress: Callable[[], None] = lambda: None) -> None:
        """Put right what a crash left, and plan to tell those who are still owed news. Comes before everything else.

        Args:
            progress: called again and again, since a thousand credentials take a while.

        Raises:
            KeyturnError: what is remembered of a credential cannot be read.
        """
        everyone = self._everyone()
        for managed in everyone:
            self._parts.recovery.recall(managed)
            self._parts.recovery.mend(managed)
            managed.look_for_sinks()
            progress()
        for managed in everyone:
            self._parts.recovery.sweep([managed], everyone)
            progress()
        self._parts.dispatcher.wire(everyone)
        for managed in everyone:
            if managed.state.debts:
                self._parts.dispatcher.owe(managed)
        self._parts.outcomes.write_down()

    def start_all(self) -> None:
        """Ask at once for what does not stand on disk, and plan the rest.

        How long a credential whose files stand may wait: `first_refresh` in agent/core/policy.py.
        """
        for name in in_order(self._slots):
            self._loop.post_end(partial(self._start, name))
        self._loop.post_end(self._look_whether_passed)

    def _start(self, name: str) -> None:
        slot = self._slots.get(name)
        if slot is None or slot.attempt is not None:
            return  # a reload, or an operator, was faster
        if self._parts.planner.begin(slot):
            slot.tried()
        else:
            self.refresh(name, Cause(Trigger.START))

    def run(self, until: Callable[[], bool] = lambda: False) -> None:
        """Run the loop until `stop` is called or `until` holds."""
        while not self._stopping and not until():
            self._loop.turn(0.0 if self._parts.outcomes.pending else self._scheduler.next_at())
            step = self._scheduler.clock_step()
            if step:
                log.warning("the wall clock was stepped", seconds=round(step, 1))
                self._parts.planner.stepped(self._slots.values())
            self._scheduler.collect()
            while act := self._scheduler.take():
                safely(act)
                if not self._loop.has_time():
                    break
            for act in (self._parts.outcomes.write_down, *self._after_turns):
                safely(act)

    def stop(self) -> None:
        """End `run` after the present turn; tell workers to come back."""
        self._stopping = True
        self._loop.stop_working()

    def linger(self, patience_s: float) -> None:
        """Give workers `patience_s` seconds to come back after `run`: hooks are killed, emergencies record their end."""
        deadline = self._clock.boottime() + patience_s
        while (self._loop.busy(Lane.CANARY) or self.in_emergency()) and self._clock.boottime() < deadline:
            self._loop.turn(min(deadline, self._clock.boottime() + 0.1))
        self._loop.drain()
        self._parts.outcomes.write_down()

    def reload(self, credentials: Iterable[ManagedCredential], settle_s: float) -> None:
        """Go by the credentials of a new config; what is remembered of those that stay is kept.

        Raises:
            KeyturnError: nothing was changed; the text says why.
        """
        before = list(self._slots)
        take_over(self._slots, self._parts, self._refresher, credentials, settle_s)
        for name in dict.fromkeys([*self._slots, *before]):
            self._in_use_changed(name)
        self._look_whether_passed()

    # -- from other threads and signal handlers -----------------------------------------------------

    def wake_on_signals(self) -> None:
        """Have every signal end the loop's sleep. From the main thread."""
        self._loop.wake_on_signals()

    def post(self, message: Callable[[], None]) -> None:
        """Have the loop call `message`."""
        self._loop.post(message)

    def submit(self, function: Callable[[], T]) -> Future[T]:
        """Have the loop call `function`; return a future of what it returns or raises."""
        return self._loop.submit(function)

    def ask(self, function: Callable[[], T]) -> Future[T]:
        """Do as `submit` does, by way of the scheduler: an answer is evidence that the scheduler moves."""
        future: Future[T] = Future()
        act = partial(settle, future, function)
        self._loop.post(lambda: self._scheduler.set(Job(JobKind.CALL, id(future)), 0.0, act))
        return future

    def stops_within(self, seconds: float) -> bool:
        """Sleep for so many seconds; return whether the agent is stopping, as soon as it is."""
        return self._loop.cancel.wait(seconds)

    def work(self, work: Callable[[], T], done: Done[T], lane: Lane = Lane.URGENT) -> None:
        """Have a worker call `work`, and then the loop `done(value, error)`."""
        self._loop.start(work, done, lane)

    # -- what happens by itself ---------------------------------------------------------------------

    def observe(self, observer: Observer) -> None:
        """Have an observer called for each refresh and each notification, beside those that are called already."""
        self._observers.add(observer)
        self._parts.health.observe(self._observers)
        self._parts.dispatcher.observe(self._observers)

    def watch_in_use(self, act: Callable[[str], None]) -> None:
        """Call `act` with every credential now, and then with each whose offer may have changed: its value, config, emergency."""
        self._in_use_watchers.append(act)
        for name in self._slots:
            safely(partial(act, name))

    def _in_use_changed(self, name: str) -> None:
        for act in self._in_use_watchers:
            safely(partial(act, name))

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        """Call `act` once in so many seconds, instead of what was planned for it before."""
        self._scheduler.set(Job(JobKind.CALL, act), seconds, act)

    def every(self, pause_s: Callable[[], float | None], act: Callable[[], None]) -> None:
        """Call `act` again and again, as long as the scheduler moves.

        Args:
            pause_s: asked after each call for the seconds until the next; None ends it.
            act: what is called; first in `pause_s()` seconds.
        """
        seconds = pause_s()
        if seconds is not None:
            self._scheduler.set(Job(JobKind.EVERY, act), seconds, partial(self._again, pause_s, act))

    def _again(self, pause_s: Callable[[], float | None], act: Callable[[], None]) -> None:
        safely(act)
        self.every(pause_s, act)

    def when_passed(self, act: Callable[[], None]) -> None:
        """Call `act` once the first pass over all credentials has ended, whatever its outcome."""
        self._at_first_pass.append(act)

    def after_turns(self, act: Callable[[], None]) -> None:
        """Call `act` after each turn of the loop: something may have changed."""
        self._after_turns.append(act)

    def key_restricted(self, name: str, key_id: str, error: str, cause: Cause) -> None:
        """Take note that a call for a credential was refused, since the key that signed it is restricted as leaked."""
        self._parts.health.keys.restricted(name, key_id, error, cause, Seen.SOURCE)

    def key_accepted(self, key_id: str) -> None:
        """Take note that a key was let in by what refuses restricted ones."""
        self._parts.health.keys.accepted(key_id)

    # -- refreshing ---------------------------------------------------------------------------------

    def refresh(self, name: str, cause: Cause, *, retry_until: float | None = None) -> Future[Report]:
        """Refresh one credential now; return a future of what comes of it: see `Refresher.refresh`."""
        return self._refresher.refresh(name, cause, retry_until=retry_until)

    def refresh_all(self, trigger: Trigger) -> None:
        """Refresh every credential now, but for those that an emergency holds."""
        for name in in_order(self._slots):
            self._loop.post_end(partial(self._refresh_for, name, trigger))

    def _refresh_for(self, name: str, trigger: Trigger) -> None:
        slot = self._slots.get(name)
        if slot is not None and slot.emergency is None:
            self.refresh(name, Cause(trigger))

    def tell_now(self, names: Collection[str], *, again: bool = False) -> Future[None]:
        """Tell those who are owed news without settling or splay; return a future that is done when every debt was tried.

        Args:
            names: of credentials; those that left the config are passed over.
            again: owe the present generation anew to whoever was not told of it, also where it was given up.
        """
        for slot in self._known(names):
            if again:
                self._parts.dispatcher.owe_again(slot.managed)
            self._parts.dispatcher.owe(slot.managed, urgent=True)
        return self._parts.dispatcher.when_tried(set(names))

    def hold(self, name: str, cause: Cause) -> HeldCredential:
        """Give a credential to an emergency, one at a time; the schedule leaves it alone until it is released.

        Raises:
            BusyError: an emergency is under way.
            UsageError: the credential left the config.
        """
        slot = self._slots.get(name)
        if slot is None:
            raise gone(name)
        if slot.emergency is not None:
            by = f" by {slot.operator.user}" if slot.operator else ""
            kind = BusyError if slot.operator else RotatedByScheduleError
            raise kind(
                f"credentials.{name}: a `keyturn rotate`{by} is under way ({slot.emergency.reason}) and goes on by itself",
                "run the same command again in a minute: it takes up what is left, and does not rotate again",
            )
        slot.hold(cause)
        self._in_use_changed(name)
        return HeldCredential(
            slot,
            self._parts,
            slots=self._slots,
            under_way=self.under_way,
            refresh=lambda other: self.refresh(other, cause),
            tell_now=partial(self.tell_now, again=True),
            release=partial(self._release, name),
        )

    def _release(self, name: str) -> None:
        slot = self._slots.get(name)
        if slot is None:
            return
        slot.release()
        self._in_use_changed(name)
        if slot.attempt is None and not self._refresher.begin_queued(slot) and slot.managed.next_refresh_at is None:
            self._parts.planner.plan(slot.managed)

    def _scheduled(self, name: str) -> None:
        slot = self._slots.get(name)
        if slot is None:
            return  # let go since it was planned
        if slot.emergency is not None:
            self._parts.planner.plan(slot.managed)
            return
        polled = slot.managed.state.published.expiration is None
        self.refresh(name, Cause(Trigger.POLL if polled else Trigger.SCHEDULE))

    def _look_whether_passed(self) -> None:
        """Say once that the first pass has ended: after an attempt, or a reload that took away what was waited for."""
        if not self._has_passed and all(slot.is_tried for slot in self._slots.values()):
            self._has_passed = True
            for act in self._at_first_pass:
                act()

    # -- looking ------------------------------------------------------------------------------------

    def names(self) -> list[str]:
        """Return all credentials, each behind those that it builds on."""
        return in_order(self._slots)

    def sink_looks(self) -> dict[str, SinkLook]:
        """Return what another thread needs to look at the sinks of each credential whose value is known."""
        return {name: look for name, slot in self._slots.items() if (look := slot.managed.sink_look()) is not None}

    def snapshot(self, looked: Iterable[tuple[str, SinkLook, Mapping[str, bool]]] = ()) -> EngineSnapshot:
        """Return what can be seen now; `looked` is what `SinkLook.compare` found at the sinks of each credential."""
        for name, look, found in looked:
            if name in self._slots:
                self._slots[name].managed.looked(look, found)
        return EngineSnapshot(
            self._clock.now(),
            self._has_passed,
            tuple(snapshot_of(s.managed, self._clock, is_tried=s.is_tried) for s in self._slots.values()),
            self._parts.health.client_keys(),
        )

    def look(self, name: str) -> CredentialSnapshot | None:
        """Return what can be seen of one credential; None where it is not in the config."""
        slot = self._slots.get(name)
        return snapshot_of(slot.managed, self._clock, is_tried=slot.is_tried) if slot is not None else None

    def sinks(self) -> dict[str, tuple[Sink, ...]]:
        """Return the sinks of each credential, the very ones that are published to."""
        return {name: slot.managed.sinks for name, slot in self._slots.items()}

    def in_use(self, name: str) -> InUse | None:
        """Return what a credential has to offer to those who ask; None where it is not in the config."""
        slot = self._slots.get(name)
        return in_use_of(slot.managed) if slot is not None else None

    def version_held(self, name: str) -> VersionHeld | None:
        """Return which version of a key this host holds, and who here has not moved; None where it is not in the config."""
        return version_held(self._slots, name)

    def offered(self, name: str) -> Offered | None:
        """Return where a credential's readers find it; None where that is not to be watched, or it is not in the config."""
        slot = self._slots.get(name)
        return offered_by(slot.managed, self.in_emergency) if slot is not None else None

    def in_emergency(self) -> frozenset[str]:
        """Return the credentials whose key a `rotate` is replacing, all that hold it included."""
        held = [name for name, slot in self._slots.items() if slot.emergency is not None]
        return frozenset().union(*(names_of_holders(self._slots, name) for name in held))

    def holders(self, name: str) -> tuple[Holder, ...]:
        """Return everybody who holds the key that a credential published last, itself included; none where it is unknown."""
        slot = self._slots.get(name)
        return holders(self._slots, name, slot.managed.state.published.access_key_id, self._clock) if slot else ()

    def under_way(self, names: Collection[str]) -> str:
        """Return what whoever asked for a refresh of these credentials, or all, waits for; "" where that is nothing."""
        touched = family(self._slots, names or self._slots)
        refreshes = [text for name in touched if (text := self._refresher.under_way(name))]
        return "; ".join([*refreshes, *self._parts.dispatcher.under_way(touched)])

    def at_rest(self, names: Collection[str]) -> list[str] | None:
        """Return every credential that a refresh of `names` can touch; None while one of them is being refreshed."""
        touched = family(self._slots, names)
        return touched if all(self._slots[name].attempt is None for name in touched) else None

    def owes(self, names: Collection[str]) -> bool:
        """Return whether one of these credentials owes news to anybody."""
        return any(slot.managed.state.debts for slot in self._known(names))

    def _known(self, names: Collection[str]) -> list[RefreshSlot]:
        """Return the slots of those names that are in the config: a reload may have taken others away."""
        return [self._slots[name] for name in names if name in self._slots]
