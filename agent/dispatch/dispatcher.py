"""Who is told, when, and what happens when it fails: every dependent until it has heard.

What is owed stands in the state of each credential (`Debt`), written with the publish itself; this module
pays it. A dependent is all notifiers of the config with the same identity, whichever credentials name them. The rules:

* A dependent is told `settle` seconds after the publish plus a random part of its `splay`, so that credentials
  that change together tell the same dependent once. An emergency waits for neither.
* Within one credential, a lower `order` is told first. The next order does not wait for a success, only
  for the first attempt: one dependent that fails or hangs delays no other for longer than its `timeout`.
* A dependent of several credentials whose turn has come for some of them waits `settle` for the others, to be told
  once; then it is told of those, and later of the rest. So no slow hook of one credential holds up the news of
  another, and two credentials that order the same dependents the other way round do not wait for each other.
* A failure is retried with back-off until `retries` or `retry_for` is used up, then given up, loudly. A
  newer generation supersedes what is owed of an older one and starts the count anew.
* While the files of a credential do not agree yet (a switch failed half way), nobody is told: recovery comes
  first, and owes the news anew. Nor while they are not there (a start after their tmpfs was emptied).
* After a restart whatever is still owed is tried at least once, however old.
* A dependent whose spelling was mended in the config has another identity: what was owed to the old one, or given up, is
  owed to those that the config names anew, in this or a later reload, until the next publish. What was given up is tried
  again when an operator refreshes or reloads.
* A coalesced `exec` or `http` gets the event of the credential that was published last; the audit names
  every credential.
* The audit holds the first failure of a debt and each failure with another reason, not every attempt.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any

from agent.core import policy
from agent.core.errors import CancelledError
from agent.core.events import Event, Trigger
from agent.core.observer import NOBODY, Observer
from agent.dispatch.delivery import Heard, look, tell
from agent.dispatch.dependent import Dependent, Owed
from agent.dispatch.orders import Orders
from agent.dispatch.outcomes import Outcomes
from agent.logs.log import describe, log
from agent.notifiers.interface import HookFailedError, Notifier, Pickup, Told
from agent.refresh.managed_credential import ManagedCredential
from agent.runtime.event_loop import EventLoop
from agent.runtime.scheduler import Scheduler
from agent.runtime.workers import Lane
from agent.state.records import Debt, called
from agent.system.clock import Clock
from agent.system.waiting import tried


class Dispatcher:
    """The one that pays what is owed to dependents. Belongs to the loop's thread."""

    def __init__(
        self, loop: EventLoop, scheduler: Scheduler, clock: Clock, outcomes: Outcomes, settle_s: float
    ) -> None:
        self._loop, self._scheduler, self._clock = loop, scheduler, clock
        self._outcomes = outcomes
        self._settle_s = settle_s
        self._observer: Observer = NOBODY
        self._dependents: dict[tuple[str, ...], Dependent] = {}
        self._credentials: dict[str, ManagedCredential] = {}
        self._orders: dict[str, Orders] = {}
        self._listeners: list[Callable[[], None]] = []
        self._urgent: set[str] = set()
        self._waiting: set[tuple[str, ...]] = set()
        """The dependents that were due before their turn."""
        self._ended_for: dict[str, ManagedCredential] = {}
        """The credentials of which a dependent's delivery ended in this turn."""

    def observe(self, observer: Observer) -> None:
        """Have an observer called for each notification."""
        self._observer = observer

    def settle(self, seconds: float) -> None:
        """Have what changes within so many seconds told together, from now on."""
        self._settle_s = seconds

    def wire(self, credentials: Iterable[ManagedCredential]) -> None:
        """Learn the config's dependents, also after a reload; forget debts to those that are gone."""
        old, self._dependents = self._dependents, {}
        for dependent in old.values():
            dependent.leave()
            # Also one that the config leaves out: it may come back, and must not be told twice at once.
            if dependent.in_flight:
                self._dependents[dependent.identity] = dependent
        self._credentials = {managed.name: managed for managed in credentials}
        self._orders = {name: Orders(managed.notifiers) for name, managed in self._credentials.items()}
        for managed in self._credentials.values():
            for notifier in managed.notifiers:
                identity = notifier.identity
                dependent = self._dependents.get(identity) or old.get(identity) or Dependent(identity)
                self._dependents[identity] = dependent
                dependent.join(managed, notifier)
            self._forget_unnamed(managed)
        self._look_around()

    def owe(self, managed: ManagedCredential, *, urgent: bool = False) -> None:
        """Plan to tell the dependents that a credential owes news; `urgent` waits for no settling and no splay."""
        ledger = managed.state.ledger
        if urgent and ledger.debts:
            self._urgent.add(managed.name)
        for notifier in managed.notifiers:
            debt = ledger.debt_to(notifier.identity)
            if debt is not None:
                ledger.forget_pickup(notifier.identity)
                delay_s = 0.0 if urgent else self._settle_s + random.random() * float(notifier.settings.splay)
                # News does not wait for the retry of what came before it.
                dependent = self._dependents[notifier.identity]
                dependent.news(managed.name, debt)
                self._plan(dependent, delay_s, sooner=urgent or not debt.attempts)

    def owe_again(self, managed: ManagedCredential) -> None:
        """Owe the present generation anew to whoever was not told of it, also where it was given up."""
        ledger = managed.state.ledger
        ledger.owe_untold(self._debts_of_now(managed, Trigger.EMERGENCY))
        ledger.tried_by_nobody()

    def resume(self, managed: ManagedCredential, trigger: Trigger) -> None:
        """Owe the present generation anew to those that were given up on: an operator asks, and may have mended them."""
        if managed.state.ledger.owe_given_up(self._debts_of_now(managed, trigger)):
            self._outcomes.changed(managed)
            self.owe(managed)

    def look_again(self, names: set[str]) -> Future[None]:
        """Look once more at the dependents of these credentials that had not picked the newest value up.

        Somebody may have restarted one by hand since. Returns what is done when every look has ended.
        """
        looked: Future[None] = Future()
        behind = [
            (managed, notifier)
            for name, managed in self._credentials.items()
            for notifier in managed.notifiers
            if name in names and managed.state.ledger.pickup_of(notifier.identity) == Pickup.NOT_PICKED_UP
        ]
        left = len(behind)

        def ended(managed: ManagedCredential, notifier: Notifier, heard: Heard | None, _error: object) -> None:
            nonlocal left
            left -= 1
            if heard is not None:
                self._looked(managed, notifier, heard)
            if not left:
                self._outcomes.then(partial(_fulfil, looked))

        for managed, notifier in behind:
            since = managed.state.published.published_at or self._clock.now()
            types = {managed.name: managed.formats}
            news = threading.Event()
            work = partial(look, notifier, Told("looked at again"), since, self._loop.cancel, news, types)
            self._loop.start(work, partial(ended, managed, notifier), Lane.URGENT)
        if not behind:
            looked.set_result(None)
        return looked

    def _looked(self, managed: ManagedCredential, notifier: Notifier, heard: Heard) -> None:
        outcome, pickup = heard.about(managed.name)
        if self._credentials.get(managed.name) is not managed:
            return  # a reload let go of it meanwhile
        if managed.state.ledger.looked_at(notifier.identity, outcome, str(pickup)):
            self._outcomes.changed(managed)
            if pickup is Pickup.CONFIRMED:
                fields = {"generation": managed.state.published.generation, "notified": _whom(notifier)}
                self._outcomes.note(Event.PICKUP_CONFIRMED, credential=managed.name, **fields)

    def when_tried(self, names: set[str]) -> Future[None]:
        """Return a future that is done once every debt of these credentials was tried at least once, perhaps already.

        What came of it is written down before.
        """
        tried: Future[None] = Future()

        def listen() -> None:
            if self._untried(names):
                return
            self._listeners.remove(listen)
            if self._outcomes.pending:
                self._outcomes.then(partial(_fulfil, tried))
            else:
                _fulfil(tried)

        self._listeners.append(listen)
        listen()
        return tried

    def _untried(self, names: set[str]) -> bool:
        """Return whether one of these credentials owes news that was not tried yet, or is being told just now."""
        return any(
            debt.attempts == 0 or dependent.in_flight
            for dependent in self._dependents.values()
            for managed, _notifier, debt in dependent.owed()
            if managed.name in names
        )

    def under_way(self, names: Collection[str]) -> list[str]:
        """Return which dependents of these credentials are being told, or wait for the next try, in words."""
        return [
            text
            for dependent in self._dependents.values()
            if (text := self._waits(dependent, [each for each in dependent.owed() if each[0].name in names]))
        ]

    def _waits(self, dependent: Dependent, owed: Sequence[Owed]) -> str:
        if not owed:
            return ""
        _managed, notifier, debt = owed[0]
        now, at = self._clock.boottime(), self._scheduler.at(dependent.job)
        if dependent.in_flight:
            since_s = now - dependent.began
            return tried(_whom(notifier), debt.attempts + 1, dependent.last_error, for_s=since_s)
        if at is None:
            return ""
        if debt.attempts:
            return tried(_whom(notifier), debt.attempts, dependent.last_error, next_s=at - now)
        return f"{_whom(notifier)}: to be told in {max(0.0, at - now):.1f} s"

    def _debts_of_now(self, managed: ManagedCredential, trigger: Trigger) -> list[Debt]:
        return managed.debts_for(managed.state.published.generation, trigger, self._clock.now())

    def _plan(self, dependent: Dependent, delay_s: float, *, sooner: bool = False) -> None:
        planned = self._scheduler.at(dependent.job)
        if planned is None or (sooner and self._clock.boottime() + delay_s < planned):
            self._scheduler.set(dependent.job, delay_s, partial(self._ring, dependent.identity))

    # -- one try ------------------------------------------------------------------------------------

    def _ring(self, identity: tuple[str, ...]) -> None:
        dependent = self._dependents.get(identity)
        if dependent is None:
            return  # the config left it out since
        owed = list(dependent.owed())
        # A lower `order` of the same credential is tried first.
        ready = [each for each in owed if not self._waits_for_its_turn(*each[:2])]
        dependent.rang(waits_for_its_turn=bool(owed) and not ready)
        if dependent.in_flight or not ready or (len(ready) < len(owed) and self._waits_for_others(dependent, ready)):
            if dependent.waits:
                self._waiting.add(identity)
            return
        # One delivery serves all that are ready; it carries the event of the newest publish.
        managed, notifier, debt = max(ready, key=lambda entry: entry[0].state.published.published_at or entry[2].since)
        overtaken = dependent.begin({m.name: d for m, _n, d in ready}, self._clock.boottime())
        event = managed.event(debt.trigger)
        types = {m.name: m.formats for m, _n, _d in ready}
        self._loop.start(
            partial(tell, notifier, event, debt.since, self._loop.cancel, overtaken, types),
            partial(self._ended, dependent, ready),
            Lane.URGENT if self._is_urgent(ready) else Lane.TELL,
        )

    def _waits_for_its_turn(self, managed: ManagedCredential, notifier: Notifier) -> bool:
        return self._orders[managed.name].waits(notifier, managed.state.ledger)

    def _waits_for_others(self, dependent: Dependent, ready: list[Owed]) -> bool:
        """Return whether it is given a little time, so that it can be told of all its credentials at once."""
        if self._is_urgent(ready):
            return False
        now = self._clock.boottime()
        until = dependent.patient_until(now + self._settle_s)
        if now >= until:
            return False
        self._plan(dependent, until - now)
        return True

    def _is_urgent(self, owed: Iterable[Owed]) -> bool:
        return any(managed.name in self._urgent for managed, _n, _debt in owed)

    def _ended(self, dependent: Dependent, told: list[Owed], heard: Heard | None, error: BaseException | None) -> None:
        dependent.ended()
        if isinstance(error, CancelledError):
            return  # the agent stops; the debt stays on disk and is paid at the next start
        # One that left the config meanwhile, or left and came back, is remembered elsewhere now: its state is not ours.
        covered = [(m, n, debt) for m, n, debt in told if self._credentials.get(m.name) is m]
        for managed, notifier, debt in covered:
            # A repair may have owed the same generation anew since the telling began: that is another debt, and stays.
            still_owed = managed.state.ledger.owes(debt)
            if heard is not None:
                self._paid(managed, notifier, dependent, debt, heard, still_owed=still_owed)
            elif still_owed and error is not None:
                self._failed(managed, notifier, dependent, debt, error)
        dependent.failing(describe(error) if error is not None else "")
        self._plan_again(dependent, failed=error is not None)
        for managed, _notifier, _debt in covered:
            if managed.state.ledger.is_paid:
                self._urgent.discard(managed.name)
            self._ended_for[managed.name] = managed
        self._outcomes.then(self._go_on)

    def _go_on(self) -> None:
        """Go on with those who wait for the deliveries that ended, now that these are written down."""
        ended, self._ended_for = self._ended_for, {}
        for managed in ended.values():
            self._wake_next_order(managed)
        self._look_around()

    def _look_around(self) -> None:
        for listener in list(self._listeners):
            listener()

    def _paid(
        self,
        managed: ManagedCredential,
        notifier: Notifier,
        dependent: Dependent,
        debt: Debt,
        heard: Heard,
        *,
        still_owed: bool,
    ) -> None:
        dependent.settled(managed.name)
        # Told, but a dependent without evidence of a pickup may still use the old value: that is said with it.
        outcome, pickup = heard.about(managed.name)
        managed.state.ledger.told(debt, outcome, str(pickup))
        self._outcomes.changed(managed)
        self._observer.told(managed.name, notifier.type_name, "told")
        fields = {"credential": managed.name, "generation": debt.generation, "notified": _whom(notifier)}
        self._outcomes.note(Event.NOTIFIED, outcome="told", trigger=str(debt.trigger) if still_owed else None, **fields)
        if pickup is Pickup.CONFIRMED:
            self._outcomes.note(Event.PICKUP_CONFIRMED, **fields)
        say = log.warning if pickup is Pickup.NOT_PICKED_UP else log.info
        self._say(
            say,
            "notified",
            credential=managed.name,
            to=_whom(notifier),
            detail=heard.told.detail if managed.value else None,
            pickup=pickup,
            but=dependent.new_doubt(managed.name, outcome.text) or None,
        )

    def _failed(
        self, managed: ManagedCredential, notifier: Notifier, dependent: Dependent, debt: Debt, error: BaseException
    ) -> None:
        ledger = managed.state.ledger
        ledger.tried(debt)
        text, said = describe(error), _said(managed, error)
        settings = notifier.settings
        # `retry_for` counts from the first try in this process, so that old debts are tried at least once after a start.
        waited_s = self._clock.boottime() - dependent.tried_first(managed.name, debt)
        spent = settings.retries is not None and debt.attempts > settings.retries
        given_up = spent or waited_s >= float(settings.retry_for)
        fields = {"credential": managed.name, "generation": debt.generation, "notified": _whom(notifier)}
        if given_up:
            ledger.gave_up(debt, text)
            dependent.settled(managed.name)
            self._outcomes.note(Event.NOTIFY_GAVE_UP, error=text, outcome=f"{debt.attempts} attempts", **fields)
            say, what = log.error, "gave up telling a dependent"
        else:
            ledger.failed(debt, text)
            # The audit has one record for a run of failures with the same reason.
            if dependent.is_new_error(text):
                self._outcomes.note(Event.NOTIFY_FAILED, error=text, **fields)
            say, what = log.warning, "a dependent could not be told"
        self._say(say, what, credential=managed.name, to=_whom(notifier), error=text, output=said)
        self._observer.told(managed.name, notifier.type_name, "gave_up" if given_up else "failed")
        self._outcomes.changed(managed)

    def _say(self, say: Callable[..., Any], event: str, **fields: Any) -> None:
        """Log what happened once it is written down."""
        self._outcomes.then(partial(say, event, **fields))

    def _plan_again(self, dependent: Dependent, *, failed: bool) -> None:
        owed = list(dependent.owed())
        if not owed:
            return
        # What was not tried yet, and could be, does not wait for the back-off of what failed.
        news = [m for m, n, debt in owed if debt.attempts == 0 and not self._waits_for_its_turn(m, n)]
        urgent = any(managed.name in self._urgent for managed in news)
        attempts = max(debt.attempts for _m, _n, debt in owed)
        if failed and attempts and not news:
            self._plan(dependent, policy.backoff(attempts, random.random()))
        else:
            self._plan(dependent, 0.0 if urgent or dependent.rang_meanwhile else self._settle_s)

    def _wake_next_order(self, managed: ManagedCredential) -> None:
        for identity in tuple(self._waiting):
            dependent = self._dependents.get(identity)
            if dependent is None or not dependent.waits:
                self._waiting.discard(identity)  # it left the config, or was told of something else meanwhile
            elif not dependent.in_flight and any(m is managed for m, _n, _debt in dependent.owed()):
                self._plan(dependent, 0.0, sooner=True)

    def _forget_unnamed(self, managed: ManagedCredential) -> None:
        """Strike what is owed to dependents that the config no longer names, and owe it to those that it names for the first time.

        One of the latter may be the dependent that was not told, now spelt correctly.
        """
        ledger, generation = managed.state.ledger, managed.state.published.generation
        dropped, untold = ledger.drop_unnamed({notifier.identity for notifier in managed.notifiers}, generation)
        for debt in dropped:
            self._outcomes.note(
                Event.NOTIFY_GAVE_UP,
                credential=managed.name,
                generation=debt.generation,
                notified=called(debt.identity),
                error="the config no longer names this dependent",
            )
        if ledger.untold and ledger.untold == generation:
            ledger.owe_new(self._debts_of_now(managed, dropped[0].trigger if dropped else Trigger.OPERATOR))
        if untold:
            self._outcomes.changed(managed)


def _fulfil(future: Future[None]) -> None:
    if future.set_running_or_notify_cancel():
        future.set_result(None)


def _whom(notifier: Notifier) -> str:
    return f"{notifier.type_name} {notifier.target}"


def _said(managed: ManagedCredential, error: BaseException) -> str | None:
    """Return what a hook printed, for the log alone; withhold it while the secrets to be masked in it are not known yet."""
    if not isinstance(error, HookFailedError) or not error.output:
        return None
    return error.output if managed.value is not None else "(withheld: the value in use is not known yet)"
