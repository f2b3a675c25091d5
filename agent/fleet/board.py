"""The board: the keys of a fleet on Redis or Tair, and every command that is sent there. Why so: docs/adr/0024.

For each credential, below `keyturn:{FLEET}:CREDENTIAL:` (the braces are a hash tag, so that all of a fleet is in one slot of a
cluster):

* `announce`, a stream of about `KEPT` announcements, which a host that was away reads up;
* `state`, a hash of each host's state;
* `seen`, a sorted set of when each host was there last, by the server's clock: hosts whose clocks are wrong are no less alive.

A host that was there in the last `LIVE_S` is live, one that was there in the last `ABSENT_S` is absent, and any other is
forgotten. Keys that nobody touches end after `KEEP_S`. Commands: XADD, XREAD, XREVRANGE, HSET, HGET, HGETALL, HLEN, HDEL,
ZADD, ZRANGE, ZREM, EXPIRE, TIME, and SELECT where the database is not 0 (docs/fleet.md has the ACL).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis import Redis

from agent.fleet.entries import Announcement, HostState, announcement, host_name, host_state
from agent.fleet.errors import FleetError, translated
from agent.fleet.rights import missing_rights

LIVE_S = 90.0
ABSENT_S = 24 * 3600.0
KEEP_S = 30 * 24 * 3600
KEPT = 1000
MAX_HOSTS = 5_000
"""More fit into no answer of the control socket, should a stranger make each as long as it may be."""
READ_AT_ONCE = 100
"""Announcements of one credential that one reading takes."""


@dataclass(frozen=True, slots=True)
class Host:
    """One host of a credential.

    Attributes:
        state: what it says; None where it says nothing that can be understood.
        age_s: seconds since it was there.
    """

    name: str
    state: HostState | None
    age_s: float

    @property
    def is_live(self) -> bool:
        """Whether it was there a moment ago."""
        return self.age_s < LIVE_S


class Board:
    """One connection's view of the board. Each method raises `FleetError` where the server does not do it."""

    def __init__(self, client: Redis, fleet: str) -> None:
        """Keep them; nothing is sent yet."""
        self._client: Any = client  # redis-py's own annotations mix its synchronous answers with awaitable ones
        self._prefix = f"keyturn:{{{fleet}}}:"

    def key(self, credential: str, what: str) -> str:
        """Return the name of a key: `what` is announce, state or seen."""
        return f"{self._prefix}{credential}:{what}"

    def close(self) -> None:
        """Give the connection back."""
        self._client.close()

    # -- announcements ------------------------------------------------------------------------------

    @translated
    def announce(self, credential: str, news: Announcement) -> str:
        """Put an announcement on the board; return its id."""
        key = self.key(credential, "announce")
        entry: bytes = self._client.xadd(key, news.fields(), maxlen=KEPT, approximate=True)
        self._client.expire(key, KEEP_S)
        return entry.decode()

    @translated
    def recent(self, credentials: Sequence[str], count: int) -> dict[str, list[tuple[str, Announcement | None]]]:
        """Return the newest entries of each credential's announcements, the older ones first: id, and what it says."""
        pipe = self._client.pipeline(transaction=False)
        for name in credentials:
            pipe.xrevrange(self.key(name, "announce"), count=count)
        return {
            name: [(entry.decode(), announcement(entry, fields)) for entry, fields in reversed(entries)]
            for name, entries in zip(credentials, pipe.execute(), strict=True)
        }

    @translated
    def since(self, credential: str, entry: str, count: int) -> list[Announcement]:
        """Return the announcements from an entry on, itself included, the newest `count` of them."""
        found = self._client.xrevrange(self.key(credential, "announce"), min=entry, count=count)
        return [news for each, fields in found if (news := announcement(each, fields)) is not None]

    @translated
    def hear(self, since: Mapping[str, str], wait_s: float) -> list[tuple[str, str, Announcement | None]]:
        """Wait for announcements.

        Args:
            since: of each credential, the id of the newest entry that was heard.
            wait_s: how long to wait for the first one.

        Returns:
            credential, id, and what the entry says, None where that is no announcement; none where nothing came.
        """
        names = {self.key(name, "announce").encode(): name for name in since}
        streams = {key.decode(): since[name] for key, name in names.items()}
        heard = self._client.xread(streams, count=READ_AT_ONCE, block=max(1, int(wait_s * 1000))) or []
        return [
            (names[key], entry.decode(), announcement(entry, fields))
            for key, entries in heard
            for entry, fields in entries
        ]

    # -- hosts --------------------------------------------------------------------------------------

    @translated
    def post(self, host: str, states: Mapping[str, HostState]) -> None:
        """Put the states of a host on the board: it is there."""
        at = self.now()
        pipe = self._client.pipeline(transaction=False)
        for name, state in states.items():
            pipe.hset(self.key(name, "state"), host, state.encoded())
            pipe.zadd(self.key(name, "seen"), {host: at})
            pipe.expire(self.key(name, "state"), KEEP_S)
            pipe.expire(self.key(name, "seen"), KEEP_S)
        pipe.execute()

    @translated
    def beat(self, host: str, credentials: Iterable[str]) -> dict[str, HostState | None]:
        """Say that a host is there; return what the board has as its state, for it may be another's, or lost."""
        at, names = self.now(), list(credentials)
        pipe = self._client.pipeline(transaction=False)
        for name in names:
            pipe.zadd(self.key(name, "seen"), {host: at})
            pipe.hget(self.key(name, "state"), host)
        answers = pipe.execute()[1::2]
        found = {}
        for name, value in zip(names, answers, strict=True):
            said = host_state(host.encode(), value) if value is not None else None
            found[name] = said[1] if said is not None else None
        return found

    @translated
    def hosts(self, credential: str) -> list[Host]:
        """Return every host that was there within `ABSENT_S`, by name.

        Raises:
            FleetError: also for more than `MAX_HOSTS` of them, which no fleet has and no memory need hold.
        """
        state, seen = self.key(credential, "state"), self.key(credential, "seen")
        now = self.now()
        if self._client.hlen(state) > MAX_HOSTS:
            raise FleetError(
                f"fleet: {state} has more than {MAX_HOSTS} hosts",
                "find out who writes there (docs/fleet.md), then delete that key",
            )
        said = dict(filter(None, (host_state(host, value) for host, value in self._client.hgetall(state).items())))
        at = self._client.zrange(seen, now - ABSENT_S, "+inf", byscore=True, withscores=True, offset=0, num=MAX_HOSTS)
        ages = {name: max(0.0, now - score) for host, score in at if (name := host_name(host)) is not None}
        return [Host(name, said.get(name), ages[name]) for name in sorted(ages)]

    @translated
    def forget(self, host: str, credentials: Sequence[str]) -> int:
        """Take a host off the board; return of how many credentials it was on it."""
        pipe = self._client.pipeline(transaction=False)
        for name in credentials:
            pipe.zrem(self.key(name, "seen"), host)
            pipe.hdel(self.key(name, "state"), host)
        return sum(bool(answer) for answer in pipe.execute()[::2])

    def missing_rights(self) -> dict[str, str]:
        """Return the commands that the server refuses to this host's user, each with its words; writes nothing."""
        return missing_rights(self._client, self.key("", "probe"))

    @translated
    def now(self) -> float:
        """Return the server's unix time."""
        seconds, microseconds = self._client.time()
        return float(seconds) + float(microseconds) / 1e6
