"""How many hosts of a fleet are live, behind and absent, for metrics: read seldom, since each reading is of all hosts.

The pause grows with the number of hosts, so that all of them together read no more than three or four times a second, however
many there are. Only the host that announced a version looks more often, until all have it: so it knows how long that took.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from agent.fleet.board import Board, Host
from agent.fleet.convergence import is_current, newest_version
from agent.fleet.entries import Announcement

PAUSE_S, PAUSE_PER_HOST_S = 30.0, 0.3
WATCH_S, WATCH_PER_HOST_S = 0.5, 0.005
"""The pause of the host that announced."""
FIRST_S = 10.0
"""Seconds after a connection within which the first reading comes."""
FRESH_S = 5.0
"""An announcement that is older when it is seen first was seen before a restart: how long it took is not known then."""
WAITED_S = 900.0
"""Seconds after which an announcement is watched no more."""


@dataclass(frozen=True, slots=True)
class Count:
    """The hosts of one credential: live and on the newest version, live and behind, and absent."""

    live: int
    behind: int
    absent: int


def count(hosts: Iterable[Host], news: Collection[Announcement]) -> Count:
    """Return how many hosts are live, behind and absent.

    Args:
        hosts: every host, this one included.
        news: announcements of the credential, the older ones first.
    """
    hosts = list(hosts)
    newest = newest_version(hosts, news)
    found = Counter("absent" if not one.is_live else "live" if is_current(one, newest) else "behind" for one in hosts)
    return Count(found["live"], found["behind"], found["absent"])


class Census:
    """The counting of one host. Belongs to one thread of the link; what it found is a new mapping each time."""

    def __init__(self, host: str, boottime: Callable[[], float]) -> None:
        """Count nothing yet.

        Args:
            host: this host's name.
            boottime: the clock.
        """
        self._host, self._boottime = host, boottime
        self._next_at = boottime() + random.uniform(0.0, FIRST_S)
        self._watched: dict[str, Announcement] = {}
        self._known: dict[str, str] = {}
        self.counts: Mapping[str, Count] = {}
        self.converged_s: Mapping[str, float] = {}

    @property
    def next_at(self) -> float:
        """When it is to be counted, by boottime."""
        return self._next_at

    def hurry(self) -> None:
        """Count at once: something was announced."""
        self._next_at = self._boottime()

    def again(self) -> None:
        """Begin anew at another connection: what was counted is old."""
        self.counts = {}
        self._next_at = self._boottime() + random.uniform(0.0, FIRST_S)

    def take(self, board: Board, names: Sequence[str], recent: int) -> None:
        """Count the hosts of these credentials.

        Args:
            board: the connection.
            names: of the credentials.
            recent: how many announcements of each are read.

        Raises:
            FleetError, FleetRefusedError: the board cannot be had.
        """
        counts: dict[str, Count] = {}
        news = board.recent(names, recent)
        at = board.now()
        most = 0
        for name in names:
            hosts, said = board.hosts(name), [one for _entry, one in news[name] if one is not None]
            counts[name], most = count(hosts, said), max(most, len(hosts))
            self._watch(name, said, at)
            self._look(name, hosts, at)
        self.counts = counts
        pause_s = max(PAUSE_S, PAUSE_PER_HOST_S * most)
        if self._watched:
            pause_s = max(WATCH_S, WATCH_PER_HOST_S * most)
        self._next_at = self._boottime() + pause_s * random.uniform(0.9, 1.1)

    def _watch(self, name: str, said: Collection[Announcement], at: float) -> None:
        """Begin to watch for the newest announcement of this host, where it was made a moment ago."""
        mine = [one for one in said if one.by == self._host]
        if not mine or self._known.get(name) == mine[-1].entry:
            return
        self._known[name] = mine[-1].entry
        if at - _made_at(mine[-1]) < FRESH_S:
            self._watched[name] = mine[-1]

    def _look(self, name: str, hosts: Collection[Host], at: float) -> None:
        news = self._watched.get(name)
        if news is None:
            return
        passed_s = at - _made_at(news)
        if all(is_current(one, news.version_id) for one in hosts if one.is_live):
            self.converged_s = {**self.converged_s, name: max(0.0, passed_s)}
            del self._watched[name]
        elif passed_s > WAITED_S:
            self.converged_s = {other: took_s for other, took_s in self.converged_s.items() if other != name}
            del self._watched[name]


def _made_at(news: Announcement) -> float:
    """Return when an announcement was made, by the server's clock: its id begins with that, in milliseconds."""
    return int(news.entry.partition("-")[0]) / 1000
