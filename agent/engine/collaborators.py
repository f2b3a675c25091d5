"""The parts that a refresh is handed through, and how they are put together."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from agent.audit.log import AuditLog
from agent.dispatch.dispatcher import Dispatcher
from agent.dispatch.outcomes import Outcomes
from agent.engine.base_credentials import BaseCredentials
from agent.engine.health import Health
from agent.engine.planner import RefreshPlanner
from agent.refresh.managed_credential import ManagedCredential
from agent.refresh.recorder import Recorder
from agent.refresh.recovery import CrashRecovery
from agent.runtime.event_loop import EventLoop
from agent.runtime.scheduler import Scheduler
from agent.state.store import StateStore
from agent.system.clock import Clock


@dataclass(frozen=True, slots=True)
class Collaborators:
    """All on one loop."""

    loop: EventLoop
    scheduler: Scheduler
    clock: Clock
    recorder: Recorder
    recovery: CrashRecovery
    dispatcher: Dispatcher
    outcomes: Outcomes
    health: Health
    planner: RefreshPlanner
    bases: BaseCredentials
    in_use_changed: Callable[[str], None]


def assembled(
    loop: EventLoop,
    clock: Clock,
    audit: AuditLog,
    states: StateStore,
    *,
    bases: BaseCredentials,
    settle_s: float,
    everyone: Callable[[], Iterable[ManagedCredential]],
    due: Callable[[str], None],
    in_use_changed: Callable[[str], None],
) -> Collaborators:
    """Put the parts together; nothing is read, and nothing is planned yet.

    Args:
        loop: on which all of them run.
        clock: by which they go.
        audit: where is recorded what they do.
        states: where it is remembered.
        bases: what credentials know of each other.
        settle_s: seconds for which changes are gathered before anybody is told.
        everyone: returns all credentials.
        due: called with the name of a credential whose refresh is due.
        in_use_changed: called with the name of one whose offer may have changed.
    """
    scheduler = Scheduler(clock.boottime)
    recorder, outcomes = Recorder(audit, states), Outcomes(audit, states)
    health = Health(scheduler, clock, audit, states, everyone)
    return Collaborators(
        loop=loop,
        scheduler=scheduler,
        clock=clock,
        recorder=recorder,
        recovery=CrashRecovery(recorder, clock),
        dispatcher=Dispatcher(loop, scheduler, clock, outcomes, settle_s),
        outcomes=outcomes,
        health=health,
        planner=RefreshPlanner(scheduler, clock, health, due),
        bases=bases,
        in_use_changed=in_use_changed,
    )
