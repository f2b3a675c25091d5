"""The canary of a daemon: which credentials it watches, when it looks next, and what a refusal leads to."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any

from agent.audit.log import AuditLog
from agent.canary import pace
from agent.canary.look import Leak, Look, Place, Verdict, look
from agent.cloud.openapi import Cloud
from agent.core.credential import Credential
from agent.core.errors import CancelledError, KeyturnError
from agent.core.events import Cause, Event, Trigger
from agent.core.timestamps import rfc3339
from agent.engine.engine import Engine
from agent.engine.in_use import Offered
from agent.logs.log import log
from agent.runtime.workers import Lane
from agent.sinks.offered import can_be_read_back, offered

SERVED = "credentials.sock"
NEVER = float("-inf")
OfferOf = Callable[[str], Credential | None]
"""Returns what is handed out of a credential to those who ask."""
IsBehind = Callable[[str, int], bool]
"""Returns whether a process that fetched a credential may still use an older generation than this one."""


@dataclass(frozen=True, slots=True)
class Report:
    """What is to be shown of one credential.

    Attributes:
        looks: the newest look at each place, and when it was.
        restricted: the keys among those that were seen restricted as leaked.
        leak: what RAM said of the keys, the worst; None where nobody was asked.
    """

    looks: tuple[tuple[datetime, Look], ...]
    restricted: tuple[str, ...]
    leak: Leak | None

    def as_json(self) -> dict[str, Any]:
        """Return the object that `status --json` shows."""
        looks = [
            {
                "where": one.place,
                "outcome": str(one.verdict),
                "at": rfc3339(at),
                "access_key_id": one.access_key_id or None,
                "error": one.detail or None,
            }
            for at, one in self.looks
        ]
        leak = str(self.leak) if self.leak is not None else None
        return {"looks": looks, "leak": leak, "restricted": list(self.restricted)}


@dataclass(slots=True)
class _Watch:
    """What is remembered of one credential, in memory only."""

    due_at: float | None  # boottime; None while a look is under way
    generation: int
    counts: Counter[str] = field(default_factory=Counter)
    turn: int = 0
    looks: dict[str, tuple[datetime, Look]] = field(default_factory=dict)  # by place
    leaks: dict[str, Leak] = field(default_factory=dict)  # by key
    leak_due_at: dict[str, float] = field(default_factory=dict)  # likewise
    report: Report | None = None
    refreshes: int = 0
    refresh_from: float = NEVER
    said_blind: bool = False

    def put(self, at: datetime, found: Look) -> Look | None:
        """Take over a look; return the one before at the same place."""
        _at, before = self.looks.get(found.place, (None, None))
        self.looks[found.place] = at, found
        self._forget_keys()
        return before

    def keep(self, places: Collection[str]) -> None:
        """Forget the places that are no more."""
        self.looks = {place: seen for place, seen in self.looks.items() if place in places}
        self._forget_keys()

    def _forget_keys(self) -> None:
        """Forget what RAM said of keys that stand nowhere any more, as far as was seen."""
        keys = {seen.access_key_id for _at, seen in self.looks.values()}
        self.leaks = {key: leak for key, leak in self.leaks.items() if key in keys}
        self.leak_due_at = {key: due_at for key, due_at in self.leak_due_at.items() if key in keys}

    @property
    def restricted(self) -> tuple[str, ...]:
        """The keys that are restricted as leaked."""
        return tuple(key for key, leak in self.leaks.items() if leak is Leak.RESTRICTED)

    @property
    def is_well(self) -> bool:
        """Whether every place's newest look was accepted."""
        return all(seen.verdict is Verdict.ACCEPTED for _at, seen in self.looks.values())


