"""Who is told, when, and what happens when it fails: every dependent until it has heard.

What is owed stands in the state of each credential (`Debt`), written with the publish itself; this module
pays it. A *line* is one dependent: all notifiers of the config with the same identity, whichever
credentials name them. The rules:

* A line is paid `settle` seconds after the publish plus a random part of its `splay`, so that credentials
  that change together tell the same dependent once. An emergency waits for neither.
* Within one credential, a lower `order` is told first. The next order does not wait for a success, only
  for the first attempt: one dependent that fails or hangs delays no other for longer than its `timeout`.
* A failure is retried with back-off until `retries` or `retry_for` is used up, then given up, loudly. A
  newer generation supersedes what is owed of an older one and starts the count anew.
* While the files of a credential do not agree yet (a switch failed half way), nobody is told: recovery comes
  first, and owes the news anew.
* After a restart whatever is still owed is tried at least once, however old.
* A coalesced `exec` or `http` gets the event of the credential that was published last; the audit names
  every credential.
* The audit holds the first failure of a debt and each failure with another reason, not every attempt.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from agent.audit import AuditLog
from agent.core import policy
from agent.core.errors import AuditError, CancelledError, KeyturnError
from agent.core.events import Event, PublishEvent, Trigger
from agent.core.settings import PickupSettings
from agent.logs import describe, log
from agent.loop import Loop
from agent.managed import Managed
from agent.notifiers.effect import NoEffect
from agent.notifiers.interface import HookFailedError, Notifier, Pickup, Told
from agent.observer import NOBODY, Observer
from agent.scheduler import Scheduler
from agent.state import Debt, StateStore
from agent.system.clock import Clock
from agent.system.process import probe

PICKUP_PATIENCE_S = 10.0
"""Seconds for which a probe that says no is asked again."""
TOLD_BUT = "told, but "
"""How the outcome begins of a notification that may have had no effect (notifiers/effect.py)."""
JOB = "tell "
"""The prefix of this module's names in the scheduler."""


@dataclass
class Line:
    """One dependent."""

    identity: tuple[str, ...]
    members: list[tuple[Managed, Notifier]] = field(default_factory=list)
    in_flight: bool = False
    overdue: bool = False  # its time came while it was in flight
    telling: dict[str, int] = field(default_factory=dict)
    overtaken: threading.Event = field(default_factory=threading.Event)
    last_error: str = ""
    began: float = 0.0  # boottime of the present try
    first_try: dict[tuple[str, int], float] = field(default_factory=dict)
    """Boottime of the first try of each debt in this process: `retry_for` counts from there, whatever the wall clock."""

    @property
    def job(self) -> str:
        """Its name in the scheduler."""
        return JOB + "\0".join(self.identity)

    def owed(self) -> Iterator[tuple[Managed, Notifier, Debt]]:
        """What is owed to it now."""
        for managed, notifier in self.members:
            if managed.state.half_switched:
                continue  # its files do not agree yet: recovery comes first, and owes the news anew
            for debt in managed.state.debts:
                if debt.identity == self.identity:
                    yield managed, notifier, debt


@dataclass(frozen=True, slots=True)
class Heard:
    """What a worker brings back."""

    told: Told
    pickup: Pickup
    hindered: Mapping[str, NoEffect | None] = field(default_factory=dict)
    """For each credential: why a dependent of whose pickup there is no evidence may still use the old value."""


def key(identity: tuple[str, ...]) -> str:
    """How a dependent is named in the state's maps."""
    return "\0".join(identity)


