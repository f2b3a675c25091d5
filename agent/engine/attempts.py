"""The refreshes of one credential: the attempt in flight, those that wait, and the workers that never came back."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future

from agent.core.events import Actor, Cause, Trigger
from agent.core.outcome import Report
from agent.refresh.managed_credential import ManagedCredential
from agent.runtime.workers import Work
from agent.system.waiting import Activity

NEVER = float("-inf")


class Attempt:
    """One refresh, from its start to its report. Changed by its own methods alone, on the loop's thread.

    Attributes:
        activity: what its worker waits for.
        number: the how many-th try it is for those who wait.
    """

    def __init__(self, cause: Cause, retry_until: float | None = None, number: int = 1) -> None:
        """Keep why it is made; nobody waits for it yet.

        Args:
            cause: for the audit.
            retry_until: boottime until which temporary failures are tried again before they are reported.
            number: the how many-th try for those who wait.
        """
        self.activity = Activity()
        self.number = number
        self._cause, self._retry_until = cause, retry_until
        self._futures: list[Future[Report]] = []
        self._work: Work | None = None
        self._asked_at: float | None = None
        self._waits_for: set[str] = set()
        self._is_over = False

    @property
    def cause(self) -> Cause:
        """The reason for which it is made."""
        return self._cause

    @property
    def is_urgent(self) -> bool:
        """Whether an emergency waits for it."""
        return self._cause.trigger is Trigger.EMERGENCY

    @property
    def is_over(self) -> bool:
        """Whether it ended, or was given up on: a late answer is thrown away."""
        return self._is_over

    @property
    def waits_for(self) -> frozenset[str]:
        """The base credentials that are refreshed first."""
        return frozenset(self._waits_for)

    @property
    def work(self) -> Work | None:
        """The call to the source."""
        return self._work

    def awaited(self) -> Future[Report]:
        """Return a future of its report."""
        future: Future[Report] = Future()
        self._futures.append(future)
        return future

    def follow(self, other: Attempt) -> None:
        """Take over the futures of another attempt, and its patience where it has one."""
        self._futures += other._futures
        other._futures = []
        if other._retry_until is not None:
            self._retry_until = other._retry_until

    def asked_by_person(self, cause: Cause) -> None:
        """Have the audit name the person who waits for it, rather than the schedule."""
        if cause.trigger in (Trigger.OPERATOR, Trigger.EMERGENCY):
            self._cause = cause

    def again(self, number: int = 1) -> Attempt:
        """Return an attempt that takes the place of this one."""
        attempt = Attempt(self._cause, self._retry_until, number)
        attempt.follow(self)
        return attempt

    def wait_for(self, bases: Iterable[str]) -> None:
        """Wait for these credentials to be refreshed."""
        self._waits_for = set(bases)

    def heard_from(self, base: str) -> bool:
        """Note that a base answered; return whether nothing is waited for any more."""
        self._waits_for.discard(base)
        return not self._waits_for and not self._is_over

    def asks(self, work: Work) -> None:
        """Note the call to the source."""
        self._work = work

    @property
    def asked_at(self) -> float | None:
        """The boottime at which the call to the source began; None while it waits for its turn."""
        return self._asked_at

    def begins_to_ask(self, now: float) -> None:
        """Note that the call to the source begins. On its worker."""
        self._asked_at = now

    def finish(self) -> None:
        """Note that it is over; its futures are still open."""
        self._is_over = True

    def report(self, report: Report) -> None:
        """Answer all its futures."""
        futures, self._futures = self._futures, []
        for future in futures:
            if future.set_running_or_notify_cancel():
                future.set_result(report)

    def patience_left_s(self, now: float) -> float:
        """Return for how many more seconds temporary failures are tried again; 0.0 for not at all."""
        return max(0.0, (self._retry_until or 0.0) - now)


class RefreshSlot:
    """The refreshes of one credential, as the engine keeps them. Changed by its own methods alone, on the loop's thread."""

    def __init__(self, managed: ManagedCredential) -> None:
        self.managed = managed
        self._attempt: Attempt | None = None
        self._queued: Attempt | None = None
        self._retried: Attempt | None = None
        self._emergency: Cause | None = None
        self._abandoned: list[Work] = []
        self._is_tried = False
        self._key_refused = False
        self._answered_at = NEVER

    # -- attempts -----------------------------------------------------------------------------------

    @property
    def attempt(self) -> Attempt | None:
        """The attempt in flight."""
        return self._attempt

    @property
    def is_queued(self) -> bool:
        """Whether an attempt waits for the one in flight to end."""
        return self._queued is not None

    def begin(self, attempt: Attempt) -> None:
        """Put an attempt in flight."""
        assert self._attempt is None, "one refresh in flight per credential"
        self._attempt = attempt

    def end(self) -> None:
        """Note that the attempt in flight ended."""
        self._attempt = None

    def queue(self, attempt: Attempt) -> Attempt:
        """Have an attempt begin once the one in flight has ended; return the one that will stand for it."""
        if self._queued is None:
            self._queued = attempt
        else:
            self._queued.follow(attempt)
            self._queued.asked_by_person(attempt.cause)
        return self._queued

    def next_queued(self) -> Attempt | None:
        """Take out and return the queued attempt."""
        queued, self._queued = self._queued, None
        return queued

    @property
    def retried(self) -> Attempt | None:
        """The attempt that comes after the one that failed."""
        return self._retried

    def retry_later(self, attempt: Attempt) -> None:
        """Keep those who wait for a refresh that failed, until it is tried again."""
        again = attempt.again(attempt.number + 1)
        if self._retried is not None:
            again.follow(self._retried)
        self._retried = again

    def next_retry(self) -> Attempt | None:
        """Take out and return the attempt that is to be made again."""
        retried, self._retried = self._retried, None
        return retried

    def throw_away(self) -> None:
        """Forget the attempt in flight; whoever waits for it waits for the next one instead."""
        if self._attempt is not None:
            self._attempt.finish()
            again, self._attempt = self._attempt.again(), None
            if self._queued is None:
                self._queued = again
            else:
                self._queued.follow(again)

    def dissolve(self, report: Report) -> None:
        """Answer everybody who waits with this report: there will be no more attempts."""
        for attempt in (self._attempt, self._queued, self._retried):
            if attempt is not None:
                attempt.finish()
                attempt.report(report)
        self._attempt = self._queued = self._retried = None

    # -- workers ------------------------------------------------------------------------------------

    def abandon(self, work: Work) -> None:
        """Leave the call of the attempt in flight behind: its deadlines have passed."""
        self._abandoned.append(work)

    def hanging(self) -> int:
        """Return how many calls were left behind and still hang."""
        self._abandoned = [work for work in self._abandoned if not work.is_over]
        return len(self._abandoned)

    # -- what came of them --------------------------------------------------------------------------

    @property
    def is_tried(self) -> bool:
        """Whether the first pass need not wait for it: it was asked, or what was published before still stands."""
        return self._is_tried

    @property
    def key_refused(self) -> bool:
        """Whether the last refresh failed because a service refused the key that signed: its base's."""
        return self._key_refused

    @property
    def answered_at(self) -> float:
        """The boottime of the last refresh that went well."""
        return self._answered_at

    def tried(self) -> None:
        """Note that the first pass need not wait for it."""
        self._is_tried = True

    def answered(self, now: float) -> None:
        """Note that a refresh went well."""
        self._key_refused, self._answered_at = False, now

    def failed(self, *, key_refused: bool) -> None:
        """Note that a refresh failed."""
        self._key_refused = key_refused

    def forget_answer(self) -> None:
        """Forget when it answered, so that what builds on it waits for the new source's answer."""
        self._answered_at = NEVER

    # -- an emergency -------------------------------------------------------------------------------

    @property
    def emergency(self) -> Cause | None:
        """The `rotate` that is under way; the schedule leaves the credential alone meanwhile."""
        return self._emergency

    @property
    def operator(self) -> Actor | None:
        """The operator who runs it; None where nobody does, or it is not known who."""
        return self._emergency.actor if self._emergency is not None else None

    def hold(self, cause: Cause) -> None:
        """Give the credential to an emergency."""
        self._emergency = cause

    def release(self) -> None:
        """Give it back to the schedule."""
        self._emergency = None