class Canary:
    """The canary of one daemon. Belongs to the loop's thread; `as_json` is for any."""

    def __init__(
        self,
        engine: Engine,
        audit: AuditLog,
        offer_of: OfferOf,
        is_behind: IsBehind,
        changed: Callable[[], None] = lambda: None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """Keep what it works with; nothing is watched before `follow`.

        Args:
            engine: whose credentials it watches.
            audit: where refusals are recorded.
            offer_of: what is handed out over the socket.
            is_behind: whether somebody who fetched may be on an older generation.
            changed: called when there is something new to show.
            chance: in [0, 1), for the jitter.
        """
        self._engine, self._audit = engine, audit
        self._offer_of, self._is_behind, self._changed, self._chance = offer_of, is_behind, changed, chance
        self._cloud: Cloud | None = None
        self._watches: dict[str, _Watch] = {}
        self._ticked_at = NEVER

    def follow(self, cloud: Cloud) -> None:
        """Ask these services from now on, about each credential whose config wants it."""
        first, self._cloud = self._cloud is None, cloud
        if first:
            self._engine.watch_in_use(self._heard)

    # -- looking from outside -----------------------------------------------------------------------

    def as_json(self, name: str) -> dict[str, Any] | None:
        """Return what `status --json` shows of a credential; None where nothing was seen, or it has no canary. On any thread."""
        watch = self._watches.get(name)
        report = watch.report if watch is not None else None
        return report.as_json() if report is not None else None

    def figures(self, name: str) -> dict[str, int] | None:
        """Return how many looks ended how since the process started; None without a canary."""
        watch = self._watches.get(name)
        return {str(one): watch.counts[one] for one in Verdict} if watch is not None else None

    # -- when ---------------------------------------------------------------------------------------

    def _heard(self, name: str) -> None:
        """Take note that a credential changed, came, or left."""
        seen = self._engine.offered(name)
        if seen is None:
            self._watches.pop(name, None)
            return
        now, pause_s = self._engine.clock.boottime(), self._pause_s(name, seen)
        watch = self._watches.get(name)
        if watch is None:
            self._watches[name] = _Watch(now + pause_s * self._chance(), seen.generation)
        elif watch.due_at is not None:
            is_new = watch.generation != seen.generation
            watch.due_at, watch.generation = min(watch.due_at, now + (0.0 if is_new else pause_s)), seen.generation
        self._plan()

    def _pause_s(self, name: str, seen: Offered) -> float:
        now, progress = self._engine.clock.now(), pace.Progress(seen.published_at, seen.is_spread, seen.in_emergency)
        waits = replace(progress, is_spread=False)
        # Asked last, and only where it makes a difference: it looks at every process that fetched.
        if seen.is_served and pace.is_hurried(waits, now) and not pace.is_hurried(progress, now):
            progress = waits if self._is_behind(name, seen.generation) else progress
        return pace.pause_s(progress, now, self._chance())

    def _plan(self) -> None:
        self._engine.every(self._next_s, self._tick)

    def _next_s(self) -> float | None:
        due_at = min((one.due_at for one in self._watches.values() if one.due_at is not None), default=None)
        if due_at is None:
            return None  # what is under way plans at its end
        return max(due_at, self._ticked_at + pace.TICK_S) - self._engine.clock.boottime()

    def _tick(self) -> None:
        """Begin the looks that are due, the longest due first; what is left waits for the next tick."""
        now = self._ticked_at = self._engine.clock.boottime()
        due = [
            (one.due_at, name) for name, one in self._watches.items() if one.due_at is not None and one.due_at <= now
        ]
        for _at, name in sorted(due)[: pace.PER_TICK]:
            self._begin(name, self._watches[name], now)

    def _begin(self, name: str, watch: _Watch, now: float) -> None:
        seen, cloud = self._engine.offered(name), self._cloud
        if seen is None or cloud is None:
            self._watches.pop(name)
            return
        places = self._places(name, seen) if seen.generation else []
        if not places:
            if seen.generation and not watch.said_blind:
                watch.said_blind = True
                log.warning("the canary has nothing to sign with: no sink can be read back", credential=name)
            watch.due_at = now + pace.CALM_S
            return
        watch.keep({one.name for one in places})
        place = places[watch.turn % len(places)]
        watch.turn, watch.due_at, watch.generation = watch.turn + 1, None, seen.generation
        known = frozenset(key for key, due_at in watch.leak_due_at.items() if now < due_at)
        work = partial(look, place, cloud, self._engine.clock.now, known)
        self._engine.work(work, partial(self._ended, name, watch), Lane.CANARY)

    def _places(self, name: str, seen: Offered) -> list[Place]:
        sinks = [Place(one.target, partial(offered, one)) for one in seen.sinks if can_be_read_back(one)]
        return [*sinks, *([Place(SERVED, partial(self._offer_of, name))] if seen.is_served else [])]

    # -- what came of it ----------------------------------------------------------------------------

    def _ended(self, name: str, watch: _Watch, found: Look | None, error: BaseException | None) -> None:
        seen = self._engine.offered(name)
        if isinstance(error, CancelledError) or seen is None or self._watches.get(name) is not watch:
            return  # the agent stops, or the credential left
        is_new, watch.generation = seen.generation != watch.generation, seen.generation
        if found is None:
            log.error("the canary could not look", credential=name, exc_info=error)
        elif not is_new or found.verdict is Verdict.ACCEPTED:  # else what was read may have been switched since
            self._note(name, watch, seen, found)
        pause_s = 0.0 if is_new else self._pause_s(name, seen)
        if found is None or found.verdict is Verdict.UNANSWERED:
            pause_s = max(pause_s, pace.UNANSWERED_S)
        watch.due_at = self._engine.clock.boottime() + pause_s
        self._plan()

    def _note(self, name: str, watch: _Watch, seen: Offered, found: Look) -> None:
        before = watch.put(self._engine.clock.now(), found)
        watch.counts[found.verdict] += 1
        self._note_leak(name, watch, found)
        looks = tuple(watch.looks.values())
        watch.report = Report(looks, watch.restricted, max(watch.leaks.values(), key=list(Leak).index, default=None))
        is_news = before is None or (before.verdict, before.access_key_id) != (found.verdict, found.access_key_id)
        if is_news:
            _say(name, before, found)
            self._changed()
        if is_news and found.verdict is Verdict.REFUSED:
            self._record(name, seen, found)
        if found.may_be_old and not seen.in_emergency:
            self._refresh(name, watch, found)
        elif watch.is_well:
            watch.refreshes = 0

    def _note_leak(self, name: str, watch: _Watch, found: Look) -> None:
        """Take note of what RAM said of the key. The alarm is the engine's, which has it over a restart too."""
        key, before = found.access_key_id, watch.leaks.get(found.access_key_id)
        if found.leak is None:
            return
        watch.leak_due_at[key] = self._engine.clock.boottime() + pace.LEAK_S
        if found.leak is Leak.UNKNOWN and before is Leak.RESTRICTED:
            return
        watch.leaks[key] = found.leak
        if found.leak is Leak.RESTRICTED and before is not Leak.RESTRICTED:
            error = f"{found.place}: {found.detail}"
            self._engine.key_restricted(name, key, error, Cause(Trigger.POLL, reason="canary"))
        elif found.leak is Leak.CLEAR and before is not Leak.CLEAR:
            self._engine.key_accepted(key)

    def _refresh(self, name: str, watch: _Watch, found: Look) -> None:
        """Have the source asked now; while a key stays refused, ever more rarely."""
        now = self._engine.clock.boottime()
        if now < watch.refresh_from:
            return
        watch.refreshes += 1
        watch.refresh_from = now + pace.refresh_pause_s(watch.refreshes)
        reason = f"the canary was refused: {found.code} for {found.access_key_id} of {found.place}"
        self._engine.refresh(name, Cause(Trigger.POLL, reason=reason))

    def _record(self, name: str, seen: Offered, found: Look) -> None:
        try:
            self._audit.record(
                Event.VERIFY_FAILED,
                credential=name,
                generation=seen.generation,
                access_key_id=found.access_key_id,
                sinks=[found.place],
                outcome=str(found.verdict),
                error=found.detail,
                request_id=found.request_id or None,
                **Cause(Trigger.POLL, reason="canary").as_fields(),
            )
        except KeyturnError as error:
            log.error("the audit log cannot be written", error=str(error), audit_event=str(Event.VERIFY_FAILED))


def _say(name: str, before: Look | None, found: Look) -> None:
    if found.verdict is Verdict.REFUSED:
        log.error("the canary was refused", credential=name, **_where(found))
    elif found.verdict is Verdict.UNREADABLE:
        log.warning("the canary cannot read a sink", credential=name, **_where(found))
    elif found.verdict is Verdict.UNANSWERED:
        log.info("the canary was not answered", credential=name, **_where(found))
    elif before is not None and before.verdict in (Verdict.REFUSED, Verdict.UNREADABLE):
        log.info("the canary is accepted", credential=name, **_where(found))


def _where(found: Look) -> dict[str, Any]:
    return {"sink": found.place, "access_key_id": found.access_key_id or None, "error": found.detail or None}