class Dispatcher:
    """Pays the debts. Belongs to the engine's thread."""

    def __init__(
        self, loop: Loop, scheduler: Scheduler, clock: Clock, audit: AuditLog, states: StateStore, settle_s: float
    ) -> None:
        self._loop, self._scheduler, self._clock = loop, scheduler, clock
        self._audit, self._states = audit, states
        self.settle_s = settle_s
        self.observer: Observer = NOBODY
        self._lines: dict[tuple[str, ...], Line] = {}
        self._listeners: list[Callable[[], None]] = []
        self._urgent: set[str] = set()

    def wire(self, credentials: Iterable[Managed]) -> None:
        """Learn the config's dependents, also after a reload; forget debts to those that are gone."""
        old, self._lines = self._lines, {}
        for line in old.values():
            line.members = []
        for managed in credentials:
            for notifier in managed.notifiers:
                line = self._lines.setdefault(notifier.identity, old.get(notifier.identity, Line(notifier.identity)))
                line.members.append((managed, notifier))
            self._forget_strangers(managed)
        self._look_around()

    def owe(self, managed: Managed, *, urgent: bool = False) -> None:
        """Plan the payment of what a credential owes; `urgent` waits for no settling and no splay."""
        if urgent and managed.state.debts:
            self._urgent.add(managed.name)
        attempts = {debt.identity: debt.attempts for debt in managed.state.debts}
        for notifier in managed.notifiers:
            if notifier.identity in attempts:
                # What was seen of an earlier generation says nothing of this one.
                managed.state.pickup.pop(key(notifier.identity), None)
                delay_s = 0.0 if urgent else self.settle_s + random.random() * float(notifier.settings.splay)
                # News does not wait for the retry of what came before it.
                line = self._lines[notifier.identity]
                if line.telling.get(managed.name) != managed.state.published.generation:
                    line.overtaken.set()  # whether the generation before is picked up no longer matters
                self._set(line, delay_s, sooner=urgent or not attempts[notifier.identity])

    def owe_again(self, managed: Managed) -> None:
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

    def _set(self, line: Line, delay_s: float, *, sooner: bool = False) -> None:
        planned = self._scheduler.at(line.job)
        if planned is None or (sooner and self._clock.boottime() + delay_s < planned):
            self._scheduler.set(line.job, delay_s)

    def _begin(self, line: Line) -> None:
        owed = list(line.owed())
        line.overdue = line.in_flight
        if line.in_flight or not owed or any(self._waits_for_its_turn(m, n) for m, n, _debt in owed):
            return
        managed, notifier, debt = max(owed, key=lambda entry: entry[0].state.published.published_at or entry[2].since)
        line.in_flight, line.began = True, self._clock.boottime()
        covered = [(m, d.generation) for m, _n, d in owed]
        line.telling, line.overtaken = {m.name: generation for m, generation in covered}, threading.Event()
        event = managed.event(debt.trigger)
        types = {m.name: frozenset(sink.type_name for sink in m.sinks) for m, _n, _d in owed}
        self._loop.start(
            partial(tell, notifier, event, debt.since, self._loop.cancel, line.overtaken, types),
            partial(self._ended, line, notifier, covered),
            urgent=True,
        )

    def _waits_for_its_turn(self, managed: Managed, notifier: Notifier) -> bool:
        order = notifier.settings.order
        before = {n.identity for n in managed.notifiers if n.settings.order < order}
        return any(debt.identity in before and debt.attempts == 0 for debt in managed.state.debts)

    def _ended(
        self,
        line: Line,
        notifier: Notifier,
        covered: list[tuple[Managed, int]],
        heard: Heard | None,
        error: BaseException | None,
    ) -> None:
        line.in_flight = False
        if isinstance(error, CancelledError):
            return  # the agent stops; the debt stays on disk and is paid at the next start
        for managed, generation in covered:
            debt = next((d for d in managed.state.debts if d.identity == line.identity), None)
            if heard is not None:
                self._paid(managed, notifier, line, debt, generation, heard)
            elif debt is not None and error is not None and debt.generation <= generation:
                self._failed(managed, notifier, line, debt, error)
        line.last_error = describe(error) if error is not None else ""
        self._plan_again(line, notifier, failed=error is not None)
        for managed, _generation in covered:
            if not managed.state.debts:
                self._urgent.discard(managed.name)
            self._wake_next_order(managed)
        self._look_around()

    def _look_around(self) -> None:
        for look in list(self._listeners):
            look()

    def _paid(
        self, managed: Managed, notifier: Notifier, line: Line, debt: Debt | None, generation: int, heard: Heard
    ) -> None:
        if debt is not None and debt.generation <= generation:
            managed.state.debts.remove(debt)
        cannot = heard.hindered.get(managed.name)
        pickup = heard.pickup if cannot is None else cannot.pickup
        managed.state.last_outcome[key(line.identity)] = "told" if cannot is None else f"{TOLD_BUT}{cannot.text}"
        managed.state.pickup[key(line.identity)] = str(pickup)
        self._save(managed)
        self.observer.told(managed.name, notifier.type_name, "told")
        fields = {"credential": managed.name, "generation": generation, "notified": _whom(notifier)}
        self._note(Event.NOTIFIED, outcome="told", trigger=str(debt.trigger) if debt is not None else None, **fields)
        if pickup is Pickup.CONFIRMED:
            self._note(Event.PICKUP_CONFIRMED, **fields)
        level = log.warning if pickup is Pickup.NOT_PICKED_UP else log.info
        level(
            "notified",
            credential=managed.name,
            to=_whom(notifier),
            detail=heard.told.detail if managed.value else None,
            pickup=pickup,
            but=cannot.text if cannot else None,
        )

    def _failed(self, managed: Managed, notifier: Notifier, line: Line, debt: Debt, error: BaseException) -> None:
        debt.attempts += 1
        text, said = describe(error), _said(managed, error)
        settings = notifier.settings
        waited_s = self._clock.boottime() - line.first_try.setdefault((managed.name, debt.generation), line.began)
        spent = settings.retries is not None and debt.attempts > settings.retries
        given_up = spent or waited_s >= float(settings.retry_for)
        fields = {"credential": managed.name, "generation": debt.generation, "notified": _whom(notifier)}
        if given_up:
            managed.state.debts.remove(debt)
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
        managed.state.last_outcome[key(line.identity)] = ("gave up: " if given_up else "failed: ") + text
        self.observer.told(managed.name, notifier.type_name, "gave_up" if given_up else "failed")
        self._save(managed)

    def _plan_again(self, line: Line, notifier: Notifier, *, failed: bool) -> None:
        owed = list(line.owed())
        if not owed:
            line.first_try.clear()
            return
        attempts = max(debt.attempts for _m, _n, debt in owed)
        urgent = any(managed.name in self._urgent for managed, _n, _debt in owed)
        soon_s = 0.0 if urgent or line.overdue else self.settle_s
        self._set(line, policy.backoff(attempts, random.random()) if failed and attempts else soon_s)

    def _wake_next_order(self, managed: Managed) -> None:
        for notifier in managed.notifiers:
            line = self._lines.get(notifier.identity)
            if line is None:
                continue  # the credential left the config while its dependent was being told
            idle = self._scheduler.at(line.job) is None and not line.in_flight
            if idle and any(m is managed and debt.attempts == 0 for m, _n, debt in line.owed()):
                self._set(line, 0.0)

    def _note(self, event: Event, **fields: Any) -> None:
        # A dependent that was told stays told when the audit log is full: say so, and go on telling the others.
        try:
            self._audit.record(event, **fields)
        except AuditError as error:
            log.error("a notification could not be recorded", error=str(error), audit_event=str(event))

    def _save(self, managed: Managed) -> None:
        # Not written, the debt comes back at the next start and the dependent is told once more; go on with the others.
        try:
            self._states.save(managed.name, managed.state)
        except KeyturnError as error:
            log.error("the state cannot be written", credential=managed.name, error=str(error))

    def _forget_strangers(self, managed: Managed) -> None:
        known = {notifier.identity for notifier in managed.notifiers}
        strangers = [debt for debt in managed.state.debts if debt.identity not in known]
        for debt in strangers:
            managed.state.debts.remove(debt)
            self._note(
                Event.NOTIFY_GAVE_UP,
                credential=managed.name,
                generation=debt.generation,
                notified=" ".join(debt.identity),
                error="the config no longer names this dependent",
            )
        keys = {key(identity) for identity in known}
        for remembered in (managed.state.last_outcome, managed.state.pickup):
            for stale in remembered.keys() - keys:
                del remembered[stale]
        if strangers:
            self._save(managed)


