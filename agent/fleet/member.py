"""This host in its fleet: it follows what is announced, announces what it sees, and says how it stands.

An announcement makes a host do what its timer would do, and no more: ask its own source, prove, publish, tell. So:

* at most once in `PAUSE_S` for each credential, `announce_jitter` spread over it, and `TRIES` times for each version, each
  time after a longer pause, where the source does not hand it out yet;
* never for a credential that is not in the config, nor for one that a `rotate` on this host is at work on;
* in the audit with the trigger `fleet`.

A version that this host saw change by itself is announced, so that the others need not poll fast. What a host says of itself
has its proof only once nothing is owed (entries.py).
"""

from __future__ import annotations

import hashlib
import random
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from agent.core.events import Cause, Trigger
from agent.core.observer import Observer
from agent.core.outcome import Outcome, Report
from agent.core.settings import FleetSettings, Settings
from agent.engine.engine import Engine
from agent.engine.version_held import VersionHeld
from agent.fleet.census import Count
from agent.fleet.entries import Announcement, HostState, Why, new_nonce
from agent.fleet.host_state import state_of
from agent.fleet.link import NEWS_S, Health, Link, OpenBoard
from agent.logs.log import log
from agent.system.machine import machine

T = TypeVar("T")
PAUSE_S = 10.0
"""Seconds between two refreshes of one credential that announcements lead to."""
TRIES = 6
KNOWN = 16
"""Versions of each credential of which news is remembered."""
HEARD = 100
"""Entries of each credential that are remembered: what is read again at a new connection, of which a link reads ten, is no news,
and must not take the place of what came after it."""
SETTLE_S = 0.05
"""Seconds from a change to what is said of it: a publish and what follows it are many changes."""
LOOK_S = 2.0
"""Seconds between two looks at what is owed, while somebody may wait for it."""
LONG_S = 300.0
"""Seconds for which the board may be away before the line of the service manager says it."""
TWINS_S = 600.0
"""Seconds for which another machine under this host's name is remembered."""


@dataclass(slots=True)
class _Followed:
    """What is remembered of one credential, in memory only."""

    news: OrderedDict[str, Announcement] = field(default_factory=OrderedDict)  # by version, the newest last
    entries: OrderedDict[str, None] = field(default_factory=OrderedDict)  # those that were heard, the newest last
    tries: dict[str, int] = field(default_factory=dict)  # by version
    asked_at: float = float("-inf")  # boottime
    is_due: bool = False
    current: str = ""  # the version that the source handed out last: the one that is news where nobody said so
    announced: str = ""  # the version that this host announced last
    failed: str = ""
    said: HostState | None = None
    is_held: bool = False  # by a `rotate` on this host, when it was looked last


