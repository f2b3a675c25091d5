"""Who is told, when, and what happens when it fails: every dependent until it has heard.

What is owed stands in the state of each credential (`Debt`), written with the publish itself; this module
pays it. A *line* is one dependent: all notifiers of the config with the same identity, whichever
credentials name them. The rules:

* A line is paid `settle` seconds after the publish plus a random part of its `splay`, so that credentials
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
* A dependent that was mended in the config is another one by its identity: what was owed to the one before it, or given
  up, is owed to those that the config names anew, in this or a later reload, until the next publish. What was given up is
  tried again when an operator refreshes or reloads.
* A coalesced `exec` or `http` gets the event of the credential that was published last; the audit names
  every credential.
* The audit holds the first failure of a debt and each failure with another reason, not every attempt.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from agent.audit import AuditLog
from agent.core import policy
from agent.core.errors import AuditError, CancelledError, KeyturnError
from agent.core.events import Event, Trigger
from agent.core.observer import NOBODY, Observer
from agent.dispatch.delivery import Heard, tell
from agent.dispatch.dependent import Dependent
from agent.logs.log import describe, log
from agent.notifiers.interface import HookFailedError, Notifier, Pickup
from agent.refresh.managed_credential import ManagedCredential
from agent.runtime.event_loop import EventLoop
from agent.runtime.scheduler import Scheduler
from agent.state.records import GAVE_UP, Debt, called, key
from agent.state.store import StateStore
from agent.system.clock import Clock

TOLD_BUT = "told, but "
"""How the outcome begins of a notification that may have had no effect (notifiers/effect.py)."""


class Dispatcher:
    """Pays the debts. Belongs to the engine's thread."""

    def __init__(
        self, loop: EventLoop, scheduler: Scheduler, clock: Clock, audit: AuditLog, states: StateStore, settle_s: float
    ) -> None:
        self._loop, self._scheduler, self._clock = loop, scheduler, clock
        self._audit, self._states = audit, states
        self.settle_s = settle_s
        self.observer: Observer = NOBODY
        self._lines: dict[tuple[str, ...], Dependent] = {}
        self._credentials: dict[str, ManagedCredential] = {}
        self._listeners: list[Callable[[], None]] = []
        self._urgent: set[str] = set()

    def wire(self, credentials: Iterable[ManagedCredential]) -> None:
        """Learn the config's dependents, also after a reload; forget debts to those that are gone."""
        old, self._lines = self._lines, {}
        for line in old.values():
            line.members = []
            if line.in_flight:  # also one that the config leaves out: it may come back, and is not told twice at once
                self._lines[line.identity] = line
        self._credentials = {managed.name: managed for managed in credentials}
        for managed in self._credentials.values():
            for notifier in managed.notifiers:
                line = self._lines.setdefault(
                    notifier.identity, old.get(notifier.identity, Dependent(notifier.identity))
                )
                line.join(managed, notifier)
            self._forget_strangers(managed)
        self._look_around()

    def owe(self, managed: ManagedCredential, *, urgent: bool = False) -> None:
        """Plan the payment of what a credential owes; `urgent` waits for no settling and no splay."""
        if urgent and managed.state.debts:
            self._urgent.add(managed.name)
        debts = {debt.identity: debt for debt in managed.state.debts}
        for notifier in managed.notifiers:
            debt = debts.get(notifier.identity)
            if debt is not None:
                # What was seen of an earlier generation says nothing of this one.
                managed.state.pickup.pop(key(notifier.identity), None)
                delay_s = 0.0 if urgent else self.settle_s + random.random() * float(notifier.settings.splay)
                # News does not wait for the retry of what came before it.
                line = self._lines[notifier.identity]
                if line.telling.get(managed.name) is not debt:
                    line.overtaken.set()  # whether what came before it is picked up no longer matters
                self._set(line, delay_s, sooner=urgent or not debt.attempts)

    def owe_again(self, managed: ManagedCredential) -> None:
        """Owe the present generation anew to whoever was not told of it, also where it was given up."""
        state = managed.state
        told = {identity for identity, outcome in state.last_outcome.items() if outcome.startswith("told")}
        owed = {debt.identity for debt in state.debts}
        trigger = Trigger.EMERGENCY
        for debt in managed.debts_for(state.published.generation, trigger, self._clock.now()):
            if debt.identity not in owed and key(debt.identity) not in told:
                state.debts.append(debt)
        for debt in state.debts:
            debt.attempts = 0

    def resume(self, managed: ManagedCredential, trigger: Trigger) -> None:
        """Owe the present generation anew to those that were given up on: an operator asks, and may have mended them."""
        given_up = {name for name, outcome in managed.state.last_outcome.items() if outcome.startswith(GAVE_UP)}
        owed = {debt.identity for debt in managed.state.debts}
        debts = managed.debts_for(managed.state.published.generation, trigger, self._clock.now())
        again = [debt for debt in debts if key(debt.identity) in given_up and debt.identity not in owed]
        if again:
            managed.state.debts.extend(again)
            self._save(managed)
            self.owe(managed)

    def due(self, job: str) -> None:
        """The scheduler rang for one of ours."""
        for line in self._lines.values():
            if line.job == job:
                self._begin(line)
                return

    def when_tried(self, names: set[str], call: Callable[[], None]) -> None:
        """Call once every debt of these credentials was tried at least once (perhaps at once)."""

        def look() -> None:
            if not self.untried(names):
                self._listeners.remove(look)
                call()

        self._listeners.append(look)
        look()

    def untried(self, names: set[str]) -> bool:
        """Whether one of these credentials owes news that nobody has tried to tell, or is being told."""
        return any(
            debt.attempts == 0 or line.in_flight
            for line in self._lines.values()
            for managed, _notifier, debt in line.owed()
            if managed.name in names
        )

    def _set(self, line: Dependent, delay_s: float, *, sooner: bool = False) -> None:
        planned = self._scheduler.at(line.job)
        if planned is None or (sooner and self._clock.boottime() + delay_s < planned):
            self._scheduler.set(line.job, delay_s)

    def _begin(self, line: Dependent) -> None:
        owed = list(line.owed())
        line.overdue = line.in_flight
        ready = [(m, n, debt) for m, n, debt in owed if not self._waits_for_its_turn(m, n)]
        line.waits = bool(owed) and not ready
        if line.in_flight or not ready or (len(ready) < len(owed) and self._waits_for_others(line, ready)):
            return
        managed, notifier, debt = max(ready, key=lambda entry: entry[0].state.published.published_at or entry[2].since)
        line.in_flight, line.began, line.patient_until = True, self._clock.boottime(), None
        line.telling, line.overtaken = {m.name: d for m, _n, d in ready}, threading.Event()
        event = managed.event(debt.trigger)
        types = {m.name: m.formats for m, _n, _d in ready}
        self._loop.start(
            partial(tell, notifier, event, debt.since, self._loop.cancel, line.overtaken, types),
            partial(self._ended, line, ready),
            urgent=True,
        )

    def _waits_for_its_turn(self, managed: ManagedCredential, notifier: Notifier) -> bool:
        order = notifier.settings.order
        before = {n.identity for n in managed.notifiers if n.settings.order < order}
        return any(debt.identity in before and debt.attempts == 0 for debt in managed.state.debts)

    def _waits_for_others(self, line: Dependent, ready: list[tuple[ManagedCredential, Notifier, Debt]]) -> bool:
        """Whether it is given a little time, so that it may be told of all its credentials at once."""
        if any(managed.name in self._urgent for managed, _n, _debt in ready):
            return False
        now = self._clock.boottime()
        line.patient_until = now + self.settle_s if line.patient_until is None else line.patient_until
        if now >= line.patient_until:
            return False
        self._set(line, line.patient_until - now)
        return True

    def _ended(
        self,
        line: Dependent,
        told: list[tuple[ManagedCredential, Notifier, Debt]],
        heard: Heard | None,
        error: BaseException | None,
    ) -> None:
        line.in_flight = False
        if isinstance(error, CancelledError):
            return  # the agent stops; the debt stays on disk and is paid at the next start
        # One that left the config meanwhile, or left and came back, is remembered elsewhere now: its state is not ours.
        covered = [(m, n, debt) for m, n, debt in told if self._credentials.get(m.name) is m]
        for managed, notifier, debt in covered:
            # Only what was owed when the telling began: what a repair owes since then may be of the same generation.
            still_owed = any(one is debt for one in managed.state.debts)
            if heard is not None:
                self._paid(managed, notifier, line, debt, heard, still_owed=still_owed)
            elif still_owed and error is not None:
                self._failed(managed, notifier, line, debt, error)
        line.last_error = describe(error) if error is not None else ""
        self._plan_again(line, failed=error is not None)
        for managed, _notifier, _debt in covered:
            if not managed.state.debts:
                self._urgent.discard(managed.name)
            self._wake_next_order(managed)
        self._look_around()

    def _look_around(self) -> None:
        for look in list(self._listeners):
            look()

    def _paid(
        self,
        managed: ManagedCredential,
        notifier: Notifier,
        line: Dependent,
        debt: Debt,
        heard: Heard,
        *,
        still_owed: bool,
    ) -> None:
        _strike(managed, debt)
        line.first_try.pop(managed.name, None)
        cannot = heard.hindered.get(managed.name)
        pickup = heard.pickup if cannot is None else cannot.pickup
        managed.state.last_outcome[key(line.identity)] = "told" if cannot is None else f"{TOLD_BUT}{cannot.text}"
        managed.state.pickup[key(line.identity)] = str(pickup)
        self._save(managed)
        self.observer.told(managed.name, notifier.type_name, "told")
        fields = {"credential": managed.name, "generation": debt.generation, "notified": _whom(notifier)}
        self._note(Event.NOTIFIED, outcome="told", trigger=str(debt.trigger) if still_owed else None, **fields)
        if pickup is Pickup.CONFIRMED:
            self._note(Event.PICKUP_CONFIRMED, **fields)
        doubt = cannot.text if cannot else ""
        doubted, line.last_doubt[managed.name] = line.last_doubt.get(managed.name, ""), doubt
        level = log.warning if pickup is Pickup.NOT_PICKED_UP else log.info
        level(
            "notified",
            credential=managed.name,
            to=_whom(notifier),
            detail=heard.told.detail if managed.value else None,
            pickup=pickup,
            but=doubt if doubt and doubt != doubted else None,
        )

    def _failed(
        self, managed: ManagedCredential, notifier: Notifier, line: Dependent, debt: Debt, error: BaseException
    ) -> None:
        debt.attempts += 1
        text, said = describe(error), _said(managed, error)
        settings = notifier.settings
        waited_s = self._clock.boottime() - line.tried_first(managed, debt)
        spent = settings.retries is not None and debt.attempts > settings.retries
        given_up = spent or waited_s >= float(settings.retry_for)
        fields = {"credential": managed.name, "generation": debt.generation, "notified": _whom(notifier)}
        if given_up:
            _strike(managed, debt)
            line.first_try.pop(managed.name, None)
            self._note(Event.NOTIFY_GAVE_UP, error=text, outcome=f"{debt.attempts} attempts", **fields)
            log.error(
                "gave up telling a dependent", credential=managed.name, to=_whom(notifier), error=text, output=said
            )
        else:
            if text != line.last_error:
                self._note(Event.NOTIFY_FAILED, error=text, **fields)
            log.warning(
                "a dependent could not be told", credential=managed.name, to=_whom(notifier), error=text, output=said
            )
        managed.state.last_outcome[key(line.identity)] = (GAVE_UP if given_up else "failed: ") + text
        self.observer.told(managed.name, notifier.type_name, "gave_up" if given_up else "failed")
        self._save(managed)

    def _plan_again(self, line: Dependent, *, failed: bool) -> None:
        owed = list(line.owed())
        if not owed:
            return
        # What was not tried yet, and could be, does not wait for the back-off of what failed.
        news = [m for m, n, debt in owed if debt.attempts == 0 and not self._waits_for_its_turn(m, n)]
        urgent = any(managed.name in self._urgent for managed in news)
        attempts = max(debt.attempts for _m, _n, debt in owed)
        if failed and attempts and not news:
            self._set(line, policy.backoff(attempts, random.random()))
        else:
            self._set(line, 0.0 if urgent or line.overdue else self.settle_s)

    def _wake_next_order(self, managed: ManagedCredential) -> None:
        for notifier in managed.notifiers:
            line = self._lines.get(notifier.identity)
            if line is None:
                continue  # the credential left the config while its dependent was being told
            idle = line.waits or line.patient_until is not None or self._scheduler.at(line.job) is None
            if idle and not line.in_flight and any(m is managed for m, _n, _debt in line.owed()):
                self._set(line, 0.0, sooner=True)

    def _note(self, event: Event, **fields: Any) -> None:
        # A dependent that was told stays told when the audit log is full: say so, and go on telling the others.
        try:
            self._audit.record(event, **fields)
        except AuditError as error:
            log.error("a notification could not be recorded", error=str(error), audit_event=str(event))

    def _save(self, managed: ManagedCredential) -> None:
        # Not written, the debt comes back at the next start and the dependent is told once more; go on with the others.
        try:
            self._states.save(managed.name, managed.state)
        except KeyturnError as error:
            log.error("the state cannot be written", credential=managed.name, error=str(error))

    def _forget_strangers(self, managed: ManagedCredential) -> None:
        """Strike what is owed to those that the config does not name any more, and owe it to those that it names anew."""
        state = managed.state
        known = {notifier.identity for notifier in managed.notifiers}
        strangers = [debt for debt in state.debts if debt.identity not in known]
        for debt in strangers:
            _strike(managed, debt)
            self._note(
                Event.NOTIFY_GAVE_UP,
                credential=managed.name,
                generation=debt.generation,
                notified=called(debt.identity),
                error="the config no longer names this dependent",
            )
        keys = {key(identity) for identity in known}
        untold = any(outcome.startswith(GAVE_UP) for name, outcome in state.last_outcome.items() if name not in keys)
        if strangers or untold:
            state.untold = state.published.generation
        if state.untold and state.untold == state.published.generation:
            self._owe_the_new_ones(managed, strangers[0].trigger if strangers else Trigger.OPERATOR)
        for remembered in (state.last_outcome, state.pickup):
            for stale in remembered.keys() - keys:
                del remembered[stale]
        if strangers or untold:
            self._save(managed)

    def _owe_the_new_ones(self, managed: ManagedCredential, trigger: Trigger) -> None:
        """One of them may be the dependent that was not told, spelt rightly now."""
        state = managed.state
        heard_of = {debt.identity for debt in state.debts}
        for debt in managed.debts_for(state.published.generation, trigger, self._clock.now()):
            if debt.identity not in heard_of and key(debt.identity) not in state.last_outcome:
                state.debts.append(debt)


def _strike(managed: ManagedCredential, debt: Debt) -> None:
    managed.state.debts = [one for one in managed.state.debts if one is not debt]


def _whom(notifier: Notifier) -> str:
    return f"{notifier.type_name} {notifier.target}"


def _said(managed: ManagedCredential, error: BaseException) -> str | None:
    """What a hook printed, for the log alone; nothing while the secrets to be masked in it are not known yet."""
    if not isinstance(error, HookFailedError) or not error.output:
        return None
    return error.output if managed.value is not None else "(withheld: the value in use is not known yet)"
