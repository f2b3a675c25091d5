"""The engine: decides when each credential is refreshed, and is the only one that changes state.

It serves the daemon (daemon.py adds signals, the service manager and the control socket) and the commands
that run without one (`once`, `refresh`, `rotate`): the same code does the work either way.

Rules that it keeps:
* One refresh in flight per credential. Whoever asks for one meanwhile gets the next, since the one in
  flight may have asked the source before the request was made.
* A source that does not come back within its deadline is given up on: the worker is left behind, its late
  answer thrown away, and after `MAX_ABANDONED` such workers no further one is started for that credential.
* The audit has one `fetch_failed` for a run of failures with the same reason, and one `recovered`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial

from agent.audit import AuditLog
from agent.core import policy
from agent.core.errors import (
    BusyError,
    CancelledError,
    KeyturnError,
    SourceUnavailableError,
    UsageError,
    VerifyRefusedError,
)
from agent.core.events import Cause, Event, Trigger
from agent.core.observer import Observer
from agent.core.outcome import Outcome, Report
from agent.core.provider import FETCH_TIMEOUT_S
from agent.dispatch.dispatcher import Dispatcher
from agent.engine.attempts import Attempt, RefreshSlot
from agent.engine.base_credentials import BaseCredentials
from agent.engine.dependency_graph import bases_to_ask, followers, in_order
from agent.engine.health import Health
from agent.engine.planner import RefreshPlanner
from agent.logs.log import log
from agent.refresh.journal import PublishJournal
from agent.refresh.managed_credential import ManagedCredential
from agent.refresh.obtained import Obtained
from agent.refresh.pipeline import obtain, publish
from agent.refresh.recovery import CrashRecovery
from agent.runtime.event_loop import EventLoop, safely
from agent.runtime.scheduler import Scheduler
from agent.state.store import StateStore
from agent.system.clock import Clock

MAX_ABANDONED = 3
KEY_REFUSED = ("InvalidAccessKeyId", "InvalidSecurityToken")
"""Codes by which a service says that the key which signed is no good (Alibaba Cloud: common error codes)."""
GRACE_S = 5.0
"""What a worker may overrun its own deadlines by before it is left behind."""
BY_HAND = (Trigger.START, Trigger.OPERATOR, Trigger.SIGNAL)
"""Somebody started, asked or signalled: perhaps after mending a dependent that was given up on."""


__all__ = ["GRACE_S", "MAX_ABANDONED", "Engine", "RefreshSlot", "Report"]


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
        shelf: BaseCredentials | None = None,
    ) -> None:
        self.clock = clock or Clock()
        self._fetch_timeout_s = fetch_timeout_s
        self.audit, self.states, self.books = audit, states, PublishJournal(audit, states)
        self.memory = CrashRecovery(self.books, self.clock)
        self.loop = EventLoop()
        self.scheduler = Scheduler(self.clock.boottime)
        self.dispatcher = Dispatcher(self.loop, self.scheduler, self.clock, audit, states, settle_s)
        self.health = Health(self.scheduler, self.clock, audit, states)
        self.timetable = RefreshPlanner(self.scheduler, self.clock, self.health)
        self.shelf = shelf or BaseCredentials()
        self.desks = {managed.name: RefreshSlot(managed) for managed in credentials}
        self.on_first_pass: Callable[[], None] = lambda: None
        self.on_turn: Callable[[], None] = lambda: None
        self.timers: dict[str, Callable[[], None]] = {}
        self._stopping = False
        self.passed = False  # the first pass over all credentials has ended

    def observe(self, observer: Observer) -> None:
        """Have somebody hear of each refresh and each notification."""
        self.health.observer = self.dispatcher.observer = observer

    # -- life ---------------------------------------------------------------------------------------

    def recover(self) -> None:
        """Put right what a crash left, and plan what is still owed. Comes before everything else."""
        everyone = [desk.managed for desk in self.desks.values()]
        for managed in everyone:
            self.memory.recall(managed)
            self.memory.mend(managed)
            managed.look_for_sinks()
        self.memory.sweep(everyone)
        self.dispatcher.wire(everyone)
        for managed in everyone:
            if managed.state.debts:
                self.dispatcher.owe(managed)

    def run(self, until: Callable[[], bool] = lambda: False) -> None:
        """Turn until `stop` is called or `until` holds."""
        while not self._stopping and not until():
            self.loop.turn(self.scheduler.next_at())
            step = self.scheduler.clock_step()
            if step:
                log.warning("the wall clock was stepped", seconds=round(step, 1))
                self.timetable.stepped(self.desks.values())
            for name in self.scheduler.collect():
                safely(partial(self._ring, name))
            safely(self.on_turn)

    def stop(self) -> None:
        """End `run` after the present message; tell workers to come back."""
        self._stopping = True
        self.loop.cancel.set()

    # -- refreshing ---------------------------------------------------------------------------------

    def refresh(
        self,
        name: str,
        cause: Cause,
        report: Callable[[Report], None] | None = None,
        *,
        retry_until: float | None = None,
    ) -> None:
        """Refresh one credential now.

        Args:
            name: of the credential.
            cause: for the audit.
            report: called once with what came of it.
            retry_until: boottime until which temporary failures are tried again before they are reported.
        """
        waiting = [report] if report else []
        desk = self.desks.get(name)
        if desk is None:
            for tell in waiting:
                tell(Report(name, None, gone(name)))
        elif desk.attempt is None:
            self.begin(desk, Attempt(desk.managed, cause, waiting, retry_until))
        elif desk.queued is None:
            desk.queued = Attempt(desk.managed, cause, waiting, retry_until)
        else:
            desk.queued.waiting.extend(waiting)
            if cause.trigger in (Trigger.OPERATOR, Trigger.EMERGENCY):
                desk.queued.cause = cause

    def tell_now(self, name: str, done: Callable[[], None]) -> None:
        """Pay what a credential owes without settling or splay; call `done` when every debt was tried."""
        desk = self.desks.get(name)
        if desk is not None:
            self.dispatcher.owe_again(desk.managed)
            self.dispatcher.owe(desk.managed, urgent=True)
        self.dispatcher.when_tried({name}, done)

    def begin_emergency(self, managed: ManagedCredential, cause: Cause) -> None:
        """Have one emergency at a time on a credential, and keep the schedule's hands off it.

        Raises:
            BusyError: one is under way.
            UsageError: the credential left the config.
        """
        desk = self.desks.get(managed.name)
        if desk is None:
            raise gone(managed.name)
        if desk.emergency is not None:
            by = f" by {desk.emergency.actor.user}" if desk.emergency.actor else ""
            raise BusyError(
                f"credentials.{managed.name}: a `keyturn rotate`{by} is under way ({desk.emergency.reason}) and goes on "
                "by itself",
                "run the same command again in a minute: it takes up what is left, and does not rotate again",
            )
        desk.emergency = cause

    def end_emergency(self, managed: ManagedCredential) -> None:
        """Give the credential back to the schedule."""
        desk = self.desks.get(managed.name)
        if desk is None:
            return
        desk.emergency = None
        if desk.attempt is None and not self.begin_queued(desk) and desk.managed.next_refresh_at is None:
            self.timetable.plan(desk.managed)

    def start_all(self) -> None:
        """Begin: ask at once for what does not stand on disk, and look at the rest when it is time (policy.py)."""
        for name in in_order(self.desks):
            if self.timetable.begin(self.desks[name]):
                self.desks[name].tried = True
            else:
                self.refresh(name, Cause(Trigger.START))
        self.look_whether_passed()

    def refresh_all(self, trigger: Trigger) -> None:
        """Refresh every credential now."""
        for name in in_order(self.desks):
            if self.desks[name].emergency is None:
                self.refresh(name, Cause(trigger))

    def begin(self, desk: RefreshSlot, attempt: Attempt) -> None:
        """Start an attempt on a desk that has none: what it builds on first, then its own source."""
        desk.attempt = attempt
        self.timetable.clear(desk.managed)
        unmended = self.memory.mend(desk.managed, then=self.dispatcher.owe)
        if unmended is not None:
            self.loop.post(partial(self._obtained, desk, attempt, None, unmended))
            return
        bases = bases_to_ask(self.desks, desk, self.clock.now(), self.clock.boottime())
        if not bases:
            self._obtain(desk, attempt)
            return
        attempt.waits_for = set(bases)
        for name in bases:
            report = partial(self._base_answered, desk, attempt, name)
            flying = self.desks[name].attempt
            if flying is None:
                self.refresh(name, attempt.cause, report)
            else:
                flying.waiting.append(report)

    def _base_answered(self, desk: RefreshSlot, attempt: Attempt, name: str, _report: Report) -> None:
        """A base that failed is the provider's to name (bases.py): its value may live on."""
        attempt.waits_for.discard(name)
        if not attempt.waits_for and not attempt.over:
            self._obtain(desk, attempt)

    def _obtain(self, desk: RefreshSlot, attempt: Attempt) -> None:
        managed = desk.managed
        desk.abandoned = [thread for thread in desk.abandoned if thread.is_alive()]
        if len(desk.abandoned) >= MAX_ABANDONED:
            hanging = SourceUnavailableError(
                f"credentials.{managed.name}: {len(desk.abandoned)} earlier calls to the source still hang",
                "look at the network and the name service of this machine",
            )
            self.loop.post(partial(self._obtained, desk, attempt, None, hanging))
            return
        deadline_s = self._fetch_timeout_s + float(managed.settings.verify_timeout) + GRACE_S
        self.scheduler.set(f"overrun {managed.name}", deadline_s)
        attempt.thread = self.loop.start(
            partial(obtain, managed, self.clock.now(), self.clock.boottime, self.loop.cancel),
            partial(self._obtained, desk, attempt),
            urgent=attempt.cause.trigger is Trigger.EMERGENCY,
        )

    def _obtained(self, desk: RefreshSlot, attempt: Attempt, got: Obtained | None, error: BaseException | None) -> None:
        if attempt.over:
            return  # came back after it had been given up on
        attempt.over = True
        self.scheduler.clear(f"overrun {desk.managed.name}")
        outcome = None
        if got is not None:
            desk.managed.poll_s = got.poll_s
            try:
                outcome = publish(desk.managed, got, attempt.cause, self.books, self.clock.now(), self.clock.boottime)
            except Exception as failure:
                error = failure
                self.health.failed(desk.managed, Event.PUBLISH_FAILED, failure, attempt.cause)
                if desk.managed.state.switched:  # only its record is missing: the dependents are told all the same
                    desk.managed.astray = False
                    self.dispatcher.owe(desk.managed, urgent=attempt.cause.trigger is Trigger.EMERGENCY)
        elif error is not None and not isinstance(error, CancelledError):
            event = Event.VERIFY_FAILED if isinstance(error, VerifyRefusedError) else Event.FETCH_FAILED
            self.health.failed(desk.managed, event, error, attempt.cause)
        self._finish(desk, attempt, outcome, _ours(error))

    def _finish(self, desk: RefreshSlot, attempt: Attempt, outcome: Outcome | None, error: KeyturnError | None) -> None:
        managed = desk.managed
        following = self._take_note(desk, attempt, outcome, error)
        desk.attempt = None
        if self._stopping:
            return
        self.timetable.plan(managed)
        if error is not None and error.retryable and self._retries(attempt):
            others = desk.again.waiting if desk.again else []
            desk.again = Attempt(managed, attempt.cause, [*attempt.waiting, *others], attempt.retry_until)
            left_s = (attempt.retry_until or 0.0) - self.clock.boottime()
            delay_s = min(policy.backoff(managed.state.consecutive_failures, random.random()), max(0.1, left_s))
            self.scheduler.set(f"retry {managed.name}", delay_s)
        else:
            for report in attempt.waiting:
                report(Report(managed.name, outcome, error))
        for name in following:
            self.refresh(
                name, replace(attempt.cause, reason=attempt.cause.reason or f"credentials.{managed.name} changed")
            )
        self._after(desk)

    def _take_note(
        self, desk: RefreshSlot, attempt: Attempt, outcome: Outcome | None, error: KeyturnError | None
    ) -> list[str]:
        """Remember what came of an attempt; return those that build on it and are to renew now."""
        managed = desk.managed
        if outcome is None:
            if error is not None:
                self.shelf.failed(managed.name, error)
                desk.key_refused = error.code.startswith(KEY_REFUSED)
            return []
        desk.key_refused = False
        was_astray, managed.astray = managed.astray, False
        came_back = managed.state.consecutive_failures > 0
        self.health.succeeded(managed, attempt.cause, outcome)
        desk.answered_at = self.clock.boottime()
        if managed.value is not None:
            self.shelf.put(managed.name, managed.value)
        if was_astray or outcome.what in ("published", "repaired"):
            self.dispatcher.owe(managed, urgent=attempt.cause.trigger is Trigger.EMERGENCY)
        elif attempt.cause.trigger in BY_HAND:
            self.dispatcher.resume(managed, attempt.cause.trigger)
        return followers(self.desks, managed.name) if outcome.what == "published" or came_back else []

    def _after(self, desk: RefreshSlot) -> None:
        desk.tried = True
        self.look_whether_passed()
        self.begin_queued(desk)

    def begin_queued(self, desk: RefreshSlot) -> bool:
        """Begin what waits for a desk without an attempt; False where nothing does."""
        queued, desk.queued = desk.queued, None
        if queued is not None:
            self.begin(desk, queued)
        return queued is not None

    def look_whether_passed(self) -> None:
        """Say that the first pass has ended, once: after an attempt, or a reload that took away what was waited for."""
        if not self.passed and all(other.tried for other in self.desks.values()):
            self.passed = True
            self.on_first_pass()

    def _retries(self, attempt: Attempt) -> bool:
        return attempt.retry_until is not None and self.clock.boottime() < attempt.retry_until

    def _retry(self, desk: RefreshSlot) -> None:
        attempt, desk.again = desk.again, None
        if attempt is None:
            return
        if desk.attempt is None:
            self.begin(desk, attempt)
        else:  # the schedule was faster: its attempt takes over who waits, and their patience
            desk.attempt.waiting.extend(attempt.waiting)
            desk.attempt.retry_until = attempt.retry_until

    def _overrun(self, desk: RefreshSlot) -> None:
        attempt = desk.attempt
        if attempt is None or attempt.over:
            return
        if attempt.thread is not None:
            desk.abandoned.append(attempt.thread)
        late = SourceUnavailableError(
            f"credentials.{desk.managed.name}: the source did not come back within its deadlines",
            "look at the network and the name service; the value in use stays",
        )
        self._obtained(desk, attempt, None, late)

    # -- when ---------------------------------------------------------------------------------------

    def _ring(self, name: str) -> None:
        kind, _blank, rest = name.partition(" ")
        desk = self.desks.get(rest)
        if kind == "tell":
            self.dispatcher.due(name)
        elif name in self.timers:
            self.timers[name]()
        elif desk is None:
            return  # let go since it was planned
        elif kind == "refresh":
            self._scheduled(desk)
        elif kind == "overrun":
            self._overrun(desk)
        elif kind == "retry":
            self._retry(desk)
        elif kind == "stale":
            self.health.rang(desk.managed)

    def _scheduled(self, desk: RefreshSlot) -> None:
        if desk.emergency is not None:
            self.timetable.plan(desk.managed)
            return
        trigger = Trigger.POLL if desk.managed.state.published.expiration is None else Trigger.SCHEDULE
        self.refresh(desk.managed.name, Cause(trigger))


def gone(name: str) -> KeyturnError:
    """The error for a credential that a reload took away."""
    return UsageError(f"credentials.{name} is not in the config any more", "see `keyturn status`")


def _ours(error: BaseException | None) -> KeyturnError | None:
    if error is None or isinstance(error, KeyturnError):
        return error
    log.error("a fault of keyturn itself; please report it", exc_info=error)
    return KeyturnError(f"a fault of keyturn itself ({type(error).__name__})", "please report it with the log")