class Member(Observer):
    """This host's part. Belongs to the loop's thread; `health` is for any."""

    def __init__(
        self, engine: Engine, hostname: str, machine: str, chance: Callable[[], float] = random.random
    ) -> None:
        """Keep what is needed; nothing is connected before `follow`.

        Args:
            engine: whose credentials it follows.
            hostname: what this host is called where the config does not say.
            machine: tells this machine from another by the same name (`machine_id`).
            chance: in [0, 1), for the jitter.
        """
        self._engine, self._hostname, self._machine, self._chance = engine, hostname, machine, chance
        self._settings: FleetSettings | None = None
        self._link: Link | None = None
        self._followed: dict[str, _Followed] = {}
        self._dirty: set[str] = set()
        self._watching = False
        self._twins_until = float("-inf")

    @property
    def host(self) -> str:
        """What this host is called in its fleet."""
        return (self._settings.host if self._settings else None) or self._hostname

    @property
    def health(self) -> Health | None:
        """How the connections to the board fare; None where the config has no fleet."""
        link = self._link
        return link.health if link is not None else None

    @property
    def counts(self) -> Mapping[str, Count]:
        """How many hosts of each credential there are, as far as they were counted (`Link.counts`)."""
        return self._of_the_config(self._link.counts) if self._link is not None else {}

    @property
    def converged_s(self) -> Mapping[str, float]:
        """How long what this host announced last took, by credential (`Link.converged_s`)."""
        return self._of_the_config(self._link.converged_s) if self._link is not None else {}

    def _of_the_config(self, found: Mapping[str, T]) -> Mapping[str, T]:
        return {name: one for name, one in found.items() if name in self._followed}

    def follow(self, settings: Settings, open_board: OpenBoard) -> None:
        """Begin, go on or end to be a member as this config says.

        Args:
            settings: the config in force.
            open_board: opens a connection to its board.
        """
        wanted = settings.fleet
        if self._link is not None and wanted != self._settings:
            self.close()
        self._settings = wanted
        if wanted is None:
            return
        shared = shared_credentials(settings)
        self._followed = {name: self._followed.get(name, _Followed()) for name in shared}
        if not self._watching:
            self._watching = True
            self._engine.observe(self)
            self._engine.watch_in_use(self._changed)
        if self._link is None:
            self._link = Link(
                self.host,
                open_board,
                self._hear_later,
                self._seen_later,
                self._engine.clock.boottime,
                partial(self._engine.post, self._turned),
            )
            self._turned()
            for one in self._followed.values():
                one.said = None
            self._link.start()
        self._link.follow(shared, counts=bool(settings.agent.metrics_listen or settings.agent.metrics_textfile))
        for name in shared:
            self._changed(name)

    def close(self) -> None:
        """Leave the board alone from now on; this host is absent there after a while."""
        if self._link is not None:
            self._link.end()
            self._link = None

    def _turned(self) -> None:
        """Have the loop turn again once the board was away for long: then `away_for_long` is another one."""
        self._engine.after(LONG_S + 1.0, _turn_once_more)

    @property
    def away_for_long(self) -> bool:
        """Whether the board is not there, and was not for a while."""
        health = self.health
        since = health.down_since if health is not None else None
        return since is not None and self._engine.clock.boottime() - since >= LONG_S

    # -- what this host has ---------------------------------------------------------------------------

    def refreshed(self, credential: str, outcome: Outcome) -> None:
        """Take note that nothing fails any more, and which version is current."""
        held = self._engine.version_held(credential)
        if credential in self._followed and held is not None:
            self._followed[credential].failed, self._followed[credential].current = "", held.version_id
        self._changed(credential)

    def failed(self, credential: str, event: str) -> None:
        """Take note of what fails."""
        if credential in self._followed:
            self._followed[credential].failed = event
        self._changed(credential)

    def told(self, credential: str, notifier: str, outcome: str) -> None:
        """Take note that less may be owed."""
        self._changed(credential)

    def _changed(self, name: str) -> None:
        """Say how this host stands, in a moment: of everything, since another holder of a key may be what is waited for."""
        if self._link is None:
            return
        self._look_whether_held(name)
        if not self._dirty:
            self._engine.after(SETTLE_S, self._say)
        self._dirty.add(name)

    def _look_whether_held(self, name: str) -> None:
        """Follow what was announced while a `rotate` on this host was at work on the credential, now that it is let go."""
        one, held = self._followed.get(name), self._engine.version_held(name)
        if one is None or held is None:
            return
        was_held, one.is_held = one.is_held, held.is_held
        if was_held and not one.is_held:
            self._plan(name, one, 0.0)

    def _say(self) -> None:
        dirty, self._dirty = self._dirty, set()
        states = {}
        for name, one in self._followed.items():
            owes = one.said is not None and one.said.owed
            if (name in dirty or owes) and (state := self._state(name, one)) is not None and state != one.said:
                states[name] = one.said = state
        if states and self._link is not None:
            self._link.say(states)
        if any(one.said is not None and one.said.owed and one.said.nonce for one in self._followed.values()):
            self._engine.after(LOOK_S, self._look)

    def _look(self) -> None:
        """Look again at what is owed: that a dependent picked a version up is evidence, and no event."""
        for name, one in self._followed.items():
            if one.said is not None and one.said.owed:
                self._changed(name)

    def _state(self, name: str, one: _Followed) -> HostState | None:
        held = self._engine.version_held(name)
        if held is None or not held.version_id:
            return None
        self._note_version(name, one, held)
        news = one.news.get(held.version_id)
        twins = self._engine.clock.boottime() < self._twins_until
        nonce = news.nonce if news is not None else ""
        return state_of(held, name, self.host, self._machine, nonce=nonce, failed=one.failed, twins=twins)

    def _note_version(self, name: str, one: _Followed, held: VersionHeld) -> None:
        """Announce the version that is current, where nobody has.

        Also one that was current already when this host started: it may have been ended between its publish and the
        announcement. A `rotate` announces its own; what it could not say is said once it has ended.
        """
        if held.is_held or held.version_id in (one.announced, *one.news) or self._link is None:
            return
        if one.current != held.version_id:  # what a host held while it was away is no news
            return
        one.announced = held.version_id
        at = self._engine.clock.now().timestamp() + NEWS_S
        news = Announcement("", held.version_id, new_nonce(), Why.ROTATION, at, self.host)
        self._link.announce(name, news)

    # -- what is announced ----------------------------------------------------------------------------

    def _hear_later(self, name: str, news: Announcement) -> None:
        self._engine.post(partial(self._hear, name, news))

    def _hear(self, name: str, news: Announcement) -> None:
        one = self._followed.get(name)
        if one is None or news.entry in one.entries:
            return
        one.entries[news.entry] = None
        if len(one.entries) > HEARD:
            one.entries.popitem(last=False)
        if one.news.pop(news.version_id, news).nonce != news.nonce:
            one.tries.pop(news.version_id, None)  # an operator asks again
        one.news[news.version_id] = news
        while len(one.news) > KNOWN:
            version, _old = one.news.popitem(last=False)
            one.tries.pop(version, None)
        log.debug("announced", credential=name, version_id=news.version_id, by=news.by)
        self._changed(name)
        self._plan(name, one, self._chance() * float(self._settings.announce_jitter if self._settings else 0.0))

    def _plan(self, name: str, one: _Followed, in_s: float) -> None:
        """Plan the refresh that the newest announcement asks for, unless there is one, or nothing to ask for."""
        if one.is_due or self._wanted(name, one) is None:
            return
        one.is_due = True
        rest_s = one.asked_at + PAUSE_S - self._engine.clock.boottime()
        self._engine.after(max(in_s, rest_s), partial(self._ask, name))

    def _wanted(self, name: str, one: _Followed) -> Announcement | None:
        """Return the newest announcement, where this host is not where it asks it to be, and may still try."""
        held, news = self._engine.version_held(name), next(reversed(one.news.values()), None)
        if held is None or news is None or one.tries.get(news.version_id, 0) >= TRIES:
            return None
        if news.deadline < self._engine.clock.now().timestamp() and one.tries.get(news.version_id, 0):
            return None
        there = held.version_id == news.version_id and held.value is not None and not held.behind
        return None if there or held.is_held else news

    def _ask(self, name: str) -> None:
        one = self._followed.get(name)
        if one is None:
            return
        one.is_due = False
        news = self._wanted(name, one)
        held = self._engine.version_held(name)
        if news is None or held is None:
            return
        one.asked_at = self._engine.clock.boottime()
        one.tries[news.version_id] = one.tries.get(news.version_id, 0) + 1
        behind = held.behind if news.why is Why.EMERGENCY else ()
        first = () if held.version_id == news.version_id and held.value is not None else (name,)
        for each in (*first, *behind):
            future = self._engine.refresh(each, Cause(Trigger.FLEET))
            future.add_done_callback(partial(self._asked, name))

    def _asked(self, name: str, _report: Future[Report]) -> None:
        """Say how it stands now, and try again later where the source did not have the version yet."""
        self._engine.post(partial(self._look_again, name))

    def _look_again(self, name: str) -> None:
        one = self._followed.get(name)
        if one is None:
            return
        self._changed(name)
        news = next(reversed(one.news.values()), None)
        tries = one.tries.get(news.version_id, 0) if news is not None else 0
        self._plan(name, one, PAUSE_S * 2 ** max(0, tries - 1))

    # -- another machine by this name -----------------------------------------------------------------

    def _seen_later(self, states: Mapping[str, HostState | None]) -> None:
        self._engine.post(partial(self._seen, states))

    def _seen(self, states: Mapping[str, HostState | None]) -> None:
        if any(state is not None and state.machine != self._machine for state in states.values()):
            now = self._engine.clock.boottime()
            if now >= self._twins_until:
                log.error(
                    "another machine goes by this host's name in the fleet, so no emergency can tell the two apart; "
                    "give one of them another `[fleet] host`",
                    host=self.host,
                )
            self._twins_until = now + TWINS_S
            self._engine.after(TWINS_S, self._say_of_twins)
            self._say_of_twins()

    def _say_of_twins(self) -> None:
        for name in self._followed:
            self._changed(name)


def _turn_once_more() -> None:
    """Do nothing: whoever looks at the end of the turn that this begins sees what time has changed."""


def shared_credentials(settings: Settings) -> Collection[str]:
    """Return the credentials whose values other hosts may have as well: those that are a secret's value."""
    return [name for name, one in settings.credentials.items() if any(one.provider.own_secrets())]


def machine_id(state_directory: Path) -> str:
    """Return what tells this machine and agent from others: a hash of the machine's fingerprint and of where the state is.

    Clones of one machine that kept its id and its name are told apart no more.
    """
    return hashlib.sha256(f"keyturn fleet {machine()} {state_directory}".encode()).hexdigest()[:16]
