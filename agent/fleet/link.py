"""The threads between a host and the board: one listens, one says how this host stands. Neither holds anybody up.

Each has a connection of its own and makes it again with back-off and full jitter, from 1 s to 60 s, for as long as it takes.
What is to be said is the newest state of each credential and the newest news; what could not be said is said after the next
connection, together with everything else, for a server may come back without its memory.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from agent.core.errors import KeyturnError
from agent.fleet.board import READ_AT_ONCE, Board
from agent.fleet.census import Census, Count
from agent.fleet.entries import Announcement, HostState
from agent.logs.log import log

LISTEN_S = 10.0
"""How long one reading waits; after it, it is looked for credentials that came or went."""
BEAT_S = 30.0
"""Seconds between two signs of life, a third of what makes a host absent."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
RECENT = 10
"""Announcements of each credential that a host reads up at a new connection."""
REST_S = 0.05
"""Seconds between two readings: a flood of announcements wakes a host up so often, and no more."""
FLOOD_S = 1.0
"""Seconds for which a host hears nothing after as many announcements as one reading takes; then, of each credential, the newest."""
NEWS_S = 900.0
"""Seconds for which a rotation that was seen, not asked for, is news: so long is it said again to a server that forgot it."""
SWEEP = 0.05
"""In how many of its signs of life a host also takes those off the board that are gone."""

OpenBoard = Callable[[float], Board]
"""Opens a connection whose answers may take so many seconds."""
Hear = Callable[[str, Announcement], None]
"""Is called, on a thread of the link, with a credential and its news."""
Seen = Callable[[Mapping[str, HostState | None]], None]
"""Is called, on a thread of the link, with what the board has as this host's states."""


@dataclass(frozen=True, slots=True)
class Health:
    """How the connections fare.

    Attributes:
        up_since: since when both are up, by boottime; None while one is down.
        down_since: since when one is down, which it is at the beginning; None while both are up.
        error: what was wrong last; "" for nothing.
    """

    up_since: float | None
    down_since: float | None
    error: str


