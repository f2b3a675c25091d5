"""Everything that is shown, copied on the loop's thread, and how other threads get at it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FuturesTimeoutError
from dataclasses import dataclass, field
from datetime import datetime

from agent.core.alarms import Kind
from agent.core.config_in_force import ConfigInForce
from agent.engine.engine import Engine
from agent.engine.snapshot import CredentialSnapshot
from agent.logs.log import log
from agent.logs.seldom import Seldom
from agent.metrics.counters import NOTIFICATIONS, REFRESHES, Counters, Durations

ClientsOf = Callable[[str, int], tuple[int, int]]
"""Returns, for a credential and its newest generation, how many processes fetched it, and how many may still use an older one."""


Canary = Mapping[str, int]
"""How many looks of a credential's canary ended how."""
CanaryOf = Callable[[str], Canary | None]
"""Returns that for a credential; None where it has no canary."""


@dataclass(frozen=True, slots=True)
class FleetFigures:
    """What is known of the fleet.

    Attributes:
        is_connected: whether its board is there.
        hosts: how many are "live", "behind" and "absent", by credential; none while they were not counted.
        converged_s: seconds from this host's last announcement of a credential until every live host had it.
        rotates: whether this host rotates the keys of a credential's RAM user.
    """

    is_connected: bool
    hosts: Mapping[str, Mapping[str, int]]
    converged_s: Mapping[str, float]
    rotates: Mapping[str, bool] = field(default_factory=dict)


FleetOf = Callable[[], FleetFigures | None]
"""Returns that; None where the config has no fleet."""


def no_fleet() -> None:
    """Return that there is no fleet."""


def no_canary(_credential: str) -> None:
    """Return that there is no canary."""


def no_clients(_credential: str, _generation: int) -> tuple[int, int]:
    """Return that nobody fetched anything."""
    return 0, 0


@dataclass(frozen=True, slots=True)
class Row:
    """One credential; instants are seconds since 1970, UTC. `clients`: processes on the newest generation, and on older ones."""

    name: str
    state: str
    generation: int
    expires_at: float | None
    last_success_at: float | None
    owed: int
    refreshes: tuple[tuple[str, int], ...]
    notifications: tuple[tuple[str, str, int], ...]
    published: tuple[int, ...]
    published_sum_s: float
    clients: tuple[int, int] = (0, 0)
    canary: Canary | None = None
    key_made_at: float | None = None
    is_restricted: bool = False
    is_too_old: bool = False


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The figures of all credentials at one moment.

    Attributes:
        taken_at: seconds since 1970, UTC.
        passed: whether the first pass over all credentials has ended.
        awaited: the credentials that it still waits for.
        config_loaded_at: when the config in force was read, in seconds since 1970.
        config_refused: whether one was refused since.
        client_keys: the id of each ClientKey, and when it ends, in seconds since 1970.
        fleet: what is known of it; None where there is none.
    """

    taken_at: float
    passed: bool
    awaited: tuple[str, ...]
    rows: tuple[Row, ...]
    config_loaded_at: float = 0.0
    config_refused: bool = False
    client_keys: tuple[tuple[str, float], ...] = ()
    fleet: FleetFigures | None = None


def take(
    engine: Engine,
    counters: Counters,
    in_force: ConfigInForce,
    clients_of: ClientsOf = no_clients,
    canary_of: CanaryOf = no_canary,
    fleet_of: FleetOf = no_fleet,
) -> Snapshot:
    """Return a copy of what there is to see. On the loop's thread, or when the loop has ended."""
    seen = engine.snapshot()
    return Snapshot(
        taken_at=seen.taken_at.timestamp(),
        passed=seen.passed,
        awaited=seen.awaited,
        rows=tuple(
            _row(one, counters, clients_of(one.name, one.published.generation), canary_of(one.name))
            for one in seen.credentials
        ),
        config_loaded_at=in_force.loaded_at.timestamp(),
        config_refused=in_force.refused_at is not None,
        client_keys=tuple((one.key_id, one.expires_at.timestamp()) for one in seen.client_keys),
        fleet=fleet_of(),
    )


def _row(one: CredentialSnapshot, counters: Counters, clients: tuple[int, int], canary: Canary | None) -> Row:
    types = dict.fromkeys(who.type_name for who in one.dependents)
    durations = counters.durations.get(one.name) or Durations()
    return Row(
        name=one.name,
        state=str(one.condition),
        generation=one.published.generation,
        expires_at=_seconds(one.published.expiration),
        last_success_at=_seconds(one.last_success_at),
        owed=one.debts,
        refreshes=tuple((outcome, counters.refreshes[one.name, outcome]) for outcome in REFRESHES),
        notifications=tuple(
            (kind, outcome, counters.notifications[one.name, kind, outcome])
            for kind in types
            for outcome in NOTIFICATIONS
        ),
        published=durations.cumulative(),
        published_sum_s=durations.sum_s,
        clients=clients,
        canary=canary,
        key_made_at=_seconds(one.key_made_at),
        is_restricted=any(each.kind is Kind.RESTRICTED for each in one.key_alarms),
        is_too_old=any(each.kind is Kind.TOO_OLD for each in one.key_alarms),
    )


def _seconds(moment: datetime | None) -> float | None:
    return moment.timestamp() if moment is not None else None


class SnapshotReader:
    """The way in which other threads look at the engine. One question is under way at a time; whoever comes meanwhile joins it."""

    def __init__(
        self,
        engine: Engine,
        counters: Counters,
        in_force: ConfigInForce,
        clients_of: ClientsOf = no_clients,
        canary_of: CanaryOf = no_canary,
        fleet_of: FleetOf = no_fleet,
    ) -> None:
        self._engine, self._shown = engine, (counters, in_force, clients_of, canary_of, fleet_of)
        self._lock = threading.Lock()
        self._faults = Seldom()
        self._asked: Future[Snapshot] | None = None
        self._last: Snapshot | None = None

    @property
    def last(self) -> Snapshot | None:
        """The newest answer, however old."""
        return self._last

    def look(self, patience_s: float) -> Snapshot | None:
        """Ask the engine; return None where its scheduler does not move within `patience_s` seconds."""
        with self._lock:
            if self._asked is None or self._asked.done():
                self._asked = self._engine.ask(self._taken)
            asked = self._asked
        try:
            return asked.result(patience_s)
        except FuturesTimeoutError:
            return None
        except Exception:
            if (left_out := self._faults.due()) is not None:
                log.error("a fault of keyturn itself; please report it", exc_info=True, **left_out)
            return None

    def _taken(self) -> Snapshot:
        self._last = take(self._engine, *self._shown)
        return self._last
