"""A reloaded config takes over: the new world is built already, and what is remembered stays.

* What the new config says in the same words goes on as it was, the attempt in flight too. Its files may have changed
  all the same (a new ClientKey), so it is looked at within one poll; one that fails is tried at once.
* What changed is thrown away in flight, for it asked a source that the config may no longer name, and refreshed now.
* A fleet that is reloaded at once by its configuration management asks its sources no more than on any minute.
"""

from __future__ import annotations

import random
from collections.abc import Iterable

from agent.core.errors import BusyError
from agent.core.events import Cause, Trigger
from agent.core.outcome import Report
from agent.engine.attempts import Attempt, RefreshSlot
from agent.engine.dependency_graph import in_order
from agent.engine.engine import Engine, gone
from agent.refresh.managed_credential import ManagedCredential

JOBS = ("refresh", "overrun", "stale", "retry")


def take_over(engine: Engine, credentials: Iterable[ManagedCredential], settle_s: float) -> None:
    """Put the credentials of a new config to work. On the engine's thread.

    Raises:
        KeyturnError: the state of a new credential cannot be read, or a `rotate` of one that would go is
            under way; nothing was changed.
    """
    wanted = {managed.name: managed for managed in credentials}
    _refuse_to_interrupt(engine, engine.desks.keys() - wanted.keys())
    for name in wanted.keys() - engine.desks.keys():
        engine.memory.recall(wanted[name])
    for name in engine.desks.keys() - wanted.keys():
        _let_go(engine, engine.desks.pop(name))
    changed = {name for name, managed in wanted.items() if _put_in_place(engine, managed)}
    engine.dispatcher.settle_s = settle_s
    engine.dispatcher.wire(desk.managed for desk in engine.desks.values())
    engine.memory.sweep([desk.managed for desk in engine.desks.values()])
    for name in in_order(engine.desks):
        _go_on(engine, engine.desks[name], changed=name in changed)
    engine.look_whether_passed()


def _refuse_to_interrupt(engine: Engine, leaving: Iterable[str]) -> None:
    for name in leaving:
        if engine.desks[name].emergency is not None:
            raise BusyError(f"credentials.{name}: a `keyturn rotate` is under way", "reload again when it has ended")


def _put_in_place(engine: Engine, managed: ManagedCredential) -> bool:
    """Take over one credential; False where the config says the same as before."""
    desk = engine.desks.get(managed.name)
    if desk is None:
        engine.desks[managed.name] = RefreshSlot(managed)
        engine.memory.mend(managed)
        managed.look_for_sinks()
        return True
    if desk.managed.equals(managed):
        return False
    _throw_away(engine, desk)
    _close(engine, desk.managed)
    engine.shelf.drop(managed.name)
    desk.answered_at = float("-inf")  # what builds on it waits for the new source's answer
    desk.managed.adopt(managed)
    desk.managed.look_for_sinks()
    return True


def _go_on(engine: Engine, desk: RefreshSlot, *, changed: bool) -> None:
    managed = desk.managed
    engine.dispatcher.resume(managed, Trigger.SIGNAL)
    engine.dispatcher.owe(managed)
    if desk.attempt is not None:
        return
    if changed or managed.state.consecutive_failures or managed.next_refresh_at is None:
        thrown_away = desk.queued is not None
        desk.queued = desk.queued or Attempt(managed, Cause(Trigger.SIGNAL), [])
        if desk.emergency is None or thrown_away:  # it may be the emergency's own refresh that is asked anew
            engine.begin_queued(desk)
    elif managed.state.published.expiration is None:
        engine.timetable.no_later_than(managed, managed.poll_s * random.random())


def _throw_away(engine: Engine, desk: RefreshSlot) -> None:
    """Forget the attempt in flight; whoever waits for it waits for the next."""
    attempt = desk.attempt
    if attempt is None:
        return
    engine.scheduler.clear(f"overrun {desk.managed.name}")
    attempt.over, desk.attempt = True, None
    desk.queued = desk.queued or Attempt(desk.managed, attempt.cause, [], attempt.retry_until)
    desk.queued.waiting.extend(attempt.waiting)


def _let_go(engine: Engine, desk: RefreshSlot) -> None:
    name = desk.managed.name
    for attempt in (desk.attempt, desk.queued, desk.again):
        if attempt is not None:
            attempt.over = True
            for report in attempt.waiting:
                report(Report(name, None, gone(name)))
    for job in JOBS:
        engine.scheduler.clear(f"{job} {name}")
    engine.shelf.drop(name)
    _close(engine, desk.managed)


def _close(engine: Engine, managed: ManagedCredential) -> None:
    """On a worker, for a third party's provider may hang here too."""
    engine.loop.start(managed.provider.close, lambda _none, _error: None, urgent=True)