class Link:
    """The connections of one host. Its methods are for the loop's thread and return at once."""

    def __init__(
        self,
        host: str,
        open_board: OpenBoard,
        hear: Hear,
        seen: Seen,
        boottime: Callable[[], float],
        turned: Callable[[], None] = lambda: None,
    ) -> None:
        """Keep what is needed; nothing is connected before `start`.

        Args:
            host: this host's name.
            open_board: opens a connection.
            hear: is called with each announcement, the older ones first; again with those that were heard before.
            seen: is called after each sign of life.
            boottime: the clock.
            turned: is called, on a thread of the link, when the connections came up or went down.
        """
        self._turned, self._down_since = turned, boottime()
        self._census, self._counts = Census(host, boottime), False
        self._host, self._open, self._hear, self._seen, self._boottime = host, open_board, hear, seen, boottime
        self._names: tuple[str, ...] = ()
        self._states: dict[str, HostState] = {}
        self._unsaid: set[str] = set()
        self._news: dict[str, Announcement] = {}  # to be announced
        self._told: dict[
            str, tuple[float, Announcement]
        ] = {}  # the newest that was said or heard, and until when it is news
        self._lock, self._wake, self._ending = threading.Lock(), threading.Event(), threading.Event()
        self._forgotten = threading.Event()
        self._up: dict[str, float] = {}
        self._error = ""

    @property
    def health(self) -> Health:
        """How the connections fare."""
        with self._lock:
            up_since = max(self._up.values()) if len(self._up) == 2 else None
            return Health(up_since, self._down_since if up_since is None else None, self._error)

    @property
    def counts(self) -> Mapping[str, Count]:
        """The hosts of each credential, as far as they were counted over this connection."""
        return self._census.counts if self.health.up_since is not None else {}

    @property
    def converged_s(self) -> Mapping[str, float]:
        """How long the newest announcement of this host took until every live host had it, by credential."""
        return self._census.converged_s

    def start(self) -> None:
        """Begin to connect."""
        for name, work in (("fleet-hear", self._listen), ("fleet-say", self._say)):
            threading.Thread(target=self._again_and_again, args=(name, work), name=name, daemon=True).start()

    def end(self) -> None:
        """Have the threads end; one that waits for an answer does so later, and nobody waits for it."""
        self._ending.set()
        self._wake.set()

    def follow(self, names: Collection[str], *, counts: bool = False) -> None:
        """Listen for these credentials from now on, and say no more of others.

        Args:
            names: of the credentials.
            counts: count their hosts as well, for metrics.
        """
        with self._lock:
            self._counts = counts
            self._names = tuple(names)
            self._states = {name: state for name, state in self._states.items() if name in names}
            self._news = {name: news for name, news in self._news.items() if name in names}
            self._told = {name: told for name, told in self._told.items() if name in names}

    def say(self, states: Mapping[str, HostState]) -> None:
        """Put these states on the board, soon."""
        with self._lock:
            self._states.update(states)
            self._unsaid.update(states)
        self._wake.set()

    def announce(self, credential: str, news: Announcement) -> None:
        """Put this on the board, soon, unless the board has news of that version by then."""
        with self._lock:
            self._news[credential] = news
        self._wake.set()

    # -- the threads --------------------------------------------------------------------------------

    def _again_and_again(self, name: str, work: Callable[[str], None]) -> None:
        pause_s = FIRST_PAUSE_S
        while not self._ending.is_set():
            began = self._boottime()
            try:
                work(name)
            except KeyturnError as error:
                self._down(name, str(error))
            except Exception:
                log.error("a fault of keyturn itself in its fleet; please report it", exc_info=True)
                self._down(name, "a fault of keyturn itself; see the log")
            if self._boottime() - began > LONGEST_PAUSE_S:
                pause_s = FIRST_PAUSE_S
            self._ending.wait(random.uniform(0.0, pause_s))
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _listen(self, name: str) -> None:
        """Hear what there is, then what comes, until the connection breaks or the link ends."""
        board = self._open(LISTEN_S)
        try:
            since: dict[str, str] = {}
            while not self._ending.is_set():
                names = self._names
                if not names:
                    self._ending.wait(1.0)
                    continue
                since = {one: since[one] for one in names if one in since}
                if fresh := [one for one in names if one not in since]:
                    since |= self._read_up(board, fresh)
                self._is_up(name)
                if self._forgotten.is_set():  # then the ids of entries may begin anew, below those that were heard
                    self._forgotten.clear()
                    since = {}
                    continue
                heard = board.hear(since, LISTEN_S)
                if len(heard) >= READ_AT_ONCE:
                    self._ending.wait(FLOOD_S)
                    since = {}
                    continue
                for credential, entry, news in heard:
                    since[credential] = entry
                    self._heard(credential, news)
                    if news is not None and news.by == self._host:
                        self._census.hurry()
                        self._wake.set()
                if heard:
                    self._ending.wait(REST_S)
        finally:
            board.close()

    def _read_up(self, board: Board, names: Sequence[str]) -> dict[str, str]:
        since = dict.fromkeys(names, "0-0")
        for credential, recent in board.recent(names, RECENT).items():
            for entry, news in recent:
                since[credential] = entry
                self._heard(credential, news)
        return since

    def _heard(self, credential: str, news: Announcement | None) -> None:
        if news is not None:
            with self._lock:
                self._told[credential] = self._boottime() + NEWS_S, news
            self._hear(credential, news)

    def _say(self, name: str) -> None:
        """Say everything, then what is new, and every so often that this host is there."""
        board = self._open(0.0)
        try:
            beat_at = 0.0
            self._census.again()
            self._say_all_again()
            while True:
                self._wake.clear()
                if self._ending.is_set():
                    return
                self._say_once(board)
                if self._boottime() >= beat_at:
                    self._beat(board)
                    beat_at = self._boottime() + BEAT_S * random.uniform(0.9, 1.1)
                self._is_up(name)
                self._count(board)
                due_at = min(beat_at, self._census.next_at) if self._counts else beat_at
                self._wake.wait(max(0.0, due_at - self._boottime()))
        finally:
            board.close()

    def _count(self, board: Board) -> None:
        if self._counts and self._names and self._boottime() >= self._census.next_at:
            self._census.take(board, self._names, RECENT)

    def _say_once(self, board: Board) -> None:
        with self._lock:
            unsaid, news = {name: self._states[name] for name in self._unsaid if name in self._states}, dict(self._news)
        if unsaid:
            board.post(self._host, unsaid)
        for credential, one in news.items():
            recent = board.recent([credential], RECENT).get(credential, [])
            if all(known is None or known.version_id != one.version_id for _entry, known in recent):
                board.announce(credential, one)
        with self._lock:
            self._told |= {name: (self._boottime() + NEWS_S, one) for name, one in news.items()}
            self._unsaid -= {name for name, state in unsaid.items() if self._states.get(name) == state}
            self._news = {name: one for name, one in self._news.items() if news.get(name) != one}

    def _beat(self, board: Board) -> None:
        with self._lock:
            mine = dict(self._states)
        found = board.beat(self._host, mine)
        self._seen(found)
        if any(state is None for state in found.values()):
            self._forgotten.set()
            self._say_all_again()
        elif any(state is not None and state.machine != mine[name].machine for name, state in found.items()):
            self._say_all_again()
        if random.random() < SWEEP:
            board.sweep(mine)

    def _say_all_again(self) -> None:
        """Say every state once more, and the news that this host has followed: the server may know none of it."""
        with self._lock:
            self._unsaid, now = set(self._states), self._boottime()
            for name, (until, news) in self._told.items():
                if until > now and name in self._states and self._states[name].version_id == news.version_id:
                    self._news.setdefault(name, news)
        self._wake.set()

    # -- how they fare ------------------------------------------------------------------------------

    def _is_up(self, name: str) -> None:
        with self._lock:
            if name in self._up:
                return
            self._up[name] = self._boottime()
            whole = len(self._up) == 2
            if whole:
                self._error = ""
        if whole:
            log.info("the fleet's board is there", host=self._host)
            self._turned()

    def _down(self, name: str, error: str) -> None:
        with self._lock:
            first = not self._error
            if len(self._up) == 2:
                self._down_since = self._boottime()
            self._up.pop(name, None)
            self._error = error
        if first and not self._ending.is_set():
            log.warning("the fleet's board is not there; everything else goes on as on one host", error=error)
            self._turned()
