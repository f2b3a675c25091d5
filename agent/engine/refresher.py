"""What runs the refreshes: one in flight per credential, behind its bases and before its followers.

* Whoever asks for a refresh while one is in flight gets the next, since the one in flight may have asked the source
  before the request was made.
* A source that does not come back within its deadline is given up on: the worker is left behind, its late
  answer thrown away, and after `MAX_ABANDONED` such workers no further one is started for that credential.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

from agent.core import policy
from agent.core.errors import (
    CancelledError,
    KeyturnError,
    SourceUnavailableError,
    UsageError,
    VerifyRefusedError,
)
from agent.core.events import Cause, Event, Trigger
from agent.core.outcome import Outcome, Report, Result
from agent.engine.attempts import Attempt, RefreshSlot
from agent.engine.collaborators import Collaborators
from agent.engine.dependency_graph import bases_to_ask, followers
from agent.logs.log import log
from agent.refresh.managed_credential import ManagedCredential
from agent.refresh.obtained import Obtained
from agent.refresh.pipeline import obtain, publish
from agent.runtime.event_loop import safely
from agent.runtime.scheduler import Job, JobKind
from agent.runtime.workers import Lane
from agent.system.waiting import tried

MAX_ABANDONED = 3
KEY_REFUSED = ("InvalidAccessKeyId", "InvalidSecurityToken")
"""Codes by which a service says that the key which signed is no good (Alibaba Cloud: common error codes)."""
GRACE_S = 5.0
"""What a worker may overrun its own deadlines by before it is left behind."""
BY_HAND = (Trigger.START, Trigger.OPERATOR, Trigger.SIGNAL)
"""Somebody started, asked or signalled: perhaps after mending a dependent that was given up on."""


class Refresher:
    """The one that makes attempts, from their start to their report. Belongs to the loop's thread."""

    def __init__(
        self, slots: Mapping[str, RefreshSlot], parts: Collaborators, fetch_timeout_s: float, ended: Callable[[], None]
    ) -> None:
        """Keep what it works with; nothing is started yet.

        Args:
            slots: of every credential, by name.
            parts: whom it works with.
            fetch_timeout_s: seconds for one fetch.
            ended: called after each attempt.
        """
        self._slots, self._parts = slots, parts
        self._fetch_timeout_s, self._tell_ended = fetch_timeout_s, ended

    def refresh(self, name: str, cause: Cause, *, retry_until: float | None = None) -> Future[Report]:
        """Refresh one credential now; return a future of what comes of it.

        Args:
            name: of the credential.
            cause: for the audit.
            retry_until: boottime until which temporary failures are tried again before they are reported.
        """
        attempt = Attempt(cause, retry_until)
        future = attempt.awaited()
        slot = self._slots.get(name)
        if slot is None:
            attempt.report(Report(name, None, gone(name)))
        elif slot.attempt is None:
            self._begin(slot, attempt)
        else:
            slot.queue(attempt)
        return future

    def begin_queued(self, slot: RefreshSlot) -> bool:
        """Begin what waits for a slot without an attempt; return whether something did."""
        queued = slot.next_queued()
        if queued is not None:
            self._begin(slot, queued)
        return queued is not None

    def throw_away(self, slot: RefreshSlot) -> None:
        """Forget the attempt in flight; whoever waits for it waits for the next one instead."""
        self._parts.scheduler.clear(Job(JobKind.OVERRUN, slot.managed.name))
        slot.throw_away()

    def under_way(self, name: str) -> str:
        """Return what the refresh of a credential waits for; "" where none is under way."""
        slot = self._slots[name]
        attempt, retried = slot.attempt, slot.retried
        error, place = slot.managed.state.health.last_error, f"credentials.{name}"
        if attempt is not None and attempt.waits_for:
            return ""  # what it is built on is under way, and says so
        if attempt is not None:
            before = f"; try {attempt.number - 1} failed ({error})" if attempt.number > 1 else ""
            return f"{place}: {attempt.activity}{before}"
        at = self._parts.scheduler.at(Job(JobKind.RETRY, name))
        if retried is None or at is None:
            return ""
        return tried(place, retried.number - 1, error, next_s=at - self._parts.clock.boottime())

    def dissolve(self, slot: RefreshSlot) -> None:
        """Let go of a credential that left the config; whoever waits for it is told so."""
        name = slot.managed.name
        slot.dissolve(Report(name, None, gone(name)))
        for kind in (JobKind.REFRESH, JobKind.OVERRUN, JobKind.RETRY):
            self._parts.scheduler.clear(Job(kind, name))
        self._parts.health.forget(slot.managed)

    # -- one attempt --------------------------------------------------------------------------------

    def _begin(self, slot: RefreshSlot, attempt: Attempt) -> None:
        """Start an attempt on a slot that has none: its bases first, then its own source."""
        parts = self._parts
        slot.begin(attempt)
        parts.planner.clear(slot.managed)
        # An interrupted publish is finished or undone before there can be another one.
        unmended = parts.recovery.mend(slot.managed, then=parts.dispatcher.owe)
        if unmended is not None:
            parts.loop.post(partial(self._obtained, slot, attempt, None, unmended))
            return
        bases = bases_to_ask(self._slots, slot, parts.clock.now(), parts.clock.boottime())
        if not bases:
            self._obtain(slot, attempt)
            return
        attempt.wait_for(bases)
        for name in bases:
            # A base in flight serves as it is: no second call. Whatever it answers, this attempt goes on.
            flying = self._slots[name].attempt
            answer = self.refresh(name, attempt.cause) if flying is None else flying.awaited()
            heard = partial(self._base_answered, slot, attempt, name)
            answer.add_done_callback(lambda _done, heard=heard: safely(heard))  # type: ignore[misc]

    def _base_answered(self, slot: RefreshSlot, attempt: Attempt, name: str) -> None:
        """Ask the source once all bases have answered.

        Also where a base failed: its kept value may still live, and else the provider names it (base_credentials.py).
        """
        if attempt.heard_from(name):
            self._obtain(slot, attempt)

    def _obtain(self, slot: RefreshSlot, attempt: Attempt) -> None:
        managed, parts = slot.managed, self._parts
        hanging = slot.hanging()
        # A source that never comes back must not cost a thread at each try.
        if hanging >= MAX_ABANDONED:
            error = SourceUnavailableError(
                f"credentials.{managed.name}: {hanging} earlier calls to the source still hang",
                "look at the network and the name service of this machine",
            )
            parts.loop.post(partial(self._obtained, slot, attempt, None, error))
            return
        queued = (parts.clock.now(), parts.clock.boottime())
        attempt.asks(
            parts.loop.start(
                partial(self._ask, managed, attempt, *queued),
                partial(self._obtained, slot, attempt),
                Lane.URGENT if attempt.is_urgent else Lane.REFRESH,
                first=attempt.cause.trigger is Trigger.OPERATOR,
            )
        )
        self._watch(slot, attempt, self._deadline_s(slot))

    def _ask(self, managed: ManagedCredential, attempt: Attempt, queued: datetime, queued_at: float) -> Obtained:
        """Ask the source. On a worker, which may have had to wait for its turn since it was queued."""
        if attempt.is_over:  # a reload threw it away while it waited: the config may name its source no more
            raise CancelledError("nobody waits for it any more")
        boottime = self._parts.clock.boottime
        began_at = boottime()
        attempt.begins_to_ask(began_at)
        now = queued + timedelta(seconds=began_at - queued_at)
        return obtain(managed, now, boottime, self._parts.loop.cancel, attempt.activity)

    def _deadline_s(self, slot: RefreshSlot) -> float:
        return self._fetch_timeout_s + float(slot.managed.settings.verify_timeout) + GRACE_S

    def _watch(self, slot: RefreshSlot, attempt: Attempt, seconds: float) -> None:
        job = Job(JobKind.OVERRUN, slot.managed.name)
        self._parts.scheduler.set(job, seconds, partial(self._overrun, slot, attempt))

    def _overrun(self, slot: RefreshSlot, attempt: Attempt) -> None:
        work = attempt.work
        if attempt.is_over or work is None or work.is_over:
            return  # its answer was heard, or is in the loop's inbox
        # The source has its whole time, however long the call waited for its turn among a thousand others.
        now = self._parts.clock.boottime()
        left_s = self._deadline_s(slot) - (now - (attempt.asked_at or now))
        if left_s > 0:
            self._watch(slot, attempt, left_s)
            return
        slot.abandon(work)
        self._parts.loop.abandon(work)
        late = SourceUnavailableError(
            f"credentials.{slot.managed.name}: the source did not come back within its deadlines",
            "look at the network and the name service; the value in use stays",
        )
        self._obtained(slot, attempt, None, late)

    def _obtained(self, slot: RefreshSlot, attempt: Attempt, got: Obtained | None, error: BaseException | None) -> None:
        if attempt.is_over:
            return  # came back after it had been given up on
        attempt.finish()
        managed, parts = slot.managed, self._parts
        parts.scheduler.clear(Job(JobKind.OVERRUN, managed.name))
        outcome = None
        if got is not None:
            managed.polls_every(got.poll_s)
            try:
                outcome = publish(managed, got, attempt.cause, parts.recorder, parts.clock.now(), parts.clock.boottime)
            except Exception as failure:
                error = failure
                parts.health.failed(managed, Event.PUBLISH_FAILED, failure, attempt.cause)
                # Only the record is missing: the old key may be dying, so the dependents are told all the same.
                if managed.state.journal.is_switched:
                    managed.put_right()
                    parts.dispatcher.owe(managed, urgent=attempt.is_urgent)
        elif error is not None and not isinstance(error, CancelledError):  # no failure: the agent stops
            event = Event.VERIFY_FAILED if isinstance(error, VerifyRefusedError) else Event.FETCH_FAILED
            parts.health.failed(managed, event, error, attempt.cause)
        self._finish(slot, attempt, outcome, _ours(error))

    def _finish(self, slot: RefreshSlot, attempt: Attempt, outcome: Outcome | None, error: KeyturnError | None) -> None:
        managed, parts = slot.managed, self._parts
        parts.in_use_changed(managed.name)
        following = self._take_note(slot, attempt, outcome, error)
        slot.end()
        if parts.loop.cancel.is_set():
            return  # the agent is stopping: nothing is planned any more
        parts.planner.plan(managed)
        left_s = attempt.patience_left_s(parts.clock.boottime())
        if error is not None and error.retryable and left_s > 0:
            slot.retry_later(attempt)
            delay_s = min(policy.backoff(managed.state.health.failures, random.random()), max(0.1, left_s))
            parts.scheduler.set(Job(JobKind.RETRY, managed.name), delay_s, partial(self._retry, slot))
        else:
            attempt.report(Report(managed.name, outcome, error))
        # The followers renew behind the report, with the same cause, so that an operator's act shows in their audit too.
        for name in following:
            reason = attempt.cause.reason or f"credentials.{managed.name} changed"
            self.refresh(name, replace(attempt.cause, reason=reason))
        slot.tried()
        self._tell_ended()
        if slot.attempt is None:
            self.begin_queued(slot)

    def _take_note(
        self, slot: RefreshSlot, attempt: Attempt, outcome: Outcome | None, error: KeyturnError | None
    ) -> list[str]:
        """Note what came of an attempt; return the followers that are to renew now."""
        managed, parts = slot.managed, self._parts
        if outcome is None:
            if error is not None:
                parts.bases.failed(managed.name, error)
                slot.failed(key_refused=error.code.startswith(KEY_REFUSED))
            return []
        was_astray = managed.put_right()
        came_back = parts.health.succeeded(managed, attempt.cause, outcome)
        slot.answered(parts.clock.boottime())
        if managed.value is not None:
            parts.bases.put(managed.name, managed.value)
        # Files that were put right are news as well: somebody may have read what stood there before.
        if was_astray or outcome.result is not Result.UNCHANGED:
            parts.dispatcher.owe(managed, urgent=attempt.is_urgent)
        elif attempt.cause.trigger in BY_HAND:
            parts.dispatcher.resume(managed, attempt.cause.trigger)
        # A base that came back may be what its followers failed for.
        changed = outcome.result is Result.PUBLISHED or came_back
        return followers(self._slots, managed.name) if changed else []

    def _retry(self, slot: RefreshSlot) -> None:
        attempt = slot.next_retry()
        if attempt is None:
            return
        if slot.attempt is None:
            self._begin(slot, attempt)
        else:  # the schedule was faster: its attempt takes over who waits, and their patience
            slot.attempt.follow(attempt)


def gone(name: str) -> KeyturnError:
    """Return the error for a credential that a reload took away."""
    return UsageError(f"credentials.{name} is not in the config any more", "see `keyturn status`")


def _ours(error: BaseException | None) -> KeyturnError | None:
    if error is None or isinstance(error, KeyturnError):
        return error
    log.error("a fault of keyturn itself; please report it", exc_info=error)
    return KeyturnError(f"a fault of keyturn itself ({type(error).__name__})", "please report it with the log")
