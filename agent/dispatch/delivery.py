"""One delivery, on a worker: tell a dependent, and look for evidence that it picked the value up."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from agent.core.events import PublishEvent
from agent.core.notify_outcome import NotifyOutcome, NotifyResult
from agent.core.retry import Retry
from agent.core.settings import PickupSettings
from agent.logs.log import log
from agent.notifiers.interface import NoEffect, Notifier, Pickup, Told
from agent.system.process import probe, probe_problem

PICKUP_PATIENCE_S = 10.0
"""Seconds for which a probe that says no is asked again."""


@dataclass(frozen=True, slots=True)
class Heard:
    """The outcome that a worker brings back."""

    told: Told
    pickup: Pickup
    hindered: Mapping[str, NoEffect | None] = field(default_factory=dict)
    """For each credential: why a dependent of whose pickup there is no evidence may still use the old value."""

    def about(self, credential: str) -> tuple[NotifyOutcome, Pickup]:
        """Return what it says of the dependent of one credential."""
        cannot = self.hindered.get(credential)
        if cannot is None:
            return NotifyOutcome(NotifyResult.TOLD), self.pickup
        return NotifyOutcome(NotifyResult.TOLD_IN_VAIN, cannot.text), cannot.pickup


def tell(
    notifier: Notifier,
    event: PublishEvent,
    since: datetime,
    cancel: threading.Event,
    overtaken: threading.Event,
    types: Mapping[str, frozenset[str]],
) -> Heard:
    """Tell one dependent, then see whether it picked the new value up, or can have. On a worker.

    Args:
        notifier: of the dependent.
        event: what it is told.
        since: the instant of the switch; a process that started before may have read the old value.
        cancel: set when the agent stops.
        overtaken: set when there is newer news for the dependent.
        types: the formats of the files of each credential that it is told of.

    Raises:
        KeyturnError: it could not be told.
    """
    return look(notifier, notifier.tell(event, cancel), since, cancel, overtaken, types)


def look(
    notifier: Notifier,
    told: Told,
    since: datetime,
    cancel: threading.Event,
    overtaken: threading.Event,
    types: Mapping[str, frozenset[str]],
) -> Heard:
    """On a worker: look whether a dependent that was told picked the new value up, or can have."""
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
    problem = probe_problem(settings)
    if problem is not None:
        log.warning("a pickup probe is not run", dependent=notifier.target, why=str(problem))
        return Pickup.NOT_PICKED_UP
    retry = Retry(0.4, 2.0, PICKUP_PATIENCE_S, chance=random.random, pause=overtaken.wait, monotonic=time.monotonic)
    while not probe(settings, cancel):
        in_time = retry.again()
        if cancel.is_set() or overtaken.is_set():
            return Pickup.ASSUMED  # the agent stops, or there is newer news: nothing was found out
        if not in_time:
            return Pickup.NOT_PICKED_UP
    return Pickup.CONFIRMED
