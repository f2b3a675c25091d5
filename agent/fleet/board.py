"""The board: the keys of a fleet on Redis or Tair, and every command that is sent there. Why so: docs/adr/0024.

For each credential, below `keyturn:{FLEET}:CREDENTIAL:` (the braces are a hash tag, so that all of a fleet is in one slot of a
cluster):

* `announce`, a stream of about `KEPT` announcements, which a host that was away reads up;
* `state`, a hash of each host's state;
* `seen`, a sorted set of when each host was there last, by the server's clock: hosts whose clocks are wrong are no less alive;
* `kept`, a sorted set of two times: `from` when to `until` when the server has been heard from without a gap. A server that came
  back without its memory, or with an old one, knows few of the hosts; each is on it again within `LIVE_S`. So before `from` is
  as old as that, who is missing is not known to be gone (`kept_for_s`).

A host that was there in the last `LIVE_S` is live, one that was there in the last `ABSENT_S` is absent, and any other is
forgotten. Keys that nobody touches end after `KEEP_S`. Commands: XADD, XREAD, XREVRANGE, HSET, HGET, HGETALL, HLEN, HDEL,
ZADD, ZREVRANGEBYSCORE (ZRANGE has scores only from Redis 6.2 on, and Tair is at 6.0), ZREM, EXPIRE, TIME, and SELECT where the
database is not 0; EVAL, where the fleet has the lease of a RAM user (lease.py). docs/fleet.md has the ACL.
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
GAP_S = 60.0
"""Seconds without a sign of life of any host after which the server may have been away; each gives one in half of that."""
MAX_HOSTS = 5_000
"""More fit into no answer of the control socket, should a stranger make each as long as it may be."""
SWEPT_AT_ONCE = 1000
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

    def disconnect(self) -> None:
        """Connect anew for the next command: a server that became a replica, or whose answers are out of step, stays so."""
        self._client.connection_pool.disconnect()

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
        names = list(credentials)
        at, froms = self._keep(names)
        pipe = self._client.pipeline(transaction=False)
        for name in names:
            pipe.hget(self.key(name, "state"), host)
        for name in names:
            pipe.zadd(self.key(name, "seen"), {host: at})
            pipe.zadd(self.key(name, "kept"), _kept(froms[name], at))
            for what in ("state", "seen", "kept"):
                pipe.expire(self.key(name, what), KEEP_S)
        answers = pipe.execute()[: len(names)]
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
            raise _crowded(state)
        said = dict(filter(None, (host_state(host, value) for host, value in self._client.hgetall(state).items())))
        at = self._client.zrevrangebyscore(seen, "+inf", now - ABSENT_S, withscores=True, start=0, num=MAX_HOSTS + 1)
        if len(at) > MAX_HOSTS:
            raise _crowded(seen)
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

    def missing_rights(self, *, has_leases: bool = False) -> dict[str, str]:
        """Return the commands that the server refuses to this host's user, each with its words; writes nothing."""
        return missing_rights(self._client, self.key("", "probe"), has_leases=has_leases)

    @translated
    def kept_for_s(self, credential: str) -> float:
        """Say that the server is heard from; return for how many seconds it has been, without a gap, by it itself."""
        at, froms = self._keep([credential])
        key = self.key(credential, "kept")
        pipe = self._client.pipeline(transaction=False)
        pipe.zadd(key, _kept(froms[credential], at))
        pipe.expire(key, KEEP_S)
        pipe.execute()
        return at - froms[credential]

    def _keep(self, names: Sequence[str]) -> tuple[float, dict[str, float]]:
        """Return the server's time, and since when it has been heard from without a gap: now, where there was one.

        A clock that stepped looks like a gap, and is one: the times of all hosts are wrong then.
        """
        pipe = self._client.pipeline(transaction=False)
        pipe.time()
        for name in names:
            pipe.zrevrangebyscore(self.key(name, "kept"), "+inf", "-inf", withscores=True, start=0, num=10)
        (seconds, microseconds), *answers = pipe.execute()
        at, froms = float(seconds) + float(microseconds) / 1e6, {}
        for name, pairs in zip(names, answers, strict=True):
            known = dict(pairs)
            begun, until = known.get(b"from", at), known.get(b"until", at)
            froms[name] = begun if abs(at - until) <= GAP_S and begun <= at else at
        return at, froms

    @translated
    def run(self, script: str, key: str, arguments: Sequence[str]) -> Any:
        """Run a script over one key; return its answer."""
        return self._client.eval(script, 1, key, *arguments)

    @translated
    def sweep(self, credentials: Iterable[str]) -> None:
        """Take hosts off the board that were last there longer ago than `ABSENT_S`: where VMs come and go, thousands."""
        before = self.now() - ABSENT_S
        for name in credentials:
            state, seen = self.key(name, "state"), self.key(name, "seen")
            gone = self._client.zrevrangebyscore(seen, before, "-inf", start=0, num=SWEPT_AT_ONCE)
            if gone:
                self._client.hdel(state, *gone)
                self._client.zrem(seen, *gone)

    @translated
    def now(self) -> float:
        """Return the server's unix time."""
        seconds, microseconds = self._client.time()
        return float(seconds) + float(microseconds) / 1e6


def _kept(begun: float, at: float) -> dict[str, float]:
    """Return the times to write down: the first one only where it begins now, since others write them too."""
    return {"from": at, "until": at} if begun == at else {"until": at}


def _crowded(key: str) -> FleetError:
    return FleetError(
        f"fleet: {key} has more than {MAX_HOSTS} hosts",
        "find out who writes there (docs/fleet.md), then delete that key",
    )
