"""How a reloaded config takes over: its parts are built already, and what is remembered stays.

* What the new config says in the same words goes on as it was, the attempt in flight too. Its files may have changed
  all the same (a new ClientKey), so it is looked at within one poll; one that fails is tried at once.
* What changed is thrown away in flight, for it asked a source that the config may no longer name, and refreshed now.
* A fleet that is reloaded at once by its configuration management must not ask its sources in one burst.
"""

from __future__ import annotations

import random
from collections.abc import Iterable

from agent.core.errors import BusyError
from agent.core.events import Cause, Trigger
from agent.engine.attempts import Attempt, RefreshSlot
from agent.engine.collaborators import Collaborators
from agent.engine.dependency_graph import in_order
from agent.engine.refresher import Refresher
from agent.refresh.managed_credential import ManagedCredential
from agent.runtime.workers import Lane


def take_over(
    slots: dict[str, RefreshSlot],
    parts: Collaborators,
    refresher: Refresher,
    credentials: Iterable[ManagedCredential],
    settle_s: float,
) -> None:
    """Go by the credentials of a new config from now on. On the loop's thread.

    Raises:
        KeyturnError: the state of a new credential cannot be read, or a `rotate` of one that would go is
            under way; nothing was changed.
    """
    wanted = {managed.name: managed for managed in credentials}
    _refuse_to_interrupt(slot for name, slot in slots.items() if name not in wanted)
    for name in wanted.keys() - slots.keys():
        parts.recovery.recall(wanted[name])
    for name in slots.keys() - wanted.keys():
        slot = slots.pop(name)
        refresher.dissolve(slot)
        parts.bases.drop(name)
        _close(parts, slot.managed)
    changed = {name for name, managed in wanted.items() if _put_in_place(slots, parts, refresher, managed)}
    parts.dispatcher.settle(settle_s)
    parts.dispatcher.wire(slot.managed for slot in slots.values())
    everyone = [slot.managed for slot in slots.values()]
    parts.recovery.sweep((managed for managed in everyone if managed.name in changed), everyone)
    for name in in_order(slots):
        _go_on(parts, refresher, slots[name], changed=name in changed)


def _refuse_to_interrupt(leaving: Iterable[RefreshSlot]) -> None:
    for slot in leaving:
        if slot.emergency is not None:
            raise BusyError(
                f"credentials.{slot.managed.name}: a `keyturn rotate` is under way", "reload again when it has ended"
            )


def _put_in_place(
    slots: dict[str, RefreshSlot], parts: Collaborators, refresher: Refresher, managed: ManagedCredential
) -> bool:
    """Take over one credential; return False where the config says the same as before."""
    slot = slots.get(managed.name)
    if slot is None:
        slots[managed.name] = RefreshSlot(managed)
        parts.recovery.mend(managed)
        managed.look_for_sinks()
        return True
    if slot.managed.equals(managed):
        return False
    refresher.throw_away(slot)
    _close(parts, slot.managed)
    parts.bases.drop(managed.name)
    slot.forget_answer()
    slot.managed.adopt(managed)
    slot.managed.look_for_sinks()
    return True


def _go_on(parts: Collaborators, refresher: Refresher, slot: RefreshSlot, *, changed: bool) -> None:
    managed = slot.managed
    parts.dispatcher.resume(managed, Trigger.SIGNAL)
    parts.dispatcher.owe(managed)
    if slot.attempt is not None:
        return
    if changed or managed.state.health.failures or managed.next_refresh_at is None:
        thrown_away = slot.is_queued
        if not thrown_away:
            slot.queue(Attempt(Cause(Trigger.SIGNAL)))
        if slot.emergency is None or thrown_away:  # it may be the emergency's own refresh that is asked anew
            refresher.begin_queued(slot)
    elif managed.state.published.expiration is None:
        parts.planner.no_later_than(managed, managed.poll_s * random.random())


def _close(parts: Collaborators, managed: ManagedCredential) -> None:
    """Close a provider on a worker, since a third party's may hang here too."""
    parts.loop.start(managed.provider.close, lambda _none, _error: None, Lane.REFRESH)
