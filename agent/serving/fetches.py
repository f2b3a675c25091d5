"""Who fetched which generation: the evidence that a running process has moved, or has not.

Decisions:
* What is remembered is the process that keeps an answer (agent/serving/peer.py), by pid and start time, so that a recycled
  pid is another one. It is forgotten with the process, or when the expiry has passed that it was told last.
* A process may hold several clients, each with its own answer. One that fetched the new generation may still sign with the
  old one through another client, until that one is due to ask again: so the older answer counts until then.
* A process that has not come back counts until the expiry that it was told, which every client honours, whatever its window.
* It is kept in memory: whoever fetched before the daemon was started is not known, and asks again within the next minutes.
* It is bounded. What does not fit is remembered without names, by the latest expiry that was told.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from agent.serving.peer import Peer
from agent.system import procfs

MAX_CLIENTS = 4096
"""Processes that are remembered, of all credentials together."""
GRACE = timedelta(seconds=1)
"""What a request may take that was signed just before its client asked again."""
PRUNED_EVERY = timedelta(seconds=1)
"""The pause between two looks for a free place in a full record: one look reads the /proc entry of every process in it."""

Key = tuple[int, int | None, float, str]


@dataclass(frozen=True, slots=True)
class Fetch:
    """One process, and what it holds.

    Attributes:
        peer: who.
        generation: the newest that it fetched.
        fetched_at: when it did last.
        until: the expiry that it was told last.
    """

    peer: Peer
    generation: int
    fetched_at: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class Laggard:
    """A process that may still sign with an older generation.

    Attributes:
        peer: who; None for those that did not fit into the record.
        generation: the older one.
        until: when it does not any more, at the latest.
        hold: how long it keeps an answer while it is in use.
    """

    peer: Peer | None
    generation: int
    until: datetime
    hold: timedelta

    @property
    def who(self) -> str:
        """Its name, for people."""
        return str(self.peer) if self.peer is not None else "others, too many to name"


@dataclass(slots=True)
class _Answer:
    due: datetime  # when its client asks again, if it is in use
    until: datetime  # the expiry that it named
    hold: timedelta  # how long a client in use keeps it


@dataclass(slots=True)
class _Client:
    peer: Peer
    fetched_at: datetime
    answers: dict[int, _Answer] = field(default_factory=dict)  # by generation


def starts_at(pid: int) -> float | None:
    """Return when a process started, in seconds since boot; None where it is gone."""
    try:
        found = procfs.read_stat(pid)
    except OSError:
        return None
    return None if found.dead else found.started_boot_s


class FetchRecord:
    """The record of one agent, in memory only. Used by several threads."""

    def __init__(self, started: Callable[[int], float | None] = starts_at, limit: int = MAX_CLIENTS) -> None:
        """Begin with nobody.

        Args:
            started: returns when a process started; None where it is gone.
            limit: of processes.
        """
        self._lock = threading.Lock()
        self._started, self._limit = started, limit
        self._clients: dict[str, dict[Key, _Client]] = {}
        self._pruned_at: datetime | None = None
        self._unnamed: dict[str, dict[int, _Answer]] = {}

    def note(self, credential: str, generation: int, peer: Peer, now: datetime, due: datetime, until: datetime) -> bool:
        """Take note of an answer; return whether its process moved on from an older generation by it.

        Args:
            credential: the name.
            generation: that was handed out.
            peer: who got it.
            now: the time.
            due: when a client in use asks again.
            until: the expiry that it was told.
        """
        began = self._started(peer.pid) if peer.pid is not None else 0.0
        if began is None:
            return False  # gone already
        key = (peer.uid, peer.pid, began, "" if peer.pid is not None else peer.unit)
        with self._lock:
            clients = self._clients.setdefault(credential, {})
            client = clients.get(key)
            if client is None:
                if not self._has_room(now):
                    _extend(self._unnamed.setdefault(credential, {}), generation, _Answer(due, until, due - now))
                    return False
                client = self._clients.setdefault(credential, {})[key] = _Client(peer, now)
            moved = bool(client.answers) and max(client.answers) < generation
            client.peer, client.fetched_at = peer, now
            _forget(client.answers, now)
            _extend(client.answers, generation, _Answer(due, until, due - now))
            return moved

    def _has_room(self, now: datetime) -> bool:
        if sum(map(len, self._clients.values())) < self._limit:
            return True
        if self._pruned_at is not None and abs(now - self._pruned_at) < PRUNED_EVERY:
            return False
        self._pruned_at = now
        for name in self._clients:
            self._prune(now, name)
        return sum(map(len, self._clients.values())) < self._limit

    def drop(self, credential: str) -> None:
        """Forget a credential that left the config."""
        with self._lock:
            self._clients.pop(credential, None)
            self._unnamed.pop(credential, None)

    def clients(self, credential: str, now: datetime) -> tuple[Fetch, ...]:
        """Return who holds an answer that has not expired."""
        with self._lock:
            self._prune(now, credential)
            return tuple(
                Fetch(one.peer, max(one.answers), one.fetched_at, max(held.until for held in one.answers.values()))
                for one in self._clients.get(credential, {}).values()
            )

    def laggards(self, credential: str, generation: int, now: datetime) -> tuple[Laggard, ...]:
        """Return who may still sign with a generation before this one, the longest first."""
        with self._lock:
            # Whether a process lives is asked only of those that count: of thousands, most have moved.
            found = [
                Laggard(one.peer, older, until, one.answers[older].hold)
                for key, one in self._clients.get(credential, {}).items()
                if (held := list(_held(one.answers, generation, now))) and self._lives(key)
                for older, until in held
            ]
            unnamed = self._unnamed.get(credential, {}).items()
            found += [
                Laggard(None, older, one.until, one.hold)
                for older, one in unnamed
                if older < generation and one.until > now
            ]
        return tuple(sorted(found, key=lambda one: one.until, reverse=True))

    def _prune(self, now: datetime, credential: str) -> None:
        """Forget processes that are gone, and answers that have expired."""
        clients = self._clients.get(credential, {})
        for key, client in list(clients.items()):
            _forget(client.answers, now)
            if not client.answers or not self._lives(key):
                del clients[key]
        _forget(self._unnamed.get(credential, {}), now)

    def _lives(self, key: Key) -> bool:
        _uid, pid, began, _unit = key
        return pid is None or self._started(pid) == began


def _extend(answers: dict[int, _Answer], generation: int, new: _Answer) -> None:
    """Add an answer to those of its generation: of several clients the latest counts."""
    held = answers.setdefault(generation, new)
    held.due, held.until, held.hold = max(held.due, new.due), max(held.until, new.until), max(held.hold, new.hold)


def _forget(answers: dict[int, _Answer], now: datetime) -> None:
    """Forget what has expired, but for the newest answer while an older one lives: it says that the process came back.

    It may expire first: an emergency shortens the answers from its beginning on.
    """
    living = {generation for generation, held in answers.items() if held.until > now}
    kept = living | {max(answers)} if living else living
    for generation in answers.keys() - kept:
        del answers[generation]


def _held(answers: dict[int, _Answer], generation: int, now: datetime) -> Iterator[tuple[int, datetime]]:
    """Yield each generation before this one that a process may still use, and until when at the latest."""
    came_back = max(answers) >= generation
    for older, held in answers.items():
        until = min(held.until, held.due + GRACE) if came_back else held.until
        if older < generation and until > now:
            yield older, until