def tell(
    notifier: Notifier,
    event: PublishEvent,
    since: datetime,
    cancel: threading.Event,
    overtaken: threading.Event,
    types: Mapping[str, frozenset[str]],
) -> Heard:
    """On a worker: tell one dependent, then look whether it picked the new value up, or can have.

    Args:
        types: of the sinks of each credential that it is told of.
    """
    told = notifier.tell(event, cancel)
    pickup = look_for_pickup(notifier, since, cancel, overtaken)
    if pickup is not Pickup.ASSUMED:
        return Heard(told, pickup)
    return Heard(told, pickup, {name: notifier.hindered(kinds) for name, kinds in types.items()})


def look_for_pickup(notifier: Notifier, since: datetime, cancel: threading.Event, overtaken: threading.Event) -> Pickup:
    """Ask the probe of the config where there is one, else whatever evidence the notifier knows of.

    A newer generation ends the wait (`overtaken`): the probe speaks of that one by now, so it would say no for
    as long as it is asked, and the news of the newer one, in an emergency too, would wait behind it.
    """
    settings: PickupSettings | None = notifier.settings.pickup
    if settings is None:
        return notifier.pickup(since)
    ends, pause_s = time.monotonic() + PICKUP_PATIENCE_S, 0.2
    while not probe(settings, cancel):
        overtaken.wait(pause_s)
        if cancel.is_set() or overtaken.is_set():
            return Pickup.ASSUMED  # the agent stops, or there is newer news: nothing was found out
        if time.monotonic() >= ends:
            return Pickup.NOT_PICKED_UP
        pause_s = min(pause_s * 2, 1.0)
    return Pickup.CONFIRMED


def _whom(notifier: Notifier) -> str:
    return f"{notifier.type_name} {notifier.target}"


def _said(managed: Managed, error: BaseException) -> str | None:
    """What a hook printed, for the log alone; nothing while the secrets to be masked in it are not known yet."""
    if not isinstance(error, HookFailedError) or not error.output:
        return None
    return error.output if managed.value is not None else "(withheld: the value in use is not known yet)"
